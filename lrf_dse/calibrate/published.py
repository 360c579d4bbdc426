"""Published figures of chips, each with the microbenchmark that reproduces it.

An entry is `fitted` where its figure set a parameter of the timing model (an instruction's cost, a cache's latency, a
rate), so that it checks the mechanism only; `simulated` where another simulator's figure is the other side: a
cross-check; `silicon` where a board measured it and it set nothing: only these validate the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lrf_dse.calibrate.micro import Micro, groups, lines_of, vector_setup
from lrf_dse.calibrate.mixed import chains, chases, mispredicted_jump, mixed_loops
from lrf_dse.calibrate.silicon import Level, Measured, Range, measured
from lrf_dse.target import Target

Kind = Literal["fitted", "simulated", "silicon"]
LMULS = (1, 2, 4, 8)

PerLmul = tuple[Range, Range, Range, Range]

X60_BENCH = "rvv-bench, Banana Pi F3"
X60_LLVM = "LLVM 22.1, spacemit-x60"
X60_MCA = "llvm-mca 22.1, spacemit-x60"
X60_MEASURED = "measured on K1"
X100_BENCH = "rvv-bench, SpacemiT K3"


@dataclass(frozen=True)
class Published:
    """A figure: what was published lies between `low` and `high`, which are equal for a single one.

    `sets` is what a fitted entry set, where that is not plain from its name. `level` is where the data of a whole loop
    are.
    """

    micro: Micro
    low: float
    high: float
    kind: Kind
    source: str
    level: Level | None = None
    sets: str = ""


def published(target: Target) -> tuple[Published, ...]:
    """All that is known of `target` and can be run; empty for a chip of which nothing usable is published."""
    parts = _MAKERS.get(target.name, lambda: iter(()))()
    return (*parts, *(_of_board(entry) for entry in measured(target.name)))


def _of_board(entry: Measured) -> Published:
    kind: Kind = "fitted" if entry.sets else "silicon"
    return Published(entry.micro, entry.low, entry.high, kind, entry.source, entry.level, entry.sets)


def _entry(micro: Micro, figure: Range, kind: Kind, source: str) -> Published:
    low, high = figure if isinstance(figure, tuple) else (figure, figure)
    return Published(micro, low, high, kind, source)


# The operands of an instruction, given a destination and a source group.
_OPERANDS: Mapping[str, str] = {
    "vfmacc.vf": "{d}, fa0, {s}",
    "vfmacc.vv": "{d}, {s}, {s}",
    "vfadd.vv": "{d}, {s}, {s}",
    "vfmul.vv": "{d}, {s}, {s}",
    "vle32.v": "{d}, (a0)",
    "vse32.v": "{d}, (a0)",
    "vlse32.v": "{d}, (a0), a1",
    "vsse32.v": "{d}, (a0), a1",
    "vfmv.v.f": "{d}, fa0",
    "vadd.vv": "{d}, {s}, {s}",
    "vsll.vi": "{d}, {s}, 1",
    "vfredusum.vs": "{d}, {s}, {s}",
    "vrgather.vv": "{d}, {s}, {s}",
    "vslidedown.vi": "{d}, {s}, 1",
    "vcompress.vm": "{d}, {s}, {s}",
}


def _throughput(name: str, lmul: int) -> Micro:
    """Independent instructions, each with a destination of its own; the last group is a source of all."""
    *targets, source = groups(lmul)
    # M8 has three destinations: the loop counter and the branch would weigh too much beside three instructions.
    repeat = max(1, 12 // len(targets))
    operands = _OPERANDS[name]
    body = [f"{name} {operands.format(d=group, s=source)}" for group in targets * repeat]
    return Micro(f"{name} m{lmul}", lines_of(body), len(body), setup=vector_setup(lmul))


def _other(instruction: str, sew: int, lmul: str) -> Micro:
    """Independent instructions at e`sew` and `lmul`; results may be twice as wide, or have several fields."""
    name = instruction.partition(" ")[0]
    fields = re.search(r"seg(\d)", name)
    # Registers that one result takes: twice the LMUL where it is widened, the LMUL for each field of a segment.
    wide = 2 if name.startswith(("vw", "vfw")) else int(fields[1]) if fields else 1
    group = max(1, wide // 2) if lmul.startswith("mf") else wide * int(lmul[1:])
    targets = [f"v{first}" for first in range(0, 16, group)]
    body = [instruction.format(d=target, s="v16", s2="v24") for target in targets * max(1, 8 // len(targets))]
    # The assembler must know half precision for e16, also where the target is not compiled for it.
    setup = [".option arch, +zfh, +zvfh", f"vsetvli t0, x0, e{sew}, {lmul}, ta, ma"]
    return Micro(f"{name} e{sew} {lmul}", lines_of(body), len(body), setup=lines_of(setup))


def _throughputs(table: Mapping[str, PerLmul], source: str) -> Iterator[Published]:
    for name, figures in table.items():
        for lmul, figure in zip(LMULS, figures, strict=True):
            yield _entry(_throughput(name, lmul), figure, "fitted", source)


def _latency(name: str, instruction: str, *, lmul: int | None = None) -> Micro:
    setup = "" if lmul is None else vector_setup(lmul)
    return Micro(f"{name} latency", lines_of([instruction] * 8), 8, setup=setup)


# What rvv-bench shows of an X60, in cycles at M1, M2, M4, M8.
_X60_THROUGHPUT: Mapping[str, PerLmul] = {
    "vfmacc.vf": (1, 2, 4, 8),
    "vfmacc.vv": (1, 2, 4, 8),
    "vfadd.vv": (1, 2, (4, 4.5), 8),
    "vfmul.vv": (1, 2, (4, 4.5), 8),
    "vle32.v": ((2, 2.45), (4, 4.35), (7.9, 8.6), (15.7, 16.5)),
    "vse32.v": ((2.75, 3), (4.5, 4.8), 8.5, 19.7),
    "vlse32.v": (8, 16, 32, 64),
    "vsse32.v": (8, 16, 32, 64),
    "vfmv.v.f": (2, 4, 8, 16),
    "vadd.vv": (1, 2, 4, 8),
    "vsll.vi": (2, 4, 8, 16),
    "vfredusum.vs": (5, 8.1, 14.3, 52.3),
    "vrgather.vv": (4, 16, 64, 256),
    "vslidedown.vi": (3, 5, 9, 17),
}
# Of other element widths: instruction, SEW, LMUL before the instruction, cycles.
_X60_OTHER: tuple[tuple[str, int, str, float], ...] = (
    *(("vfmacc.vf {d}, fa0, {s}", 16, lmul, cycles) for lmul, cycles in (("m1", 1), ("m2", 2), ("m4", 4), ("m8", 8))),
    *(("vfwmacc.vf {d}, fa0, {s}", 16, lmul, cycles) for lmul, cycles in (("mf2", 1), ("m1", 2), ("m2", 4), ("m4", 8))),
    *(("vfwcvt.f.f.v {d}, {s}", 16, lmul, cycles) for lmul, cycles in (("mf2", 2), ("m1", 4), ("m2", 8), ("m4", 16))),
    *(("vfncvt.f.f.w {d}, {s}", 16, lmul, cycles) for lmul, cycles in (("mf2", 2), ("m1", 4), ("m2", 8), ("m4", 16))),
    *(("vwmacc.vv {d}, {s}, {s2}", 8, lmul, cycles) for lmul, cycles in (("mf2", 1), ("m1", 2), ("m2", 4), ("m4", 8))),
    *(("vwmul.vv {d}, {s}, {s2}", 8, lmul, cycles) for lmul, cycles in (("mf2", 1), ("m1", 2), ("m2", 4), ("m4", 8))),
    *(("vwadd.wv {d}, {d}, {s}", 16, lmul, cycles) for lmul, cycles in (("mf2", 1), ("m1", 2), ("m2", 4), ("m4", 8))),
    *(("vrgatherei16.vv {d}, {s}, {s2}", 8, lmul, cycles) for lmul, cycles in (("m1", 8), ("m2", 32), ("m4", 128))),
    ("vmseq.vv {d}, {s}, {s}", 8, "m8", 11),
    ("vfdiv.vv {d}, {s}, {s}", 16, "m1", 29.9),
    ("vfdiv.vv {d}, {s}, {s}", 32, "m1", 38.3),
    ("vfdiv.vf {d}, {s}, fa0", 32, "m1", 12),
    ("vfdiv.vf {d}, {s}, fa0", 16, "m1", 17.8),
    ("vle8ff.v {d}, (a0)", 8, "m1", 5.6),
    ("vle8ff.v {d}, (a0)", 8, "m8", 19.4),
    ("vlseg2e8.v {d}, (a0)", 8, "m1", 12.5),
    ("vsseg2e8.v {d}, (a0)", 8, "m1", 6.1),
)
# The costs of these follow from two fields.
_X60_SEGMENTS: tuple[tuple[str, int, str, float], ...] = (
    ("vlseg4e8.v {d}, (a0)", 8, "m1", 24.5),
    ("vsseg4e8.v {d}, (a0)", 8, "m1", 12.7),
)
_X60_LATENCY: Mapping[str, tuple[str, PerLmul]] = {
    "vfmacc.vf": ("vfmacc.vf v8, fa0, v16", (5, 5, 5, 8)),
    "vfadd.vv": ("vfadd.vv v8, v8, v16", (4, 4, 5, 8)),
    "vfmul.vv": ("vfmul.vv v8, v8, v16", (4, 4, 5, 8)),
    "vfredusum.vs": ("vfredusum.vs v8, v16, v8", (15, 21, 33, 57)),
}
_X60_SCALAR_LATENCY: Mapping[str, tuple[str, Range]] = {
    "fadd.s": ("fadd.s fa0, fa0, fa1", 4),
    "fmul.s": ("fmul.s fa0, fa0, fa1", 4),
    "fmadd.s": ("fmadd.s fa0, fa0, fa1, fa2", 5),
}
# In L1, in L2 and in memory.
_X60_LOAD_TO_USE: tuple[Range, Range, Range] = ((3, 5), 40, (345, 430))


def _x60_fitted() -> Iterator[Published]:
    """The instructions of the tables, and the latencies of caches, memory and mispredicted jumps."""
    yield from _throughputs(_X60_THROUGHPUT, X60_BENCH)
    for instruction, sew, vtype_lmul, cycles in _X60_OTHER:
        yield _entry(_other(instruction, sew, vtype_lmul), cycles, "fitted", X60_BENCH)
    # v0 is the mask and v30 the source: neither is a destination.
    masked = lines_of(f"vfmacc.vf {group}, fa0, v30, v0.t" for group in groups(2)[1:-1])
    micro = Micro("vfmacc.vf m2, masked", masked, len(groups(2)) - 2, setup=vector_setup(2))
    yield _entry(micro, 4, "fitted", f"{X60_BENCH}: a masked FMA costs twice")
    for name, (chain, latencies) in _X60_LATENCY.items():
        for lmul, latency in zip(LMULS, latencies, strict=True):
            yield _entry(_latency(f"{name} m{lmul}", chain, lmul=lmul), latency, "fitted", X60_LLVM)
    for name, (chain, latency) in _X60_SCALAR_LATENCY.items():
        yield _entry(_latency(name, chain), latency, "fitted", X60_LLVM)
    for micro, figure in zip(chases(), _X60_LOAD_TO_USE, strict=True):
        yield _entry(micro, figure, "fitted", X60_MEASURED)
    yield _entry(mispredicted_jump(), 9, "fitted", f"{X60_LLVM}: nine stages")


# Cycles an iteration in LLVM's model, in the order of `mixed_loops` and of `chains`.
_X60_MIXED: tuple[float, ...] = (19, 32, 16, 29, 18)
_X60_CHAINS: tuple[float, ...] = (10, 15, 11)


def _loops(micros: Iterable[Micro], cycles: Iterable[float], source: str) -> Iterator[Published]:
    for micro, figure in zip(micros, cycles, strict=True):
        yield _entry(micro, figure, "simulated", source)


def _k1() -> Iterator[Published]:
    yield from _x60_fitted()
    yield from _loops(mixed_loops(), _X60_MIXED, X60_MCA)
    yield from _loops(chains(), _X60_CHAINS, X60_MCA)
    for instruction, sew, lmul, cycles in _X60_SEGMENTS:
        yield replace(_entry(_other(instruction, sew, lmul), cycles, "silicon", X60_BENCH), level="L1")


_X100_THROUGHPUT: Mapping[str, PerLmul] = {
    "vfmacc.vf": (1, 2, 4, 8),
    "vfadd.vv": (1, 2, 4, 8),
    "vle32.v": (1.37, 2.81, 5.91, 12.5),
    "vrgather.vv": (2, 8, 32, 128),
    "vslidedown.vi": (2, 4, 8, 16),
    "vcompress.vm": (3, 10, 36, 135),
}


def _k3() -> Iterator[Published]:
    yield from _throughputs(_X100_THROUGHPUT, X100_BENCH)


_MAKERS: Mapping[str, Callable[[], Iterator[Published]]] = {"spacemit-k1": _k1, "spacemit-k3": _k3}
