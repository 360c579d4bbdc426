"""Models with generated kernels: one module and one program that compute what onnxruntime computes of the calls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders.kernel_models import SHAPES, three_layers_and_more, with_kernels
from builders.test_program import _inputs, _run

from lrf_dse.builders.elf import R_RISCV_RELATIVE, parse_elf
from lrf_dse.builders.importing import import_model, riscv_machine
from lrf_dse.builders.program import BUILDERS, BuiltProgram
from lrf_dse.builders.schedule import Dispatch
from lrf_dse.builders.stock import build_for_stock_runtime
from lrf_dse.errors import BuildError, RunError
from lrf_dse.models.evaluate import run_once
from lrf_dse.models.kernel_call import DOMAIN, SCHEDULE, SPEC
from lrf_dse.runners.job import Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.runners.stock import run_on_stock_runtime
from lrf_dse.runners.verify import Errors, compare
from lrf_dse.schema import Measurement
from lrf_dse.target import Target, load_target


def measured(model: onnx.ModelProto, built: BuiltProgram, target: Target, work: Path) -> Measurement:
    inputs = tuple(_inputs(model))
    job = Job(Path(built.program.path), target, inputs, run_once(model, inputs), work / "run", tolerance=1e-5)
    outcome = QemuRunner().run(job)
    assert isinstance(outcome, Measurement), outcome
    return outcome


@pytest.fixture(scope="module")
def three(k1: Target, tmp_path_factory: pytest.TempPathFactory) -> tuple[onnx.ModelProto, BuiltProgram]:
    """The model of three rows for spacemit-k1, built once; nothing may change it."""
    folder = tmp_path_factory.mktemp("three")
    model = with_kernels(three_layers_and_more(), folder)
    return model, BUILDERS["iree"](model, k1, folder)


Three = tuple[onnx.ModelProto, BuiltProgram]


def test_the_program_computes_what_onnxruntime_computes(three: Three, k1: Target, work: Path) -> None:
    """Fused activations, a kernel that two layers share, an output that a kernel writes."""
    model, built = three
    measured(model, built, k1, work)
    check_kernels(built)


@pytest.mark.parametrize(
    ("name", "builder", "leading"),
    [("canaan-k230", "iree-tiled", (1,)), ("starfive-jh7110", "iree", (1, 3)), ("spacemit-k1", "iree-tiled", (2, 7))],
)
def test_other_targets_builders_and_batches(name: str, builder: str, leading: tuple[int, ...], work: Path) -> None:
    """VLEN 128, no vector unit, data tiling around the kernels, rows of rows."""
    target = load_target(name)
    model = with_kernels(three_layers_and_more(leading=leading), work)
    built = BUILDERS[builder](model, target, work)
    measured(model, built, target, work)
    check_kernels(built)
    assert built.schedule.of_kind("state") == ()


def check_kernels(built: BuiltProgram) -> None:
    """Four calls of three kernels, in the module and in the program, with nothing left for a loader to find."""
    calls = [command.function for command in built.schedule.commands if isinstance(command, Dispatch)]
    assert sorted(Counter(name for name in calls if name.startswith("tt_kernel")).values()) == [1, 1, 2]
    # Beside them the dense layer, its Tanh and the addition: bias and activations cost no dispatch of their own.
    assert len(calls) <= 4 + 3, calls
    for image in built.schedule.executables.values():
        assert image in Path(built.module().path).read_bytes()
        assert image in Path(built.program.path).read_bytes()
        elf = parse_elf(image, "kernel image")
        assert set(elf.relocation_types) <= {R_RISCV_RELATIVE}
        assert not elf.undefined_symbols


def test_threads_share_the_work_and_give_the_same_bits(k1: Target, work: Path) -> None:
    threads = 4
    model = with_kernels(three_layers_and_more(), work, threads=threads)
    built = BUILDERS["iree"](model, k1, work)
    measured(model, built, k1, work)
    calls = [c for c in built.schedule.commands if isinstance(c, Dispatch) and c.function.startswith("tt_kernel")]
    assert len(calls) > 4
    assert max(call.workgroups[0] for call in calls) > 1
    # All phases of a kernel work on the same scratch and the same result.
    first = [call for call in calls if call.function.startswith("tt_kernel_0")]
    assert len({call.bindings[2] for call in first}) == len({call.bindings[3] for call in first}) == 1
    source, outputs = work / "x.bin", [work / "y.bin", work / "z.bin"]
    source.write_bytes(_inputs(model)[0].tobytes())
    results = set()
    for options in ([], ["--threads", "2"], ["--threads", "4", "--passes", "3"]):
        arguments = [*options, str(source), *map(str, outputs)]
        assert _run(built.program.path, k1.qemu.cpu, *arguments).returncode == 0
        results.add(b"".join(path.read_bytes() for path in outputs))
    assert len(results) == 1


def test_weights_and_scratch_are_counted(three: Three, k1: Target, work: Path) -> None:
    """Packed weights are constants of the program, once; scratch is transient memory, not stack."""
    model, built = three
    found = measured(model, built, k1, work)
    calls = [c for c in built.schedule.commands if isinstance(c, Dispatch) and c.function.startswith("tt_kernel")]
    spans = [call.bindings[1] for call in calls]
    assert {span.storage.kind for span in spans} == {"constant"}
    packed = sum(span.length for span in {(s.storage.symbol, s.offset): s for s in spans}.values())
    floats = sum(sum(int(np.prod(core)) for core in shape.core_shapes) for shape in SHAPES.values())
    assert packed >= 4 * floats
    constants = [storage for storage in built.schedule.of_kind("constant") if storage.data]
    assert found.flash_bytes >= sum(storage.size_bytes for storage in constants)
    image = Path(built.program.path).read_bytes()
    assert all(image.count(storage.data or b"-") == 1 for storage in constants)
    for call in calls:
        assert call.bindings[2].storage.kind == "transient"
    transient = {storage.symbol: storage.size_bytes for storage in built.schedule.of_kind("transient")}
    scratch = {call.bindings[2].storage.symbol for call in calls}
    assert found.ram_parts["transient_bytes"] >= sum(transient[symbol] for symbol in scratch)
    assert found.ram_parts["stack_bytes"] < 16_384


@pytest.mark.parametrize("threads", [1, 3])
def test_the_stock_runtime_computes_the_same_on_this_machine(threads: int, k1: Target, work: Path) -> None:
    """Scalar kernels with the packing and scratch of the RVV ones, in a module that IREE's own runtime runs."""
    model = with_kernels(three_layers_and_more(), work, threads=threads)
    inputs = _inputs(model)
    vmfb = build_for_stock_runtime(model, k1, work)
    outputs = run_on_stock_runtime(vmfb, inputs, work / "run", outputs=2)
    errors = compare(outputs, run_once(model, inputs), tolerance=1e-5)
    assert isinstance(errors, Errors), errors
    assert b"tt_kernel_0" in vmfb.read_bytes()


def test_what_the_stock_runtime_refuses_is_one_line(work: Path) -> None:
    (work / "bad.vmfb").write_bytes(b"this is no module")
    with pytest.raises(RunError, match="IREE's runtime could not run bad.vmfb: ") as caught:
        run_on_stock_runtime(work / "bad.vmfb", [], work, outputs=1)
    assert "\n" not in str(caught.value)


Change = Callable[[onnx.NodeProto], None]


def _set(name: str, value: object) -> Change:
    def change(node: onnx.NodeProto) -> None:
        for attribute in list(node.attribute):
            if attribute.name == name:
                node.attribute.remove(attribute)
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            node.attribute.append(onnx.helper.make_attribute(name, text))

    return change


def _no_constant(node: onnx.NodeProto) -> None:
    node.input[1] = "x"


def _other_batch(node: onnx.NodeProto) -> None:
    spec = json.loads(next(a.s for a in node.attribute if a.name == SPEC))
    _set(SPEC, spec | {"batch": 9})(node)


BAD: tuple[tuple[Change, str], ...] = (
    (_set(SPEC, None), f"layer fc1.kernel: its call has no {SPEC}"),
    (_set(SPEC, "{"), f"layer fc1.kernel: its {SPEC} is not one: Expecting"),
    (
        _set(SCHEDULE, {"order": "fast"}),
        f"layer fc1.kernel: its {SCHEDULE} is not one: .*order Input should be a valid tuple$",
    ),
    (
        _set(
            SCHEDULE, {"order": [0], "merges": [3], "lanes": 8, "stages": [{"vector": "rows", "lmul": 1, "block": 1}]}
        ),
        "layer fc1.kernel: schedule order 0; .* does not fit it: merges",
    ),
    (_no_constant, "layer fc1.kernel: its weights x are no constants of the model"),
    (_other_batch, r"layer fc1.kernel: its kernel makes 216 values of 360, tensors are \(3, 40\), \(3, 24\)"),
)


@pytest.mark.parametrize(("change", "message"), BAD)
def test_calls_that_are_not_as_they_should_be(change: Change, message: str, k1: Target, work: Path) -> None:
    model = with_kernels(three_layers_and_more(), work, shapes={"fc1": SHAPES["fc1"]})
    change(next(node for node in model.graph.node if node.domain == DOMAIN))
    with pytest.raises(BuildError, match=message) as caught:
        import_model(model, k1, riscv_machine(k1), work)
    assert "\n" not in str(caught.value)


def test_same_model_same_bytes(three: Three, k1: Target, work: Path) -> None:
    model, built = three
    again = BUILDERS["iree"](model, k1, work)
    assert (again.program.sha256, again.module().sha256) == (built.program.sha256, built.module().sha256)
