"""Loops of kernels: found in real code with the vector state that holds there, and placed on data of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.simulators.llvm import disassemble
from benchmarks.simulators.loops import Loop, Vtype, distinct, find_loops
from benchmarks.simulators.placing import Unplaced, place
from lrf_dse.builders.zig import zig_cc
from lrf_dse.calibrate.entries import assemble_micros, run_micros
from lrf_dse.target import load_target

K1 = load_target("spacemit-k1")
E32_M2 = Vtype(32, "m2")

# An outer loop around two inner ones that are alike, then loops that are none of ours, or under an unknown state.
KERNEL = """
    .option norelax
    .globl kernel
kernel:
    vsetivli zero, 8, e32, m2, ta, ma
    li t1, 4
outer:
    li t0, 16
one:
    vle32.v v8, (a1)
    flw fa5, 4(a0)
    vfmacc.vf v10, fa5, v8
    addi a0, a0, 4
    addi a1, a1, 32
    addi t0, t0, -1
    bnez t0, one
    li t0, 9
two:
    vle32.v v16, (a3)
    flw fa4, -12(a4)
    vfmacc.vf v12, fa4, v16
    addi a4, a4, 8
    addi a3, a3, 64
    addi t0, t0, -1
    bnez t0, two
    addi t1, t1, -1
    bnez t1, outer
integers:
    addi a0, a0, 1
    bne a0, a1, integers
calls:
    flw fa0, 0(a0)
    call kernel
    bnez a0, calls
    vsetvli zero, a2, e64, m4, ta, ma
set_inside:
    vfadd.vv v8, v8, v16
    vsetvli zero, a2, e32, m1, ta, ma
    vse32.v v8, (a0)
    bnez a2, set_inside
    ret
entry:
    vadd.vv v8, v8, v8
    bnez a2, entry
    ret
"""


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loop, ...]:
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "kernel.S").write_text(KERNEL, encoding="utf-8")
    machine = ["-target", "riscv64-linux-musl", f"-mcpu={K1.cc.mcpu}"]
    zig_cc([*machine, "-c", "kernel.S", "-o", "kernel.o"], cwd=folder)
    return find_loops(disassemble(folder / "kernel.o"), "test")


def loop_of(*lines: str, vtype: Vtype | None = E32_M2) -> Loop:
    """A loop of these instructions, as a disassembly would show it."""
    text = "\n".join(f"  {4 * n:x}: \t{line}" for n, line in enumerate([*lines, "bnez t0, 0x0 <k>"]))
    (loop,) = find_loops(text, "text")
    return replace(loop, vtype=vtype)


def test_innermost_loops_are_found_with_their_state(loops: tuple[Loop, ...]) -> None:
    assert [(loop.vtype, len(loop.body), loop.body[0].mnemonic) for loop in loops] == [
        (Vtype(32, "m2"), 6, "vle32.v"),
        (Vtype(32, "m2"), 6, "vle32.v"),
        # Entered under e64, m4 and repeated under e32, m1.
        (None, 3, "vfadd.vv"),
        # A function of its own: nobody knows how it is called.
        (None, 1, "vadd.vv"),
    ]
    assert loops[0].body[1].text == "flw fa5, 0x4(a0)"
    assert loops[0].summary == "1 vle32.v, 1 flw, 1 vfmacc.vf; 3 others"


def test_loops_alike_count_as_one_and_those_with_most_work_come_first(loops: tuple[Loop, ...]) -> None:
    kinds = distinct(reversed(loops))
    assert [(loop.times, loop.body[0].mnemonic) for loop in kinds] == [(2, "vle32.v"), (1, "vfadd.vv"), (1, "vadd.vv")]
    assert kinds[0].lmuls == "m2"


def test_a_placed_loop_keeps_its_instructions_and_stands_still(loops: tuple[Loop, ...]) -> None:
    placed = place(loops[0], "one")
    assert [one.mnemonic for one in placed.body] == [one.mnemonic for one in loops[0].body]
    assert placed.body[0].text == "vle32.v v8, (a1)"
    assert [one.text for one in placed.body[3:]] == ["addi a0, a0, 0", "addi a1, a1, 0", "addi t0, t0, 0"]


@pytest.mark.parametrize(
    "lines",
    [
        # A base that two registers make, and one that a multiplication and a shift of nothing add to.
        ["add a5, a1, a2", "flw fa0, -8(a5)", "addi a1, a1, 64"],
        ["csrr a5, vlenb", "li a4, 3", "mul a5, a5, a4", "slli a5, a5, 0x2", "add a5, a5, sp", "vl2re32.v v8, (a5)"],
        # The registers of the loops around it, and strides.
        ["flw fa0, 0(s9)", "fsw fa0, 4(t6)", "vlse32.v v8, (s10), a1", "addi s10, s10, 4"],
        ["vsetvli zero, a6, e32, m1, ta, mu", "vle32.v v8, (a1), v0.t", "vluxei32.v v10, (a2), v12"],
        ["lui a5, 0x1", "sub a4, a1, a5", "vse32.v v8, (a4)"],
    ],
)  # fmt: skip
def test_addresses_are_made_as_in_the_kernel(lines: list[str], tmp_path: Path) -> None:
    """It runs to its end, and the second pass finds all its data in the nearest cache."""
    placed = place(loop_of(*lines), "loop")
    program = assemble_micros(K1, [placed.micro], tmp_path)
    ((_, warm),) = run_micros(program, K1, [placed.micro])
    assert warm.instructions == (len(lines) + 2) * placed.micro.iterations
    assert warm.bytes_by_level["l1"] > 0
    assert warm.bytes_by_level["l2"] == 0


@pytest.mark.parametrize(
    "lines",
    [
        ["ld a1, 0(a1)", "flw fa0, 0(a1)"],
        ["auipc a1, 0xffffe", "flw fa0, 0x20(a1)"],
        ["slli a2, a1, 1", "flw fa0, 0(a1)", "flw fa1, 0(a2)"],
        ["csrr a5, vlenb", "add a1, a1, a5", "vle32.v v8, (a1)"],
        ["vid.v v12", "vluxei32.v v10, (a2), v12"],
    ],
)
def test_what_cannot_be_placed_says_so(lines: list[str]) -> None:
    with pytest.raises(Unplaced, match="keep its addresses in one place"):
        place(loop_of(*lines), "loop")


def test_vector_code_under_an_unknown_state_is_not_placed() -> None:
    with pytest.raises(Unplaced, match="state is not known"):
        place(loop_of("vle32.v v8, (a1)", vtype=None), "loop")
    place(loop_of("vsetivli zero, 4, e32, m1, ta, ma", "vle32.v v8, (a1)", vtype=None), "loop")
