"""The evaluator of HAL IR: what it reads from real modules, and how it refuses what it does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders.zoo import (
    ZOO,
    Maker,
    attention,
    convolution_with_padding,
    fully_connected,
    outputs_that_no_kernel_computes,
)

from lrf_dse.builders import iree
from lrf_dse.builders.constants import buffer_constant_bytes
from lrf_dse.builders.hal import read_schedule
from lrf_dse.builders.schedule import Buffer, Copy, Dispatch, Fill, Schedule, Span
from lrf_dse.errors import ScheduleError
from lrf_dse.target import Target


def _hal_text(maker: Maker, target: Target, work: Path) -> str:
    return iree.compile_to_hal(iree.import_onnx(maker(), work), target).read_text()


def _schedule(maker: Maker, target: Target, work: Path) -> Schedule:
    return read_schedule(_hal_text(maker, target, work))


def test_a_fill_and_the_dispatches_of_a_convolution(k1: Target, work: Path) -> None:
    schedule = _schedule(convolution_with_padding, k1, work)
    assert isinstance(schedule.commands[0], Fill)
    assert sum(isinstance(command, Dispatch) for command in schedule.commands) >= 3
    assert [(port.shape, port.element_type) for port in schedule.inputs] == [((1, 3, 8, 8), "f32")]
    assert [(port.shape, port.element_type) for port in schedule.outputs] == [((1, 10), "f32")]


def test_every_span_lies_inside_its_storage(k1: Target, work: Path) -> None:
    for index, maker in enumerate(ZOO):
        folder = work / str(index)
        folder.mkdir()
        schedule = _schedule(maker, k1, folder)
        spans: list[Span] = [port.span for port in (*schedule.inputs, *schedule.outputs)]
        for command in (*schedule.at_load, *schedule.commands):
            match command:
                case Dispatch():
                    spans += command.bindings
                case Fill():
                    spans.append(command.target)
                case Copy():
                    spans += [command.source, command.target]
        assert all(s.offset >= 0 and s.offset + s.length <= s.storage.size_bytes for s in spans)
        assert set(schedule.storages) >= {s.storage for s in spans}


def test_one_kernel_dispatched_twice_with_different_constants(k1: Target, work: Path) -> None:
    schedule = _schedule(attention, k1, work)
    calls = [c for c in schedule.commands if isinstance(c, Dispatch)]
    twice = [c for c in calls if sum(other.function == c.function for other in calls) == 2]
    assert len(twice) == 2
    assert twice[0].constants != twice[1].constants


def test_outputs_that_are_inputs_or_constants(k1: Target, work: Path) -> None:
    schedule = _schedule(outputs_that_no_kernel_computes, k1, work)
    kinds = [port.span.storage.kind for port in schedule.outputs]
    assert kinds[0] == "input"
    assert len(kinds) == 3


def test_commands_of_initializers_run_at_load(k1: Target, work: Path) -> None:
    """With data tiling IREE packs the weights once, at load, into a buffer of its own."""
    mlir = iree.import_onnx(fully_connected(), work)
    schedule = read_schedule(iree.compile_to_hal(mlir, k1, flags=["--iree-opt-data-tiling"]).read_text())
    assert schedule.at_load
    assert schedule.of_kind("state")
    first = schedule.at_load[0]
    assert isinstance(first, Dispatch)
    assert first.bindings[-1].storage.kind == "state"


def test_an_unknown_operation_is_named(k1: Target, work: Path) -> None:
    text = _hal_text(ZOO[0], k1, work).replace("hal.command_buffer.finalize<", "hal.command_buffer.end_debug_group<")
    with pytest.raises(ScheduleError, match=r"hal\.command_buffer\.end_debug_group.*does not know"):
        read_schedule(text)


def test_an_unknown_top_level_operation_is_named() -> None:
    with pytest.raises(ScheduleError, match=r"holds 'func\.func'"):
        read_schedule("func.func private @f()")


def test_text_that_is_not_mlir() -> None:
    with pytest.raises(ScheduleError, match="does not parse"):
        read_schedule("this is no module")


def test_an_offset_past_the_end_is_refused(k1: Target, work: Path) -> None:
    text = _hal_text(ZOO[0], k1, work).replace(
        "%c480 = arith.constant 480 : index", "%c480 = arith.constant 481 : index"
    )
    with pytest.raises(ScheduleError, match="reaches past"):
        read_schedule(text)


def test_an_endless_loop_is_found() -> None:
    loop = "util.initializer {\n  cf.br ^bb1\n^bb1:\n  cf.br ^bb1\n}\n"
    entry = 'util.func public @f() attributes {iree.abi.model = "coarse-fences"} {\n  util.return\n}'
    with pytest.raises(ScheduleError, match="does not end"):
        read_schedule(loop + entry)


def test_a_module_without_an_entry_point() -> None:
    with pytest.raises(ScheduleError, match="one entry point, found 0"):
        read_schedule("util.func private @f() { util.return }")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('dense<"0x0000803F00000040"> : tensor<2xf32>', np.array([1, 2], np.float32)),
        ('dense<"0x0000803F"> : tensor<3xf32>', np.array([1, 1, 1], np.float32)),
        ("dense<0> : vector<5xi8>", np.zeros(5, np.int8)),
        ("dense<[1, -2]> : tensor<2xi64>", np.array([1, -2], np.int64)),
        ("dense<1.5> : tensor<2x2xf32>", np.full(4, 1.5, np.float32)),
    ],
)
def test_constants_of_every_form(text: str, expected: np.ndarray) -> None:
    from iree.compiler import ir

    with ir.Context():
        assert buffer_constant_bytes(ir, ir.Attribute.parse(text)) == expected.tobytes()


def test_a_composite_is_its_elements_in_order() -> None:
    from iree.compiler import ir

    text = '#util.composite<12xi8, [\n  dense<"0x0000803F00000040"> : tensor<2xf32>,\n  dense<7> : vector<4xi8>,\n]>'
    with ir.Context():
        ir.Attribute.parse(text)  # it is what IREE prints
        assert buffer_constant_bytes(ir, text) == np.array([1, 2], np.float32).tobytes() + bytes([7] * 4)


def test_a_constant_of_an_unknown_type_is_named() -> None:
    from iree.compiler import ir

    with ir.Context(), pytest.raises(ScheduleError, match="does not know|not known"):
        buffer_constant_bytes(ir, ir.Attribute.parse("dense<true> : tensor<2xi1>"))


def test_a_span_cannot_leave_its_storage() -> None:
    whole = Span(Buffer("input", 0, 16), 0, 16)
    assert whole.narrowed(4, 12).narrowed(2, 2) == Span(whole.storage, 6, 2)
    with pytest.raises(ValueError, match="reaches past"):
        whole.narrowed(4, 8).narrowed(4, 5)
