"""Figures measured on boards with one thread and a known clock, each with the loop that has it (silicon_loops.py).

An entry is `fitted` if its figure set a cost or a rate of the timing model: `_SET` names what. All others set nothing:
they are the validation. Figures of several or of unknown threads are nobody's core and are not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lrf_dse.calibrate import silicon_loops as loops
from lrf_dse.calibrate.micro import Micro

Level = Literal["compute", "L1", "L2", "DRAM"]
Range = float | tuple[float, float]

KIB, MIB = 1 << 10, 1 << 20
SOURCE = "rvv-bench results (Olaf Bernstein, 2025-26)"
GEMM_SOURCE = "RISC-V Summit Europe 2026, XTDV7A; arXiv 2603.17800: 16.2 GFLOP/s at 1.6 GHz"


@dataclass(frozen=True)
class Measured:
    """A loop, the level that its data are in, and what a board says of it: from `low` to `high`.

    `sets` is the part of the timing model that the figure set; empty for validation.
    """

    micro: Micro
    level: Level
    low: float
    high: float
    source: str
    sets: str = ""


# Bytes a cycle by loop and LMUL, in L1, L2 and memory. None: left out, see LEFT_OUT.
_Row = tuple[Range, Range, Range | None]
_STREAMS: Mapping[str, Mapping[tuple[str, int], _Row]] = {
    "spacemit-k1": {
        ("store", 1): (5.2, 5.3, 4.7),
        ("store", 4): (13.1, (9.4, 10.1), 5.2),
        ("store", 8): (13.1, (9.4, 10.1), 5.2),
        ("copy", 1): (3.9, 3.1, 1.95),
        ("copy", 4): (5.1, 4.2, 2.0),
        ("copy", 8): (5.1, 3.2, 2.15),
        ("read", 1): (2.0, 1.8, 1.85),
        ("read", 4): (5.25, (3.9, 4.5), 4.2),
        ("read", 8): (6.9, (4.0, 4.8), 4.3),
    },
    "canaan-k230": {
        ("store", 1): (2.6, 2.6, 2.6),
        ("store", 4): (7.1, (6.0, 7.3), 4.7),
        ("store", 8): (7.1, (6.0, 7.3), 4.7),
        ("copy", 1): (1.9, 1.9, 1.9),
        ("copy", 4): (3.0, 2.5, 2.06),
        ("copy", 8): (3.1, 2.5, 2.06),
        ("read", 1): (0.99, 0.91, 0.91),
        ("read", 4): (2.6, 2.4, 2.3),
        ("read", 8): (3.4, 2.7, 2.6),
    },
    "spacemit-k3": {
        ("store", 1): (10.5, 8.6, 8.1),
        ("store", 4): (15.7, (8.7, 9.4), 8.2),
        ("store", 8): (15.7, (8.7, 9.4), 8.2),
        ("copy", 1): (5.3, 6.0, 5.0),
        ("copy", 4): (10.5, 8.3, 5.9),
        ("copy", 8): (10.1, 8.3, 5.9),
        ("read", 1): (2.3, 2.3, None),
        ("read", 4): (6.3, 6.4, None),
        ("read", 8): (9.0, (7.0, 7.4), None),
    },
}
LEFT_OUT: Mapping[str, str] = {
    "spacemit-k3 read, DRAM": "2.0 bytes read a cycle contradict the same board's copies of 5.9, which read as much",
}
"""Measurements that no model can agree with, and the physical reason."""

# Bytes of one array at each level: half of it, or less, so that both arrays of a copy fit; twice the last cache beyond.
_SIZES: Mapping[str, tuple[int, int, int]] = {
    "spacemit-k1": (8 * KIB, 112 * KIB, 2 * MIB),
    "canaan-k230": (8 * KIB, 104 * KIB, 2 * MIB),
    "spacemit-k3": (8 * KIB, 256 * KIB, 8 * MIB),
}
_LEVELS: tuple[Level, ...] = ("L1", "L2", "DRAM")
_LOOPS = {"store": loops.store_stream, "copy": loops.copy_stream, "read": loops.read_stream}

# Cycles of a whole picture, by width, LMUL and element width.
_MANDELBROT: Mapping[str, Mapping[tuple[int, int, int], float]] = {
    "spacemit-k1": {
        (35, 1, 32): 240_354,
        (35, 2, 32): 200_615,
        (68, 1, 32): 829_766,
        (68, 2, 32): 645_603,
        (35, 2, 16): 133_485,
        (68, 2, 16): 448_422,
    },
    "canaan-k230": {
        (35, 1, 32): 426_179,
        (35, 2, 32): 325_079,
        (68, 1, 32): 1_497_949,
        (68, 2, 32): 1_120_761,
    },
    "spacemit-k3": {
        (55, 1, 32): 472_593,
        (55, 2, 32): 418_185,
        (72, 1, 32): 779_626,
        (72, 2, 32): 679_057,
    },
}

_SET: Mapping[str, Mapping[str, str]] = {
    "spacemit-k1": {
        "store stream m1, L1": "cycles from vsetvli to its integer result",
        "copy stream m2, L1": "cycles for which a load waits behind a store",
        "copy stream m8, L1": "bytes a cycle at which a store drains before a load",
        "read stream m4, L1": "latency of a comparison at M4",
        "read stream m4, L2": "cycles of a line's first use",
        "read stream m8, L2": "rate of reads out of L2",
        "store stream m4, L2": "cycles of a line that is written back; rate of writes to L2",
        "store stream m8, DRAM": "rate of writes to memory",
        "read stream m8, DRAM": "rate of reads from memory; how far the prefetcher runs ahead",
        "copy stream m8, DRAM": "rate of reads from memory",
        "fp32 GEMM tile 16 x 15, a step": "one scalar load a cycle",
    },
    "canaan-k230": {
        "store stream m8, DRAM": "rate of writes to memory",
        "copy stream m8, DRAM": "rate of reads from memory",
    },
    "spacemit-k3": {
        "store stream m1, L1": "cycles from vsetvli to its integer result",
        "read stream m1, L1": "vector instructions wait for scalar ones ahead of them",
        "copy stream m8, L1": "loads and stores of vectors share their units",
        "read stream m8, L2": "cycles of a line's first use",
        "store stream m8, L2": "rate of writes to L2",
        "store stream m8, DRAM": "rate of writes to memory",
        "copy stream m8, DRAM": "rate of reads from memory; how far the prefetcher runs ahead",
        "mandelbrot 55 x 55, e32 m2": "results wait for a group's last register; one unit computes",
    },
}
"""What each fitted figure set, by chip and name of the entry."""


def measured(target: str) -> Iterator[Measured]:
    """All whole loops measured on the chip `target`."""
    sets = _SET.get(target, {})
    for (loop, lmul), row in _STREAMS.get(target, {}).items():
        for level, size, figure in zip(_LEVELS, _SIZES[target], row, strict=True):
            if figure is not None:
                name = f"{loop} stream m{lmul}, {level}"
                yield _entry(_LOOPS[loop](name, lmul, size), level, figure, SOURCE, sets)
    for (width, lmul, sew), cycles in _MANDELBROT.get(target, {}).items():
        name = f"mandelbrot {width} x {width}, e{sew} m{lmul}"
        yield _entry(loops.mandelbrot(name, width, lmul, sew=sew), "compute", cycles, SOURCE, sets)
    if target == "spacemit-k1":
        without = loops.store_stream_without_vset("store stream m1 without vsetvli, L1", 1, 8 * KIB)
        # One M1 store of 32 bytes in 2.9 cycles; two M1 registers copied in 13.7 (published as cycles an iteration).
        yield _entry(without, "L1", 32 / 2.9, SOURCE, sets)
        yield _entry(loops.copy_stream("copy stream m2, L1", 2, 8 * KIB), "L1", 64 / 13.7, SOURCE, sets)
        yield _entry(loops.gemm_step("fp32 GEMM tile 16 x 15, a step"), "compute", 47, GEMM_SOURCE, sets)


def _entry(micro: Micro, level: Level, figure: Range, source: str, sets: Mapping[str, str]) -> Measured:
    low, high = figure if isinstance(figure, tuple) else (figure, figure)
    return Measured(micro, level, low, high, source, sets.get(micro.name, ""))
