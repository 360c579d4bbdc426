"""Cycles of a stage in plain C: its tiles on the core's scoreboard, and what its operands take from farther caches.

The instructions are those of `lrf_dse.codegen.scalar`, with the addresses that clang 22 makes of them: a pointer for
the panel, an index for the state, one more for each column that lies too far from the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.scalar import TILE, parts, tiles_batches
from lrf_dse.codegen.scoreboard import Instruction, cycles_of_loop
from lrf_dse.codegen.tiling import panel_runs
from lrf_dse.codegen.traffic import USABLE, level_rate, rate_beyond
from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.target import Target

# The offset of a RISC-V load is a signed number of 12 bits (unprivileged ISA manual, I-type).
REACH_BYTES = 2047
"""How far from its pointer a load reaches."""
PREDICTED_TURNS = 8
"""The end of a loop with more turns is mispredicted: its history does not fit the predictor's."""
AROUND = 6
"""Integer instructions around a tile: the loops that call it, and its pointers."""


def scalar_stage_cycles(stage: StagePlan, touched: int, target: Target) -> float:
    """One call of a stage, with `touched` bytes between two calls, on the threads that share it."""
    cost = partial(_tile_cycles, stage, target)
    known: dict[tuple[int, int], float] = {}
    cycles = 0.0
    for height, width, count in scalar_tiles(stage):
        size = height, width
        if size not in known:
            known[size] = cost(height, width)
        cycles += count * known[size]
    return max(cycles / min(stage.groups, target.core.count), _memory_cycles(stage, touched, target))


def scalar_tiles(stage: StagePlan) -> Iterator[tuple[int, int, int]]:
    """Rows and columns (or batches) of every tile of one call, and how many there are."""
    for run in panel_runs(stage.panels):
        for rows in parts(run.first.rows):
            count = run.count * rows.count * stage.k_slices
            if tiles_batches(stage):
                wide, narrow = _batch_tiles(stage)
                yield rows.size, TILE, count * stage.columns * wide
                yield rows.size, 1, count * stage.columns * narrow
            else:
                for columns in parts(stage.columns):
                    yield rows.size, columns.size, count * columns.count * stage.batches


def _batch_tiles(stage: StagePlan) -> tuple[int, int]:
    """Tiles of TILE batches and of one: none crosses from one row of y to the next where the bias starts again."""
    period = stage.bias_batches if stage.has_bias and stage.bias_batches > 1 else stage.batches
    periods = stage.batches // period
    return periods * (period // TILE), periods * (period % TILE)


def _tile_cycles(stage: StagePlan, target: Target, height: int, width: int) -> float:
    """One tile with its operands in the first cache."""
    far = tiles_batches(stage) and FP32_BYTES * stage.in_step * (width - 1) > REACH_BYTES
    pointers = width if far else 1
    turns = stage.k - 1
    cycles = cycles_of_loop(_start(stage, height, width), _turn(height, width, pointers), turns, target)
    end = cycles_of_loop(_end(stage, height, width), [], 0, target)
    timing = target.timing
    mispredicted = timing.mispredict_cycles.value if timing is not None and turns > PREDICTED_TURNS else 0.0
    return cycles + end + mispredicted


def _sums(height: int, width: int) -> list[tuple[str, str, str]]:
    """Each sum with its two operands, in the order of the multiply-adds."""
    return [(f"sum{r}{c}", f"a{r}", f"b{c}") for c in range(width) for r in range(height)]


def _start(stage: StagePlan, height: int, width: int) -> list[Instruction]:
    """Addresses, first operands, and sums that start from zero or from the slices before."""
    cleared = "float_load" if stage.partial else "float_add"
    loads = [f"a{r}" for r in range(height)] + [f"b{c}" for c in range(width)]
    return [
        Instruction("int_mul_word", "a"),
        *[Instruction("int_alu", "a", ("a",))] * AROUND,
        *(Instruction("float_load", name, ("a",)) for name in loads),
        *(Instruction(cleared, name) for name, _, _ in _sums(height, width)),
    ]


def _turn(height: int, width: int, pointers: int) -> list[Instruction]:
    """One step of k: after the last use of an operand its next one is loaded."""
    lines: list[Instruction] = []
    for c in range(width):
        for r in range(height):
            lines.append(Instruction("float_fma", f"sum{r}{c}", (f"a{r}", f"b{c}", f"sum{r}{c}")))
            if c == width - 1:
                lines.append(Instruction("float_load", f"a{r}", ("a",)))
        if c < pointers:
            lines.append(Instruction("int_alu", f"p{c}", ("k",)))
        lines.append(Instruction("float_load", f"b{c}", (f"p{min(c, pointers - 1)}",)))
    step = [Instruction("int_alu", name, (name,)) for name in ("a", "k")]
    return [*lines, *step, Instruction("branch", None, ("k",))]


def _end(stage: StagePlan, height: int, width: int) -> list[Instruction]:
    """The last products, the bias, and the stores."""
    sums = _sums(height, width)
    lines = [Instruction("float_fma", name, (name,)) for name, _, _ in sums]
    if stage.has_bias:
        lines += [Instruction("float_load", f"bias {name}") for name, _, _ in sums]
        lines += [Instruction("float_add", name, (name, f"bias {name}")) for name, _, _ in sums]
    return [*lines, *(Instruction("float_store", None, (name,)) for name, _, _ in sums)]


def _memory_cycles(stage: StagePlan, touched: int, target: Target) -> float:
    """What the bytes of one call take from where they lie."""
    usable = (target.memory[0].size_bytes or 0) * USABLE[0]
    weights, states, again = _bytes(stage, usable)
    # States were written just before, so they come from the second cache at the latest; weights from where they stay
    # between two runs.
    near = level_rate(target, min(1, len(target.memory) - 1))
    return weights / rate_beyond(target, touched) + (states + again) / near


def _bytes(stage: StagePlan, usable: float) -> tuple[float, float, float]:
    """Weights and states of one call, each once, and what passes again because it does not stay in the first cache."""
    weights = FP32_BYTES * stage.k_slices * stage.slice_floats
    state, out = FP32_BYTES * stage.in_floats, FP32_BYTES * stage.out_floats
    panels = len(stage.panels)
    # The order of the loops in `lrf_dse.codegen.scalar` decides what passes again: for every batch all panels, or for
    # every panel all of the state.
    if not tiles_batches(stage):
        one = FP32_BYTES * stage.in_step
        weights_again = 0 if weights <= usable else weights * (stage.batches - 1)
        state_again = 0 if one <= usable else state * (panels - 1)
    elif stage.batches < stage.rows:
        weights_again, state_again = 0, 0 if state <= usable else state * (panels - 1)
    else:
        weights_again, state_again = 0 if weights <= usable else weights * (stage.batches // TILE - 1), 0
    return weights, state + 2 * out, weights_again + state_again
