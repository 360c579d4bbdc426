"""The timing model and llvm-mca on loops: where they agree, and that what differs is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kit.page import with_section
from benchmarks.simulators.llvm import run_mca
from benchmarks.simulators.loops import Loop, Vtype, find_loops
from benchmarks.simulators.mca import WRITE_BACK, LoopEntry, McaReport, compare_with_mca
from lrf_dse.errors import ToolError, UsageError
from lrf_dse.target import load_target

K1 = load_target("spacemit-k1")

FMAS = [f"vfmacc.vf v{8 + 2 * n}, fa{n}, v0" for n in range(8)]
LOOPS = {
    "busy": FMAS,
    "late load": ["flw fa0, 0x0(a0)", "vle32.v v0, (a1)", "vfmacc.vf v8, fa0, v0", "addi a0, a0, 0x4"],
    "copy": ["vle32.v v8, (a1)", "vse32.v v8, (a0)", "addi a0, a0, 0x40", "addi a1, a1, 0x40"],
    "slide": ["vslideup.vi v8, v12, 0x1", "vslideup.vi v10, v12, 0x2", "vmv.x.s a3, v8"],
    "masked": ["vle32.v v8, (a1), v0.t", "vfmacc.vv v10, v8, v8, v0.t", "csrr a4, vlenb", "mul a5, a4, a4"],
    "strided": ["vlse32.v v8, (a1), a2", "vfmacc.vf v10, fa0, v12"],
    "half a register": ["vsetvli zero, zero, e32, mf2, ta, ma", "vle32.v v8, (a1)", "vse32.v v8, (a0)"],
    "lost": ["ld a1, 0x0(a1)", "flw fa0, 0x0(a1)"],
}  # fmt: skip


def loop_of(name: str) -> Loop:
    lines = [*LOOPS[name], "bnez t0, 0x0 <k>"]
    (loop,) = find_loops("\n".join(f"  {4 * n:x}: \t{line}" for n, line in enumerate(lines)), name)
    return Loop(name, loop.body, Vtype(32, "m2"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> McaReport:
    return compare_with_mca([loop_of(name) for name in LOOPS], K1, tmp_path_factory.mktemp("mca"))


@pytest.fixture(scope="module")
def entries(report: McaReport) -> dict[str, LoopEntry]:
    return {entry.loop.source: entry for entry in report.entries}


def test_where_costs_and_order_are_llvms_the_pipelines_agree(entries: dict[str, LoopEntry]) -> None:
    """An independent model of the pipeline, to the cycle: only fractions of our measured costs are rounded away."""
    assert {name: entry.like_mca / entry.mca for name, entry in entries.items()} == pytest.approx(
        dict.fromkeys(LOOPS.keys() - {"lost"}, 1.0), abs=0.02
    )
    assert all(entry.explained for entry in entries.values())


def test_multiplications_keep_their_unit_busy(entries: dict[str, LoopEntry]) -> None:
    """Eight of two cycles; LLVM lets nothing after the last of them start before its result is near."""
    busy = entries["busy"]
    assert (busy.modelled, busy.in_order, busy.mca) == pytest.approx((16, 19, 19), abs=0.1)
    assert [cause.what for cause in busy.causes] == [WRITE_BACK]


def test_no_cause_is_named_where_nothing_moves(entries: dict[str, LoopEntry]) -> None:
    strided = entries["strided"]
    assert strided.agrees
    assert strided.causes == ()


def test_the_order_of_write_back_is_named_as_a_cause(entries: dict[str, LoopEntry]) -> None:
    late = entries["late load"]
    assert not late.agrees
    assert late.causes[0].what == WRITE_BACK
    assert late.causes[0].cycles == pytest.approx(late.in_order - late.modelled)


def test_a_cost_that_llvm_has_otherwise_is_named(report: McaReport, entries: dict[str, LoopEntry]) -> None:
    assert "v_store m2" in {f"{charge.operation} m{charge.lmul}" for charge in report.charges if charge.differs}
    assert any("vse32.v m2: 4 cycles, not 4.75" in cause.what for cause in entries["copy"].causes)


def test_instructions_are_charged_as_the_plugin_decodes_them(report: McaReport) -> None:
    assert {(charge.instruction, charge.operation, charge.lmul) for charge in report.charges} >= {
        ("vfmacc.vf m2", "v_float_fma", 2),
        ("vslideup.vi m2", "v_slide", 2),
        ("vmv.x.s m2", "v_to_int", 1),
        ("mul", "int_mul", 1),
        ("csrr", "system", 1),
        ("flw", "float_load", 1),
    }  # fmt: skip


def test_a_loop_that_cannot_be_placed_is_left_out_with_the_reason(report: McaReport) -> None:
    assert list(report.left_out) == ["lost, 0x0"]
    assert "lost" not in {entry.loop.source for entry in report.entries}


def test_bad_assembly_and_a_core_that_llvm_does_not_know(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="llvm-mca-22 failed: .*error"):
        run_mca({"bad": "no such instruction"}, K1, iterations=1)
    with pytest.raises(UsageError, match="target canaan-k230: no scheduling model"):
        run_mca({}, load_target("canaan-k230"), iterations=1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get install llvm-22"):
        run_mca({"nop": "nop"}, K1, iterations=1)


def test_a_page_without_the_section_is_refused() -> None:
    page = "a\n<!-- begin one -->\nold\n<!-- end one -->\nb\n"
    assert with_section(page, "one", "new\nlines") == "a\n<!-- begin one -->\nnew\nlines\n<!-- end one -->\nb\n"
    with pytest.raises(ValueError, match="no section"):
        with_section(page, "two", "new")
