"""Microbenchmarks that measure the costs of the timing model one by one: what `lrf-dse calibrate` runs on a board.

Pure text and numbers. One row of a table for each operation of toolchain/plugin/operations.def that a loop can isolate:
independent instructions give the cycles of its pipe (busy), a chain of dependent ones the cycles to its result
(latency). What needs more than its own kind around it (branches, CSRs, the latency of vector loads, loads that set
vl) is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lrf_dse.calibrate.micro import Micro, groups, lines_of, vector_setup
from lrf_dse.calibrate.mixed import mispredicted_jump, sized_chases
from lrf_dse.target import Target, Timing

LMULS = (1, 2, 4, 8)
# Copies of the instruction in one iteration: the loop's counter and branch are two instructions beside them.
COPIES = 128
CALL = Micro("call", "", 1, iterations=1)
"""What surrounds every other loop: subtracted from all."""

Part = Literal["busy", "latency"]

_ITERATIONS = 20
# So many destinations in turn that none is written again while its result is under way.
_INTEGERS = ("t0", "t1", "t2", "t3", "t4", "a2", "a3")
_FLOATS = ("ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fa5", "fa6", "fa7")
# a4 a large integer, a5 a small one; fa0 and fa1 floats, fa2 and fa3 doubles: dividers may be fast on simple values.
_OPERANDS = """.option arch, +zba, +zbb
        li a4, 0x3fc00001
        li a5, 3
        fmv.w.x fa0, a4
        li t0, 0x3f8ccccd
        fmv.w.x fa1, t0
        fcvt.d.s fa2, fa0
        fcvt.d.s fa3, fa1
        fmv.d ft0, fa3
        mv t0, a5"""
# 17 elements: no core takes it for unit stride, and successive elements lie in different cache lines.
_STRIDE_BYTES = 68


@dataclass(frozen=True)
class Probe:
    """How an operation is isolated, in assembly.

    {d} is the destination, {s} a source that nothing writes, {p} the destination before, {l} is LMUL, {i} and {f} are
    scalar destinations in turn. `chain` is empty where no chain of the operation alone can be made. Vector operations
    run at each of `lmuls` (none: a scalar operation). `halved`: vtype has half the LMUL of what is charged.
    """

    flow: str
    chain: str = ""
    lmuls: tuple[int, ...] = LMULS
    halved: bool = False
    setup: str = ""


@dataclass(frozen=True)
class Case:
    """One loop, and which figure of the table of costs it measures."""

    operation: str
    part: Part
    lmul: int | None
    micro: Micro


def _scalar(flow: str, chain: str = "") -> Probe:
    return Probe(flow, chain, lmuls=())


_SCALAR: Mapping[str, Probe] = {
    "int_alu": _scalar("add {i}, a4, a5", "add t0, t0, a5"),
    "int_shift_add": _scalar("sh1add {i}, a4, a5", "sh1add t0, t0, a5"),
    "int_popcount": _scalar("cpop {i}, a4", "cpop t0, t0"),
    "int_mul_word": _scalar("mulw {i}, a4, a5", "mulw t0, t0, a5"),
    "int_mul": _scalar("mul {i}, a4, a5", "mul t0, t0, a5"),
    # t0 becomes a4 / t0: it goes back and forth between two values. A chain that divides its own result would end at 0,
    # which many dividers finish early.
    "int_div_word": _scalar("divw {i}, a4, a5", "divw t0, a4, t0"),
    "int_div": _scalar("div {i}, a4, a5", "div t0, a4, t0"),
    "load": _scalar("ld {i}, 0(a0)"),
    "store": _scalar("sd a4, 0(a0)"),
    "float_load": _scalar("flw {f}, 0(a0)"),
    "float_store": _scalar("fsw fa0, 0(a0)"),
    "float_add": _scalar("fadd.s {f}, fa0, fa1", "fadd.s ft0, ft0, fa1"),
    "float_mul": _scalar("fmul.s {f}, fa0, fa1", "fmul.s ft0, ft0, fa1"),
    "float_fma": _scalar("fmadd.s {f}, fa0, fa1, fa1", "fmadd.s ft0, ft0, fa1, fa1"),
    "float_div": _scalar("fdiv.s {f}, fa0, fa1", "fdiv.s fa1, fa0, fa1"),
    "float_div_double": _scalar("fdiv.d {f}, fa2, fa3", "fdiv.d ft0, fa2, ft0"),
    # A chain of one direction alone does not exist: the latency is the mean of both.
    "float_convert": _scalar("fcvt.d.s {f}, fa0", "fcvt.s.d ft0, ft0\nfcvt.d.s ft0, ft0"),
    "float_to_int": _scalar("fcvt.w.s {i}, fa0, rtz"),
    "int_to_float": _scalar("fcvt.s.w {f}, a4"),
}

# Indices of a cache line (64 bytes) for each element.
_OFFSETS = "vid.v {s}\n vsll.vi {s}, {s}, 6"
_VECTOR: Mapping[str, Probe] = {
    "v_config": Probe("vsetvli t0, x0, e32, m{l}, ta, ma", lmuls=(1,)),
    "v_int_alu": Probe("vadd.vv {d}, {s}, {s}", "vadd.vv {d}, {d}, {s}"),
    "v_int_shift": Probe("vsll.vi {d}, {s}, 1", "vsll.vi {d}, {d}, 1"),
    "v_int_compare": Probe("vmslt.vv {d}, {s}, {s}"),
    "v_int_mul": Probe("vmul.vv {d}, {s}, {s}", "vmul.vv {d}, {d}, {s}"),
    "v_int_div": Probe("vdivu.vx {d}, {s}, a5"),
    # Widening and narrowing instructions are charged by the LMUL of their wide operand, which is twice that of vtype.
    "v_int_widen": Probe("vwadd.vv {d}, {s}, {s}", halved=True),
    "v_int_narrow": Probe("vnsrl.wi {d}, {s}, 1", halved=True),
    "v_splat": Probe("vfmv.v.f {d}, fa0"),
    "v_move": Probe("vmv.v.v {d}, {s}", "vmv.v.v {d}, {p}"),
    "v_to_int": Probe("vmv.x.s {i}, {s}", lmuls=(1,)),
    "v_to_float": Probe("vfmv.f.s {f}, {s}", lmuls=(1,)),
    "v_from_scalar": Probe("vmv.s.x {d}, a5", lmuls=(1,)),
    "v_float_add": Probe("vfadd.vv {d}, {s}, {s}", "vfadd.vv {d}, {d}, {s}"),
    "v_float_mul": Probe("vfmul.vv {d}, {s}, {s}", "vfmul.vv {d}, {d}, {s}"),
    "v_float_fma": Probe("vfmacc.vf {d}, fa0, {s}", "vfmacc.vf {d}, fa0, {s}"),
    "v_float_widen": Probe("vfwadd.vv {d}, {s}, {s}", halved=True),
    "v_float_div": Probe("vfdiv.vv {d}, {s}, {s}", "vfdiv.vv {d}, {d}, {s}"),
    "v_float_div_scalar": Probe("vfdiv.vf {d}, {s}, fa1", "vfrdiv.vf {d}, {d}, fa1"),
    "v_float_compare": Probe("vmfeq.vv {d}, {s}, {s}"),
    "v_float_sign": Probe("vfsgnj.vv {d}, {s}, {s}", "vfsgnj.vv {d}, {d}, {s}"),
    "v_float_convert": Probe("vfcvt.x.f.v {d}, {s}", "vfcvt.x.f.v {d}, {d}"),
    "v_reduce_int": Probe("vredsum.vs {d}, {s}, {s}", "vredsum.vs {d}, {s}, {d}"),
    "v_reduce_float": Probe("vfredusum.vs {d}, {s}, {s}", "vfredusum.vs {d}, {s}, {d}"),
    "v_reduce_float_ordered": Probe("vfredosum.vs {d}, {s}, {s}", "vfredosum.vs {d}, {s}, {d}"),
    "v_mask_logic": Probe("vmand.mm {d}, {s}, {s}", "vmand.mm {d}, {d}, {s}", lmuls=(1,)),
    "v_mask_count": Probe("vcpop.m {i}, {s}", lmuls=(1,)),
    "v_mask_index": Probe("vid.v {d}"),
    "v_slide": Probe("vslidedown.vi {d}, {s}, 1", "vslidedown.vi {d}, {p}, 1"),
    # The destination of a gather may not overlap its sources (RVV 1.0, section 16.4): chains go between two groups.
    "v_gather": Probe("vrgather.vv {d}, {s}, {s}", "vrgather.vv {d}, {p}, {s}", setup="vid.v {s}"),
    "v_gather16": Probe("vrgatherei16.vv {d}, {s}, {s}", "vrgatherei16.vv {d}, {p}, {s}", setup="vid.v {s}"),
    "v_compress": Probe("vcompress.vm {d}, {s}, {s}"),
    "v_whole_move": Probe("vmv{l}r.v {d}, {s}", "vmv{l}r.v {d}, {p}"),
    "v_load": Probe("vle32.v {d}, (a0)"),
    "v_store": Probe("vse32.v {s}, (a0)"),
    "v_load_strided": Probe("vlse32.v {d}, (a0), a1", setup=f"li a1, {_STRIDE_BYTES}"),
    "v_store_strided": Probe("vsse32.v {s}, (a0), a1", setup=f"li a1, {_STRIDE_BYTES}"),
    "v_load_indexed": Probe("vluxei32.v {d}, (a0), {s}", setup=_OFFSETS),
    "v_store_indexed": Probe("vsuxei32.v {s}, (a0), {s}", setup=_OFFSETS),
    "v_load_whole": Probe("vl{l}re32.v {d}, (a0)"),
    "v_store_whole": Probe("vs{l}r.v {s}, (a0)"),
}

PROBES: Mapping[str, Probe] = {**_SCALAR, **_VECTOR}


def cases_of(operation: str) -> Iterator[Case]:
    """The loops that measure one operation; KeyError for one that none does."""
    probe = PROBES[operation]
    for lmul in probe.lmuls or (None,):
        for part, template in (("busy", probe.flow), ("latency", probe.chain)):
            if template:
                name = f"{operation} {part}" + ("" if lmul is None else f" m{lmul}")
                micro = _loop(name, probe, template, lmul, turns=part == "busy")
                yield Case(operation, "busy" if part == "busy" else "latency", lmul, micro)


def measurable(target: Target) -> tuple[str, ...]:
    """The operations that can be measured on a core like the target's."""
    return tuple(_SCALAR if target.isa.vlen_bits is None else PROBES)


def _loop(name: str, probe: Probe, template: str, lmul: int | None, *, turns: bool) -> Micro:
    """The loop of a probe. Destinations take `turns`, or each result depends on the one before."""
    # At M8 this leaves three destinations: v0, v8 and v16.
    *targets, source = groups(lmul or 1)
    if not turns:
        # One register, or two in turn where the template tells the destination from the one before.
        targets = targets[: 2 if "{p}" in template else 1]
    lines = template.split("\n")
    body = [
        lines[n % len(lines)].format(
            d=targets[n % len(targets)],
            p=targets[n % len(targets) - 1],
            s=source,
            l=lmul,
            i=_INTEGERS[n % len(_INTEGERS)],
            f=_FLOATS[n % len(_FLOATS)],
        )
        for n in range(COPIES)
    ]
    return Micro(name, lines_of(body), COPIES, setup=_setup(probe, lmul, source), iterations=_ITERATIONS)


def _setup(probe: Probe, lmul: int | None, source: str) -> str:
    """Assembly that sets operands and vtype (e32, LMUL or half of it). Sources hold 1.1 unless the probe sets them."""
    lines = [_OPERANDS]
    if lmul is not None:
        lines += [vector_setup(lmul), f"vfmv.v.f {source}, fa1", probe.setup.format(s=source)]
        half = "mf2" if lmul == 1 else f"m{lmul // 2}"
        lines += [f"vsetvli t0, x0, e32, {half}, ta, ma"] if probe.halved else []
    return "\n        ".join(line for line in lines if line)


def machine_cases(timing: Timing) -> Mapping[str, Micro]:
    """Loops for figures that are no instruction's, by their place in a target file: section, number, key.

    Out of order a jump also waits for its address: the loop would measure more than the penalty.
    """
    jump = {"timing mispredict_cycles": mispredicted_jump()} if timing.window is None else {}
    return {**jump, **sized_chases(timing)}
