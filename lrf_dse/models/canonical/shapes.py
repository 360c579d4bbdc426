"""Every shape of a graph: by ONNX's inference, then what onnxruntime knows, at last what the file itself says.

Constants become known step by step: a folded Shape makes a Reshape's result static, which makes the next Shape one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import ModelError
from lrf_dse.models.canonical.fixed import chooser
from lrf_dse.models.canonical.folding import fold_constants
from lrf_dse.models.canonical.header import STANDARD
from lrf_dse.models.canonical.tensors import BIG_BYTES, MOST_ELEMENTS
from lrf_dse.models.constants import static_shape
from lrf_dse.models.evaluate import run_session, session_of

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

MOST_ROUNDS = 100
"""Most rounds of folding and inference. A deep network usually takes one for each layer; a graph that takes more than
this would never settle."""


def settle(
    model: ir.Model,
    declared: Mapping[str, tuple[int, ...]],
    *,
    steps: Sequence[Callable[[ir.Graph], bool]],
    keep_quantised: bool,
) -> None:
    """Fold constants and infer shapes until nothing changes; each of `steps` says whether it replaced operations."""
    for _ in range(MOST_ROUNDS):
        changed = fold_constants(model, keep_quantised=keep_quantised)
        for step in steps:
            changed |= step(model.graph)
        open_before = len(_open(model))
        if changed:
            _infer(model)
        if _open(model):
            _ask_onnxruntime(model)
        # A shape that onnxruntime told may make one more Shape node a constant: go on while the number of open values
        # falls.
        if not changed and len(_open(model)) == open_before:
            break
    if _open(model):
        # From here on in the order of trust: what a run gives, then what the file declares, which may be of other
        # sizes.
        _run_for_shapes(model)
        _set_declared(model, declared)


def _infer(model: ir.Model) -> None:
    """Run ONNX's own inference again. What it cannot infer stays open: the model was checked before."""
    import onnx

    proto = without_weights(model)
    # What was replaced may have had another type; more is known only of operations that ONNX does not infer.
    foreign = {name for node in proto.graph.node if node.domain not in STANDARD for name in node.output}
    kept = [value for value in proto.graph.value_info if value.name in foreign]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    try:
        # `data_prop` follows the values of small integer tensors through Gather, Concat and their like, which compute
        # the target of a Reshape.
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return
    shapes = {value.name: value.type.tensor_type for value in (*inferred.graph.value_info, *inferred.graph.output)}
    for value in _values(model):
        found = shapes.get(value.name or "")
        if found is not None and found.HasField("shape"):
            _set(value, found.elem_type, [d.dim_value if d.HasField("dim_value") else None for d in found.shape.dim])


def _ask_onnxruntime(model: ir.Model) -> None:
    """The shapes of values that are open, as onnxruntime sees them: it knows its own operations too."""
    import onnx

    proto = without_weights(model)
    names = {value.name or "" for value in _open(model)}
    # onnxruntime's Python interface shows the shapes of inputs and outputs alone: each open value becomes an output.
    outputs = [value for value in proto.graph.output if value.name not in names]
    del proto.graph.output[:]
    proto.graph.output.extend([*outputs, *(onnx.ValueInfoProto(name=name) for name in sorted(names))])
    try:
        session = session_of(proto, optimise=False)
    except ModelError:
        return
    found = {output.name: output for output in session.get_outputs()}
    for value in _open(model):
        output = found.get(value.name or "")
        code = _ELEMENTS.get(output.type[len("tensor(") : -1]) if output is not None else None
        # Without sizes it is a scalar, or of unknown rank.
        known = output is not None and output.shape and all(isinstance(size, int) for size in output.shape)
        if output is not None and code is not None and known:
            _set(value, code, list(output.shape))


def _run_for_shapes(model: ir.Model) -> None:
    """Shapes that only running tells, where they do not depend on the data: equal on zeros, ones and random inputs.

    The value that an If is known to wait for is tried too.
    """
    import onnx
    import onnx_ir as ir

    proto = ir.to_proto(model)
    names = [value.name or "" for value in _open(model)]
    proto.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in set(names) - {v.name for v in proto.graph.output}
    )
    seen: list[dict[str, tuple[int, ...]]] = []
    codes: dict[str, int] = {}
    try:
        session = session_of(proto, optimise=False)
        decides = chooser(model.graph)
        # A shape that depends on data differs here: NonZero, for one, finds nothing in zeros and everything in ones.
        for kind in ("zeros", "ones", "random", *(["chosen"] if decides else [])):
            feed = {value.name or "": _filled(value, kind) for value in model.graph.inputs}
            if decides is not None and kind == "chosen":
                feed[decides.name] = np.full_like(feed[decides.name], decides.value)
            results = run_session(session, feed)
            arrays = {o.name: a for o, a in zip(session.get_outputs(), results, strict=True) if hasattr(a, "dtype")}
            seen.append({name: array.shape for name, array in arrays.items()})
            codes |= {
                name: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for name, a in arrays.items() if a.dtype != object
            }
    except (ModelError, KeyError):
        return
    for value in _open(model):
        shapes = [shape.get(value.name or "") for shape in seen]
        if shapes[0] is not None and value.name in codes and all(shape == shapes[0] for shape in shapes):
            _set(value, codes[value.name], list(shapes[0]))


def _filled(value: ir.Value, kind: str) -> NDArray[Any]:
    """A tensor for an input, of zeros, of ones or of random numbers; as an index or a mask, 0 and 1 are in range."""
    shape = static_shape(value)
    if shape is None or value.dtype is None or prod(shape) > MOST_ELEMENTS:
        raise ModelError(f"input {value.name!r} has no known shape")
    dtype = value.dtype.numpy()
    if kind == "random" and dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return np.full(shape, 0 if kind == "zeros" else 1, dtype)


_ELEMENTS = {"float": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9}
"""onnxruntime's names of element types, with ONNX's codes."""


def without_weights(model: ir.Model) -> onnx.ModelProto:
    """`model` with its large constants as inputs: shapes do not depend on them."""
    import onnx_ir as ir

    graph = model.graph
    big = [value for value in graph.initializers.values() if value.const_value.nbytes > BIG_BYTES]  # type: ignore[union-attr]
    tensors = [value.const_value for value in big]
    inputs = len(graph.inputs)
    for value in big:
        value.shape, value.dtype = value.const_value.shape, value.const_value.dtype  # type: ignore[union-attr,assignment]
        value.const_value = None
        graph.initializers.pop(value.name)  # type: ignore[arg-type]
        graph.inputs.append(value)
    try:
        return ir.to_proto(model)
    finally:
        # The graph belongs to the caller: it gets its weights back even if it cannot be serialised.
        del graph.inputs[inputs:]
        for value, tensor in zip(big, tensors, strict=True):
            value.const_value = tensor
            graph.register_initializer(value)


def _values(model: ir.Model) -> list[ir.Value]:
    # An optional output that is left out has the empty name.
    return [output for node in model.graph for output in node.outputs if output.name]


def _open(model: ir.Model) -> list[ir.Value]:
    return [value for value in _values(model) if static_shape(value) is None]


def _set(value: ir.Value, element: int, sizes: list[int | None]) -> None:
    import onnx_ir as ir

    if element:
        value.dtype = ir.DataType(element)
    if static_shape(value) is None and value.type is not None:
        value.shape = ir.Shape(sizes)


def _set_declared(model: ir.Model, declared: Mapping[str, tuple[int, ...]]) -> None:
    """Give open values the shapes that the file declares."""
    import onnx_ir as ir

    for value in _open(model):
        shape = declared.get(value.name or "")
        if shape is not None:
            value.shape = ir.Shape(shape)
