"""What IREE's plain kernel of a candidate does, counted for the closed form: the terms of builder `iree`.

A workgroup computes a tile of C in blocks of at most 7 rows and 4 registers. One step of a block's loop loads a vector
of B and, row by row, a scalar of A that multiplies it. So B comes by vectors at the pitch of its rows, A by scalars.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.cost.machine import Machine, far_share, state_bytes, stays_in_last, stays_near, weight_bytes
from lrf_dse.cost.matmuls import Blocks, MatMul, Tiling, ceil_div, lmul_of, matmuls, tiling
from lrf_dse.cost.prefetch import left_out
from lrf_dse.schema import Candidate

Terms = dict[str, float]

_HOISTED_BYTES = 1 << 20
"""Constants that grow by more are broadcast when the program runs, not when it is built."""


def plain_terms(candidate: Candidate, machine: Machine) -> Terms:
    """Amounts by the names of lrf_dse.target.TERMS["iree"]."""
    stages = matmuls(candidate)
    footprint = sum(map(weight_bytes, stages)) + max(map(state_bytes, stages))
    share, is_near = far_share(machine, footprint), footprint <= machine.near_bytes
    return total([*(_stage(m, machine, share, is_near) for m in stages), beside_terms(candidate, stages)])


def beside_terms(candidate: Candidate, stages: tuple[MatMul, ...]) -> Terms:
    """Dispatches beside the MatMuls: the bias of reshaped rows, and weights too large to be broadcast beforehand."""
    layer, terms = candidate.layer, defaultdict[str, float](float)
    if candidate.order == "first_first" and candidate.tt_shape is not None and layer.has_bias and layer.batch > 1:
        terms["dispatches"] += 1
        terms["elementwise"] += layer.batch * layer.out_features
    for m in stages:
        copied = weight_bytes(m)
        if m.batches > 1 and copied - copied // m.batches > _HOISTED_BYTES:
            terms["dispatches"] += 1
            terms["broadcast"] += copied
    return terms


def loop_cycles(machine: Machine, rows: int, columns: int) -> float:
    """One step of all inner loops of a MatMul [rows, k] x [k, columns], from the near cache."""
    t = tiling(MatMul(1, rows, columns, 1, "B"), machine.lanes)
    return sum(
        block.count * rows.count * _step_cycles(machine, t, block, rows)
        for block in t.column_blocks
        for rows in t.row_blocks
    )


def total(parts: list[Terms]) -> Terms:
    """The sum of terms, name by name."""
    whole = defaultdict[str, float](float)
    for part in parts:
        for name, amount in part.items():
            whole[name] += amount
    return whole


@lru_cache(maxsize=65536)
def _stage(m: MatMul, machine: Machine, share: float, is_near: bool) -> Terms:
    t = tiling(m, machine.lanes)
    own = {"dispatches": 1.0, "workgroups": float(m.batches * t.row_tiles * t.column_tiles)}
    far, last = _panel_visits(m, t, machine, share, is_near=is_near)
    panels = [_panels(m, t, block, machine, far=far, last=last) for block in t.column_blocks]
    return total([own, *panels, _scalar_operand(m, t, machine, share, is_near=is_near)])


def _panel_visits(m: MatMul, t: Tiling, machine: Machine, share: float, *, is_near: bool) -> tuple[float, float]:
    """How often a panel of B is read from memory and from the last cache.

    Every block of rows reads it, and finds it near if nothing larger than the near cache was read since: B whole, or
    the part of it that one workgroup needs.
    """
    pitch, row = FP32_BYTES * m.columns, FP32_BYTES * m.k
    blocks = sum(block.count for block in t.row_blocks)
    all_stay = stays_near(machine, m.k, pitch, pitch, beside=row * t.tile_rows)
    tile_stays = stays_near(machine, m.k, pitch, FP32_BYTES * t.tile_columns, beside=row * t.row_blocks[0].size)
    fetched = 1 if all_stay else t.row_tiles if tile_stays else blocks
    size = pitch * m.k
    if m.weights == "A":  # B is the state that the stage before has just written
        return 0.0, fetched - (size <= machine.near_bytes // 2)
    far = share * (1 if stays_in_last(machine, size) else fetched)
    return far, fetched - (1 if is_near else far)


def _panels(m: MatMul, t: Tiling, block: Blocks, machine: Machine, *, far: float, last: float) -> Terms:
    """The steps of all blocks of C that are `block` wide, and the lines of B that these wait for."""
    pitch, width = FP32_BYTES * m.columns, FP32_BYTES * block.size
    line, panels = machine.prefetcher.line_bytes, m.batches * block.count
    loads, lmul = panels * m.k, _lmul(t, block, machine)
    cycles = [(rows.count, _step_cycles(machine, t, block, rows)) for rows in t.row_blocks]
    all_cycles = sum(count * each for count, each in cycles)
    step = all_cycles / sum(count for count, _ in cycles)
    # Where rows begin within a line, they lie across one more than they fill three times of four.
    lines = width / line + (0.75 if pitch > width and pitch % line else 0.0)
    missed = left_out(machine.prefetcher, pitch, width, m.columns // block.size)
    late = missed.nowhere + missed.late + missed.near_only
    far_late = missed.nowhere * machine.far_wait + missed.late * max(0.0, machine.far_wait - step)
    return {
        "steps": loads * all_cycles,
        "registers": float(panels * lmul * sum(rows.count * rows.size for rows in t.row_blocks)),
        "near_lines": loads * last * lines,
        "near_waits": loads * last * late * machine.near_wait,
        "far_steps": loads * far * max(0.0, machine.far_step_cycles(lines, lmul) - step),
        "far_waits": loads * far * (far_late + missed.near_only * machine.near_wait),
        "far_starts": panels * far,
    }


def _lmul(t: Tiling, block: Blocks, machine: Machine) -> int:
    """Registers of a block's vectors; a masked one has those of a whole one."""
    return lmul_of(t.column_blocks[0].size if block.masked else block.size, machine.lanes)


def _step_cycles(machine: Machine, t: Tiling, block: Blocks, rows: Blocks) -> float:
    return machine.step_cycles(rows.size, _lmul(t, block, machine), masked=block.masked, ragged=rows.masked)


def _scalar_operand(m: MatMul, t: Tiling, machine: Machine, share: float, *, is_near: bool) -> Terms:
    """A's rows, each a stream of its own; they are read again for every tile of columns that they do not outlast."""
    line, row = machine.prefetcher.line_bytes, FP32_BYTES * m.k
    if m.weights == "B":  # A is the state
        share, is_near = 0.0, m.rows * row <= machine.near_bytes // 2
    if is_near:
        return {}
    stays = stays_near(machine, t.tile_rows, row, row, beside=row * min(t.tile_columns, t.column_blocks[0].size))
    lines = m.batches * m.rows * ceil_div(row, line)
    ahead = t.row_blocks[0].size * row <= machine.prefetcher.far_lines * line
    return {
        "rows_near": lines * ((1 if stays else t.column_tiles) - share),
        "rows_far_ahead" if ahead else "rows_far": lines * share,
    }
