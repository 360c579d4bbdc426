"""Published measurements of chips, each with the microbenchmark that reproduces it.

An entry is `fitted` where the figure is a parameter of the timing model (an instruction's cost, a cache's latency), so
that it checks the mechanism only, and `held_out` where it is not: only these validate the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lrf_dse.bench.micro import Micro, groups, lines_of, vector_setup
from lrf_dse.bench.mixed import chains, chases, copies, gemm, mispredicted_jump, mixed_loops, reads
from lrf_dse.target import Target

Kind = Literal["fitted", "held_out"]
LMULS = (1, 2, 4, 8)

# A single figure, or what it was measured to lie between.
Range = float | tuple[float, float]
PerLmul = tuple[Range, Range, Range, Range]

X60_BENCH = "rvv-bench, Banana Pi F3"
X60_LLVM = "LLVM 22.1, spacemit-x60"
X60_MCA = "llvm-mca 22.1, spacemit-x60"
X60_MEASURED = "measured on K1"
X100_BENCH = "rvv-bench, SpacemiT K3"


@dataclass(frozen=True)
class Published:
    """A measurement: what was published lies between `low` and `high`, which are equal for a single figure."""

    micro: Micro
    low: float
    high: float
    kind: Kind
    source: str


def published(target: Target) -> tuple[Published, ...]:
    """All that is known of `target` and can be run; empty for a chip of which nothing usable is published."""
    maker = _MAKERS.get(target.name)
    return () if maker is None else tuple(maker())


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
    "vfredusum.vs": "{d}, {s}, {s}",
    "vrgather.vv": "{d}, {s}, {s}",
    "vslidedown.vi": "{d}, {s}, 1",
    "vcompress.vm": "{d}, {s}, {s}",
}


def _throughput(name: str, lmul: int) -> Micro:
    """Independent instructions, each with a destination of its own; the last group is a source of all."""
    *targets, source = groups(lmul)
    repeat = max(1, 12 // len(targets))
    operands = _OPERANDS[name]
    body = [f"{name} {operands.format(d=group, s=source)}" for group in targets * repeat]
    return Micro(f"{name} m{lmul}", lines_of(body), len(body), setup=vector_setup(lmul))


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
    "vfredusum.vs": (6.5, 11, 17, 54),
    "vrgather.vv": (4, 16, 64, 256),
    "vslidedown.vi": (3, 5, 9, 17),
}
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


# Bytes copied in a cycle, read and written each counted once, in L1, L2 and memory.
_X60_COPY: Mapping[str, Range] = {"L1": (5, 6.6), "L2": (4, 4.6), "DRAM": 1.7}
# Cycles an iteration in LLVM's model, in the order of `mixed_loops` and of `chains`.
_X60_MIXED: tuple[float, ...] = (19, 32, 16, 29, 18)
_X60_CHAINS: tuple[float, ...] = (10, 15, 11)
# A read is at least as fast as the read half of a copy, and at most as all that a copy moves: it reads the source, and
# the destination's old lines, and writes them back.
_X60_READ: Mapping[str, Range] = {"L2": (4, 3 * 4.6), "DRAM": (1.7, 3 * 1.7)}


def _x60_held_out() -> Iterator[Published]:
    """Rates and loops that the model's parameters do not contain."""
    for micro in copies(_X60_COPY):
        yield _entry(micro, _X60_COPY[micro.name.split()[0]], "held_out", X60_BENCH)
    for micro in reads(_X60_READ):
        yield _entry(micro, _X60_READ[micro.name.split()[0]], "held_out", f"bounds by the copy rates, {X60_BENCH}")
    yield from _loops(mixed_loops(), _X60_MIXED, X60_MCA)
    yield from _loops(chains(), _X60_CHAINS, X60_MCA)
    source = "K1: 22-24 GFLOP/s in llama.cpp's SIMD GEMM, 17.5-24.8 in OpenCV; threads not stated, taken as one core"
    yield _entry(gemm(freq_hz=1.6e9), (17.5, 24.8), "held_out", source)


def _loops(micros: Iterable[Micro], cycles: Iterable[float], source: str) -> Iterator[Published]:
    for micro, figure in zip(micros, cycles, strict=True):
        yield _entry(micro, figure, "held_out", source)


def _k1() -> Iterator[Published]:
    yield from _x60_fitted()
    yield from _x60_held_out()


_X100_THROUGHPUT: Mapping[str, PerLmul] = {
    "vfmacc.vf": (1, 2, 4, 8),
    "vfadd.vv": (1, 2, 4, 8),
    "vrgather.vv": (2, 8, 32, 128),
    "vslidedown.vi": (2, 4, 8, 16),
    "vcompress.vm": (3, 10, 36, 135),
}


def _k3() -> Iterator[Published]:
    yield from _throughputs(_X100_THROUGHPUT, X100_BENCH)
    yield _entry(_throughput("vle32.v", 1), 1.37, "fitted", X100_BENCH)


_MAKERS: Mapping[str, Callable[[], Iterator[Published]]] = {"spacemit-k1": _k1, "spacemit-k3": _k3}
