"""One layer as a whole model in every storage, with our kernel and with IREE's own, and quantised dynamically.

Owns the ways and what is measured of each: bytes of files, flash and RAM of the program, cycles, and the error against
float64 of the weights that the stored numbers stand for (of the fp32 weights where a tool quantises by itself).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.against.storages import STORAGES, StorageRow
from lrf_dse.builders.program import BUILDERS, Builder, build_with_iree
from lrf_dse.codegen import default_schedule
from lrf_dse.errors import BuildError, ToolError
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.few_bits_file import in_few_bits
from lrf_dse.models.kernel_call import KernelChoice
from lrf_dse.models.rewrite import Replacement, single_layer_model
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Failure, FcLayer, Measurement, Storage
from lrf_dse.target import Target
from lrf_dse.tt.grid import Stored, nearest
from lrf_dse.tune.measuring import random_operands, reference, rounded_cores

if TYPE_CHECKING:
    import onnx

_TOLERANCE = 0.1
"""Of max |y|: what rounds activations to 8 bits is far from exact, and its error is shown."""
_KEPT_PACKED = "--iree-opt-const-eval=false"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ModuleFigures:
    """One way to compute a row. `reason` says why there is no program (sizes are then 0) or why it does not run.

    `onnx_bytes` is the model file that such a plan is exported with. `error` is of max |y|, without a program that
    runs onnxruntime's.
    """

    row: StorageRow
    way: str
    onnx_bytes: int = 0
    vmfb_bytes: int = 0
    program_bytes: int = 0
    measured: Measurement | None = None
    error: float | None = None
    reason: str = ""


def module_figures(row: StorageRow, target: Target) -> Iterator[ModuleFigures]:
    """Every way for `row`, ours first."""
    single = _Layer.of(row, "fp32", target)
    for storage in STORAGES:
        layer = _Layer.of(row, storage, target)
        yield layer.figures(f"ours, {storage}", layer.model(kernel=True), [BUILDERS["iree"]])
    yield single.figures("IREE, fp32", single.model(), list(BUILDERS.values()))
    for storage in STORAGES[1:]:
        layer = _Layer.of(row, storage, target)
        model = in_few_bits(layer.model(), layer.stored)
        yield layer.figures(f"IREE, {storage}", model, list(BUILDERS.values()))
        if storage == "int8":
            kept: list[Builder] = [partial(build_with_iree, flags=(_KEPT_PACKED,))]
            yield layer.figures(f"IREE, {storage}, {_KEPT_PACKED}", model, kept)
    yield single.figures(
        "IREE, quantize_dynamic", in_plain_operators(quantised(single.model())), list(BUILDERS.values())
    )


@dataclass(frozen=True, eq=False)
class _Layer:
    """The operands of a row in one storage, and what the layer makes of them."""

    row: StorageRow
    storage: Storage
    target: Target
    given: Replacement
    stored: Sequence[Stored]
    x: Floats
    y: Floats

    @staticmethod
    def of(row: StorageRow, storage: Storage, target: Target) -> _Layer:
        spec = row.spec(storage)
        cores, _, x = random_operands(spec, seed=0)
        weights, rounded = rounded_cores(cores, spec, default_schedule(spec, target))
        stored = [each if isinstance(each, Stored) else Stored("fp32", each) for each in weights]
        given = Replacement(rounded, stored=stored)
        if row.shape is None:
            stored = [nearest(cores[0][0, :, :, 0], storage)]
            given = Replacement(weight=stored[0].values, stored=stored)
        y = reference(spec, rounded, None, x).astype(np.float32)
        return _Layer(row, storage, target, given, stored, x, y)

    def model(self, *, kernel: bool = False) -> onnx.ModelProto:
        """The layer by a call of our kernel, or as plain operators."""
        layer = FcLayer("layer", self.row.in_features, self.row.out_features, self.row.batch, has_bias=False)
        given = replace(self.given, kernel=KernelChoice()) if kernel else replace(self.given, stored=None)
        return single_layer_model(layer, given)

    def figures(self, way: str, model: onnx.ModelProto, builders: Sequence[Builder]) -> ModuleFigures:
        """The fastest program that `builders` make of `model`."""
        found = [self._built(way, model, builder) for builder in builders]
        right = [each for each in found if each.measured]
        return min(right, key=lambda each: (each.measured and each.measured.cycles) or np.inf) if right else found[0]

    def _built(self, way: str, model: onnx.ModelProto, builder: Builder) -> ModuleFigures:
        plain = self.model() if way.startswith("ours") else model
        file = in_few_bits(plain, self.stored) if way.startswith("ours") and self.storage != "fp32" else plain
        with tempfile.TemporaryDirectory(prefix="lrf-dse-") as folder:
            try:
                built = builder(model, self.target, Path(folder))
            except BuildError as error:
                return ModuleFigures(self.row, way, reason=str(error))
            program, module = Path(built.program.path), Path(built.module().path)
            job = Job(program, self.target, (self.x,), (self.y,), Path(folder) / "run", tolerance=_TOLERANCE)
            sizes = file.ByteSize(), module.stat().st_size, program.stat().st_size
            try:
                outcome = QemuRunner().run(job)
            except ToolError as error:  # an emulator that gives up has no figure; files have sizes all the same
                return ModuleFigures(self.row, way, *sizes, None, self._error(model), str(error))
        if isinstance(outcome, Failure):
            return ModuleFigures(self.row, way, *sizes, reason=outcome.reason)
        return ModuleFigures(self.row, way, *sizes, outcome, outcome.max_rel_error)

    def _error(self, model: onnx.ModelProto) -> float:
        """Of what onnxruntime makes of a model."""
        (y,) = run_once(model, (self.x,))
        return float(np.max(np.abs(y - self.y)) / np.max(np.abs(self.y)))


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """What onnxruntime's quantize_dynamic makes of a model."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="lrf-dse-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8, per_channel=True)
        return onnx.load(after)


def in_plain_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """A dynamically quantised model in operators that IREE compiles: the same integers.

    DynamicQuantizeLinear is written out by its definition, and what the zero point adds to MatMulInteger is taken off
    after it.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    nodes = [plain for node in made.graph.node for plain in _written_out(node, constants)]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    made.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in constants.items() if name in used
    )
    return made


def _written_out(node: onnx.NodeProto, constants: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    """`node` in plain operators; adds to `constants`."""
    from onnx import TensorProto, helper

    make = helper.make_node
    if node.op_type == "MatMulInteger":
        x, weight, zero_point, *others = node.input
        assert not any(np.any(constants[name]) for name in others), "weights are symmetric"
        constants[f"{weight}.sums"] = constants[weight].sum(axis=0, dtype=np.int32)
        product, taken, wide = (f"{node.output[0]}.{name}" for name in ("product", "taken", "zero"))
        return [
            make("MatMulInteger", [x, weight], [product]),
            make("Cast", [zero_point], [wide], to=TensorProto.INT32),
            make("Mul", [f"{weight}.sums", wide], [taken]),
            make("Sub", [product, taken], [node.output[0]]),
        ]
    if node.op_type != "DynamicQuantizeLinear":
        return [node]
    (x,), (quantised, scale, zero_point) = node.input, node.output
    constants |= {"dynamic.zero": np.zeros((), np.float32), "dynamic.most": np.full((), 255, np.float32)}
    low, high, span, down, rounded, zero, divided, whole, moved, cut = (f"{x}.dynamic{i}" for i in range(10))
    ends, most = ["dynamic.zero", "dynamic.most"], "dynamic.most"
    return [
        make("ReduceMin", [x], [f"{low}.of"], keepdims=0),
        make("ReduceMax", [x], [f"{high}.of"], keepdims=0),
        make("Min", [f"{low}.of", "dynamic.zero"], [low]),
        make("Max", [f"{high}.of", "dynamic.zero"], [high]),
        make("Sub", [high, low], [span]),
        make("Div", [span, most], [scale]),
        make("Div", [low, scale], [f"{down}.of"]),
        make("Neg", [f"{down}.of"], [down]),
        make("Round", [down], [rounded]),
        make("Clip", [rounded, *ends], [zero]),
        make("Cast", [zero], [zero_point], to=TensorProto.UINT8),
        make("Div", [x, scale], [divided]),
        make("Round", [divided], [whole]),
        make("Add", [whole, zero], [moved]),
        make("Clip", [moved, *ends], [cut]),
        make("Cast", [cut], [quantised], to=TensorProto.UINT8),
    ]
