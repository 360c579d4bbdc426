"""A model whose FC layers take their weights as inputs: one onnxruntime session judges every choice.

Owns that graph, and how many inferences it runs at once. Rewriting a model and loading it again takes longer than
running it, and most files hold a batch of one: so the weights are fed, and inferences run side by side where that is
shown to change nothing. A tensor train is fed as the matrix that it stands for. That is the same function up to the
rounding of sums; what ships is judged in its own form (`pipeline.evaluation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import LrfDseError, ModelError
from lrf_dse.models.constants import resolve, static_shape
from lrf_dse.models.evaluate import run_slice, session_of
from lrf_dse.models.memo import Memo
from lrf_dse.models.model import Model
from lrf_dse.models.rewrite import KEPT, Replacement
from lrf_dse.models.segments import KnownStates, Segments, segments_of
from lrf_dse.models.site import Array, FcUse, bias_input
from lrf_dse.models.surgery import drop_if_unused, fresh, names_in
from lrf_dse.tt.contraction import to_matrix

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    import onnxruntime

WIDTH = 128
"""Inferences that run at once where the model allows it, at most."""

WIDE_BYTES = 64 << 20
"""The largest value of those inferences: an image of 224 x 224 and 64 channels takes 13 MB, so that five run at once.
More than one value is in memory at a time, and beyond the caches more inferences gain nothing."""

MEMO_BYTES = 512 << 20
"""What the layers of the unchanged model read is kept up to this size: every correction compares with it."""

AGREES = 1e-4
"""How far inferences side by side may lie from those one by one, over the largest value: sums round otherwise."""

FLOAT_BYTES = 4

Values = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Fed:
    """The inputs of the graph that one use of a layer reads its matrix and its bias from, and their own values."""

    layer: str
    use: FcUse
    weight: str
    bias: str | None
    own_bias: NDArray[Any] | None
    bias_is_column: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs of the graph."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def feed(self, model: Model, replacement: Replacement) -> dict[str, Array]:
        """The layer's matrix and bias with a replacement, by the names of the inputs that take them."""
        fed = {self.weight: self.use.stored(_matrix(model, self.layer, replacement))}
        if self.bias is not None and self.own_bias is not None:
            shift = 0.0 if replacement.bias_shift is None else replacement.bias_shift
            shift = np.reshape(shift, (-1, 1)) if self.bias_is_column else shift
            fed[self.bias] = np.asarray(self.own_bias + shift, np.float32)
        return fed


@dataclass(frozen=True, eq=False)
class _Way:
    """How the model is run: its session, the inferences at once, and the same in parts, where it can be cut."""

    session: onnxruntime.InferenceSession
    width: int
    segments: Segments | None = None


class FedModel:
    """`model` with fed weights, and samples `inputs` (axis 0 is the sample) that show how it may be run.

    Raises ModelError where onnxruntime refuses the model.
    """

    def __init__(self, model: Model, inputs: Values) -> None:
        self.model, self.inputs = model, inputs
        self.chosen = np.arange(len(next(iter(inputs.values()))))
        self._thinned: dict[int, FedModel] = {1: self}
        self._known = KnownStates()
        self._before: Memo[tuple[str, ...], list[tuple[int, dict[str, NDArray[Any]]]]] = Memo(MEMO_BYTES, _bytes_of)
        proto, self._fed = _with_fed_weights(model)
        self._sources = [str(fed.use.x.name) for fed in self._fed if fed.use.x.name not in inputs]
        self._outputs = [output.name for output in proto.graph.output]
        self._proto = _exposing(proto, self._sources)
        self._most = _width_of(model)
        self._samples = {name: array[: self._most * (model.batch or 1)] for name, array in inputs.items()}

    @cached_property
    def _ready(self) -> _Way:
        """How the model is run."""
        one = _Way(self._session(self._proto), 1)
        width = self._most
        if self.model.batch is None or width == 1:
            return one
        try:
            proto = _widened(self._proto, self.model, width)
            many = _Way(self._session(proto), width, segments_of(proto, self._sources, self._session))
            wanted = self._everything(one)
            # Three ways must agree before the fast one counts: one by one, side by side, and side by side in parts.
            both = [self._everything(many), self._everything(replace(many, segments=None))]
        except LrfDseError:  # the graph holds a size that depends on the batch
            return one
        return many if all(_agree(wanted[name], got[name]) for got in both for name in wanted) else one

    def _session(self, proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
        weights = sum(self.model.weights(name)[0].nbytes for name in self.model.sites)
        return session_of(proto, weights_bytes=weights)

    def _everything(self, way: _Way) -> dict[str, NDArray[Any]]:
        """What the first samples give, and what layers read of them, a row an inference."""
        names = [*self._outputs, *dict.fromkeys(self._sources)]
        inferences = ceil(len(next(iter(self._samples.values()))) / (self.model.batch or 1))
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for first, values in self._runs(way, {}, self._samples, names):
            count = min(way.width, inferences - first)
            for name, value in values.items():
                found[name].append(value.reshape(count, value.size // count))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def first_output(self, replacements: Mapping[str, Replacement], inputs: Values) -> NDArray[Any]:
        """The first output for every sample of `inputs` [samples, ...]; layers not named keep their weights."""
        (name, *_), samples = self._outputs, len(next(iter(inputs.values())))
        parts = [values[name] for _, values in self._runs(self._ready, replacements, inputs, [name])]
        return np.concatenate(parts)[:samples] if self.model.batch else np.stack(parts)

    def layer_inputs(
        self, replacements: Mapping[str, Replacement], inputs: Values, names: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """The values `names`, which layers read, of the inferences from the one given on: [inferences x outer, ...].

        After the last sample comes the first again, so that the last inference is whole.
        """
        made = [name for name in dict.fromkeys(names) if name not in inputs]
        yield from self._runs(self._ready, replacements, inputs, made, keep=names, in_turn=True)

    def mark_of(self, replacements: Mapping[str, Replacement], names: Sequence[str]) -> bytes | None:
        """A mark of the values `names`, which layers read: equal marks mean equal values. None where it is not known.

        Layers that these values do not depend on have no part in it.
        """
        segments, made = self._ready.segments, [name for name in names if name not in self.inputs]
        if segments is None:
            return None
        marks = segments.marks(self._marks(replacements, self._weights(replacements)))
        return marks[max(segments.ends[name] for name in made) - 1] if made else b""

    def thinned(self, step: int) -> FedModel:
        """The same with every `step`-th inference of its `inputs`."""
        if step not in self._thinned:
            batch, samples = self.model.batch or 1, len(next(iter(self.inputs.values())))
            starts = np.arange(0, samples, step * batch)
            chosen = (starts[:, None] + np.arange(batch)).ravel() % samples  # the last one is filled from the first
            # A shallow copy shares the graph, sessions that exist and known states; what layers read is kept apart.
            other = copy(self)
            other.inputs, other.chosen = {name: array[chosen] for name, array in self.inputs.items()}, chosen
            other._before = Memo(MEMO_BYTES, _bytes_of)
            self._thinned[step] = other
        return self._thinned[step]

    def inputs_before(self, names: Sequence[str]) -> list[tuple[int, dict[str, NDArray[Any]]]]:
        """`layer_inputs` of the model's own `inputs` with its own weights, kept as far as memory allows."""
        return self._before.get(tuple(names), lambda: list(self.layer_inputs({}, self.inputs, names)))

    def _runs(
        self,
        way: _Way,
        replacements: Mapping[str, Replacement],
        inputs: Values,
        names: Sequence[str],
        *,
        keep: Sequence[str] = (),
        in_turn: bool = False,
    ) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """The first inference of every run, and the values `names`, and inputs to `keep`, of the whole run.

        `in_turn`: the caller asks for what the layers read, one layer after the other.
        """
        weights = self._weights(replacements)
        samples, batch, width = len(next(iter(inputs.values()))), self.model.batch, way.width
        inferences = ceil(samples / (batch or 1))
        kept = None
        if way.segments is not None:
            marks, runs = self._marks(replacements, weights), ceil(inferences / width)
            kept = self._known.of(way.segments, marks, tuple(inputs.values()), runs=runs, in_turn=in_turn)
        for first in range(0, inferences, width):
            count, start = min(width, inferences - first), first * (batch or 1)
            feed = {name: _slice(array, first, width, batch) for name, array in inputs.items()}
            if way.segments is None or kept is None:
                got = run_slice(way.session, feed | weights, start, names) if names else []
            else:
                got = way.segments.run(feed | weights, names, kept.at(first), start)
            values = dict(zip(names, got, strict=True))
            values |= {name: feed[name] for name in keep if name in feed}
            yield (
                first,
                {name: value if width == 1 else _first_of(value, count, width) for name, value in values.items()},
            )

    def _weights(self, replacements: Mapping[str, Replacement]) -> dict[str, Array]:
        """What is fed besides samples."""
        weights: dict[str, Array] = {}
        for fed in self._fed:
            weights |= fed.feed(self.model, replacements.get(fed.layer, KEPT))
        return weights

    def _marks(self, replacements: Mapping[str, Replacement], weights: Mapping[str, Array]) -> dict[str, bytes]:
        """What tells fed weights apart, by name; those of the model as it was read are all alike."""
        kept = {name for fed in self._fed if fed.layer not in replacements for name in fed.names}
        # Most choices keep most layers: an empty mark for those saves hashing their weights each time.
        return {name: b"" if name in kept else blake2b(array.data).digest() for name, array in weights.items()}


def _width_of(model: Model) -> int:
    """How many inferences may run at once for the memory that their largest value takes."""
    shapes = [spec.shape for spec in model.inputs]
    shapes += [shape for node in model.ir.graph for value in node.outputs if (shape := static_shape(value)) is not None]
    largest = max((prod(shape) for shape in shapes), default=1)
    return min(WIDTH, max(1, WIDE_BYTES // (FLOAT_BYTES * max(1, largest))))


def _bytes_of(runs: list[tuple[int, dict[str, NDArray[Any]]]]) -> int:
    return sum(value.nbytes for _, values in runs for value in values.values())


def _first_of(value: NDArray[Any], count: int, width: int) -> NDArray[Any]:
    """Of a value of `width` inferences, those of the first `count`. Raises ModelError where it has no such parts."""
    if not value.ndim or len(value) % width:
        raise ModelError(f"a value of the shape {list(value.shape)} is not of {width} inferences")
    return value[: len(value) // width * count]


def _slice(array: NDArray[Any], first: int, width: int, batch: int | None) -> NDArray[Any]:
    """The samples of `width` inferences; after the last sample comes the first again."""
    if batch is None:
        sample: NDArray[Any] = array[first]
        return sample
    return array[np.arange(first * batch, (first + width) * batch) % len(array)]


def _matrix(model: Model, layer: str, replacement: Replacement) -> Array:
    """W [out, in] of a layer with a replacement."""
    if replacement.cores is not None:
        return to_matrix(replacement.cores)
    return model.weights(layer)[0] if replacement.weight is None else np.asarray(replacement.weight, np.float32)


def _with_fed_weights(model: Model) -> tuple[onnx.ModelProto, list[_Fed]]:
    """The model whose FC layers read their weights from new inputs."""
    import onnx_ir as ir

    copy = model.ir.clone()
    nodes, taken = {node.name: node for node in copy.graph}, names_in(copy.graph)
    found = []
    for name, site in model.sites.items():
        for use in site.uses:
            node, bias, own, column = nodes[use.node.name], None, None, False
            if use.bias is not None:
                adder, at = bias_input(node)
                # Where x has an axis of columns, the matrix on the left of it, a bias is a column too.
                column = use.form == "columns" and len(static_shape(node.outputs[0]) or ()) > 1
                own = _own_bias(adder, at, site.layer.out_features, column=column)
                bias = _feed(copy.graph, adder, at, own.shape, fresh(f"{name}.fed_bias", taken))
            weight = fresh(f"{name}.fed_weight", taken)
            _feed(copy.graph, node, use.weight_at, use.weight.shape, weight)
            found.append(_Fed(name, use, weight, bias, own, column))
    return ir.to_proto(copy), found


def _own_bias(adder: ir.Node, at: int, out_features: int, *, column: bool) -> NDArray[Any]:
    stored = resolve(adder.inputs[at])
    assert stored is not None, "discover() takes only a constant for a bias"
    zeros = np.zeros((out_features, 1) if column else out_features, np.float32)
    return np.asarray(stored.array() + zeros, np.float32)


def _feed(graph: ir.Graph, node: ir.Node, at: int, shape: Sequence[int], name: str) -> str:
    """Let operand `at` of `node` be a new input of the graph."""
    import onnx_ir as ir

    old, value = node.inputs[at], ir.val(name, ir.DataType.FLOAT, tuple(shape))
    graph.inputs.append(value)
    node.replace_input_with(at, value)
    drop_if_unused(graph, old)
    return name


def _exposing(proto: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """`proto` with these values as further outputs."""
    from onnx import TensorProto, helper

    known = {output.name for output in proto.graph.output}
    more = [name for name in dict.fromkeys(names) if name not in known]
    proto.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in more)
    return proto


def _widened(proto: onnx.ModelProto, model: Model, width: int) -> onnx.ModelProto:
    """`proto` for `width` inferences at once, as far as sizes stand in its inputs and at the front of its Reshapes."""
    from onnx import ModelProto, numpy_helper

    wide = ModelProto()
    wide.CopyFrom(proto)
    del wide.graph.value_info[:]
    for output in wide.graph.output:
        output.type.tensor_type.ClearField("shape")
    own = {spec.name for spec in model.inputs}
    for value in wide.graph.input:
        if value.name in own:
            value.type.tensor_type.shape.dim[0].dim_value *= width
    shapes = {node.input[1] for node in wide.graph.node if node.op_type == "Reshape"}
    for tensor in wide.graph.initializer:
        if tensor.name in shapes:
            sizes = numpy_helper.to_array(tensor).copy()
            # In a Reshape 0 copies the size of the input and -1 is computed: both adapt by themselves. A fixed first
            # size is taken for the batch; where it is none, the comparison in `_ready` shows it.
            if sizes.size and sizes[0] > 0:
                sizes[0] *= width
            tensor.CopyFrom(numpy_helper.from_array(sizes, tensor.name))
    return wide


def _agree(wanted: NDArray[Any], got: NDArray[Any]) -> bool:
    if wanted.shape != got.shape:
        return False
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(wanted, got))
    largest = float(np.max(np.abs(wanted), initial=0.0, where=np.isfinite(wanted)))
    return bool(np.allclose(wanted, got, rtol=0, atol=AGREES * largest, equal_nan=True))
