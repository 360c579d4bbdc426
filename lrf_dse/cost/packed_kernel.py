"""What IREE's data-tiled kernel of a candidate does, counted for the closed form: the terms of builder `iree-tiled`.

Weights are packed into tiles when the program is built, so that a step reads one vector row of 4 registers and up to 7
scalars, each next to the last. The input is packed by a dispatch of its own; every stage stores its output, element by
element, where the next one's tiles want it; the last one unpacks.
"""

from __future__ import annotations

from itertools import pairwise

from lrf_dse.cost.counts import FP32_BYTES
from lrf_dse.cost.machine import Machine, far_share
from lrf_dse.cost.matmuls import MOST_ROWS, MatMul, PackedTiling, ceil_div, matmuls, packed_tiling
from lrf_dse.cost.plain_kernel import Terms, beside_terms, total
from lrf_dse.schema import Candidate

_LMUL = 4


def packed_terms(candidate: Candidate, machine: Machine) -> Terms:
    """Amounts by the names of lrf_dse.target.TERMS["iree-tiled"]."""
    stages = matmuls(candidate)
    tilings = [packed_tiling(m, machine.lanes) for m in stages]
    pairs = list(zip(stages, tilings, strict=True))
    weights = [_packed_bytes(m, t, machine, weights=True) for m, t in pairs]
    footprint = sum(weights) + max(_packed_bytes(m, t, machine, weights=False) for m, t in pairs)
    share, is_near = far_share(machine, footprint), footprint <= machine.near_bytes
    parts = [beside_terms(candidate, stages), _input(*pairs[0], machine)]
    for (m, t), size in zip(pairs, weights, strict=True):
        parts += [_steps(m, t, machine, share), _lines(size / machine.prefetcher.line_bytes, share, is_near=is_near)]
    hands_on = candidate.tt_shape is not None and candidate.tt_shape.is_low_rank
    for here, after in pairwise(pairs):
        parts.append(_handed_on(*here) if hands_on else _scattered(*here, *after, machine))
    last, t = pairs[-1]
    parts.append({"transposed_rows": float(_tiles(last, t) * t.tile_rows * t.transposed)})
    return total(parts)


def _tiles(m: MatMul, t: PackedTiling) -> int:
    return m.batches * t.row_tiles * t.column_tiles


def _is_high(m: MatMul, t: PackedTiling, *, weights: bool) -> bool:
    """Whether the weights (or the state) are what is read by scalars, in tiles of `tile_rows`."""
    return ((m.weights == "A") == weights) != t.transposed


def _packed_elements(m: MatMul, t: PackedTiling, machine: Machine, *, weights: bool) -> int:
    """Elements of an operand with the padding of its tiles."""
    if _is_high(m, t, weights=weights):
        return m.batches * m.k * t.row_tiles * t.tile_rows
    return m.batches * m.k * t.column_tiles * machine.lanes * _LMUL


def _packed_bytes(m: MatMul, t: PackedTiling, machine: Machine, *, weights: bool) -> int:
    return FP32_BYTES * _packed_elements(m, t, machine, weights=weights)


def _steps(m: MatMul, t: PackedTiling, machine: Machine, share: float) -> Terms:
    step = machine.step_cycles(t.tile_rows, _LMUL)
    terms = {"dispatches": 1.0, "steps": _tiles(m, t) * m.k * step}
    if not _is_high(m, t, weights=True):  # a panel of vectors serves one column of tiles
        lines = machine.lanes * _LMUL * FP32_BYTES / machine.prefetcher.line_bytes
        late = max(0.0, machine.far_step_cycles(lines, _LMUL) - step * t.row_tiles)
        terms["far_steps"] = m.batches * t.column_tiles * m.k * share * late
    return terms


def _lines(lines: float, share: float, *, is_near: bool) -> Terms:
    return {} if is_near else {"near_lines": lines * (1 - share), "far_lines": lines * share}


def _input(m: MatMul, t: PackedTiling, machine: Machine) -> Terms:
    """The input in tiles: copied by vectors where these lie in its rows, else gathered."""
    high = _is_high(m, t, weights=False)
    width = t.tile_rows if high else machine.lanes * _LMUL
    free = m.columns if m.weights == "A" else m.rows
    pieces = m.batches * m.k * ceil_div(free, width)
    if m.weights == "A" and not high:
        return {"dispatches": 1.0, "pack_vectors": float(pieces)}
    if width == 1:
        return {"dispatches": 1.0, "pack_scalars": float(pieces)}
    return {"dispatches": 1.0, "pack_elements": float(pieces * width)}


def _handed_on(m: MatMul, t: PackedTiling) -> Terms:
    """Without a reshape between, as in a low-rank pair, whole tiles are unpacked and packed again."""
    return {"handed_rows": float(_tiles(m, t) * t.tile_rows)}


def _scattered(m: MatMul, t: PackedTiling, after: MatMul, tiling: PackedTiling, machine: Machine) -> Terms:
    """Every element's place in the next stage's tiles is found by division, through the reshape between."""
    stored = m.batches * m.rows * m.columns
    inner = [after.k] if after.weights == "B" else [after.columns]
    if after.weights == "A" and after.batches > 1:
        inner.append(after.k * after.columns)
    by_seven = _is_high(after, tiling, weights=False) and tiling.tile_rows == MOST_ROWS
    divisions = sum(size & (size - 1) != 0 for size in inner) + by_seven
    return {
        "scattered": float(stored),
        "divisions": float(stored * divisions),
        "skipped": float(_tiles(m, t) * t.tile_rows * machine.lanes * _LMUL - stored),
        "padded": float(_packed_elements(after, tiling, machine, weights=False) - stored),
    }
