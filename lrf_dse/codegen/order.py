"""The order of a tile's instructions: which load stands between which multiply-adds, and when sums are stored.

Tiles that follow each other are one stream: while the last steps of one are summed up, the first operands of the next
are loaded, and its first products are taken between the stores of the sums before.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from lrf_dse.codegen.text import at, indented
from lrf_dse.codegen.tile import Tile
from lrf_dse.target import Target

_DEFAULT_LEAD = 4
"""Multiply-adds between a scalar's load and its use on a target whose latencies are not known."""


@dataclass(frozen=True)
class Latencies:
    """In multiply-adds: `lead` from a scalar's load to its use, `result` until a sum can be used again."""

    lead: int
    result: int

    @staticmethod
    def of(tile: Tile, target: Target) -> Latencies:
        """The latencies of `target`, as far as the tile has as many multiply-adds and names for scalars."""
        lead = result = _DEFAULT_LEAD
        if target.timing:
            costs = target.timing.costs.cost
            index = tile.lmul.bit_length() - 1
            fma = costs["v_float_fma"]
            lead = int(-(-costs["float_load"].latency[0] // fma.busy[index])) + 1
            result = int(-(-fma.latency[index] // fma.busy[index]))
        return Latencies(min(lead, tile.rows * min(tile.k, tile.buffers), tile.rows * tile.buffers - 1), result)


def sum_up(tile: Tile, latencies: Latencies) -> list[str]:
    """The sum over k: what must be loaded first, step 0, a loop, and the steps that load nothing beyond the end."""
    lead, ring = latencies.lead, tile.buffers
    # As many turns as load nothing beyond the end: the vector of ring - 1 steps later, the scalar of `lead` later.
    turns = max(0, (tile.k - max(ring, 1 + -(-lead // tile.rows))) // ring)
    lines = [_load_scalar(tile, *divmod(event, tile.rows), 0) for event in range(lead)]
    lines += [_load_vector(tile, step, 0) for step in range(min(ring - 1, tile.k))]
    lines += _steps(tile, range(1), lead)
    body: list[str] = []
    if turns:
        steps = _steps(tile, range(1, 1 + ring), lead)
        steps += [f"a += {ring * tile.scalar_step};", f"b += {ring * tile.vector_step};"]
        body = [f"for (size_t turn = 0; turn < {turns}; turn++) {{", *indented(steps), "}"]
    if tile.repeats == 1:
        return [*lines, *body, *_last_steps(tile, 1 + turns * ring, latencies)]
    return [*lines, *_series(tile, body, turns, lead)]


def _series(tile: Tile, body: list[str], turns: int, lead: int) -> list[str]:
    """The loop over tiles that follow each other, from step 1 of one to step 0 of the next."""
    stores = iter([store(tile, row) for row in range(tile.rows)])
    first_step: list[str] = []
    for line in _steps(tile, range(1), lead):
        first_step += [next(stores), line] if line.startswith("MULTIPLY") else [line]
    one_tile = [
        "/* The last one loads itself again. */",
        f"const float *next_a = a + (left ? {tile.next_scalars} : 0);",
        f"const float *next_b = b + (left ? {tile.next_vectors} : 0);",
        *body,
        *_steps(tile, range(1 + turns * tile.buffers, tile.k), lead, turns * tile.buffers),
        "if (!left) break;",
        "a = next_a;",
        "b = next_b;",
        *first_step,
        f"out += {tile.next_outputs};",
    ]
    head = f"for (size_t left = {tile.repeats - 1};; left--) {{"
    return [head, *indented(one_tile), "}", *(store(tile, row) for row in range(tile.rows))]


def _steps(tile: Tile, steps: range, lead: int, passed: int = 0) -> list[str]:
    """The multiply-adds of `steps`, one after the other, with the loads for later ones between them."""
    lines = []
    end = tile.k if tile.repeats == 1 else 2 * tile.k
    for step, row in product(steps, range(tile.rows)):
        later, later_row = divmod(step * tile.rows + row + lead, tile.rows)
        lines += [_load_scalar(tile, later, later_row, passed)] if later < end else []
        lines += [_multiply_add(tile, step, row)]
        if row == 0 and step + tile.buffers <= end:
            lines += [_load_vector(tile, step + tile.buffers - 1, passed)]
    return lines


def _last_steps(tile: Tile, start: int, latencies: Latencies) -> list[str]:
    """The steps from `start` on, after the pointers have moved on by all but the first of the steps before.

    In the last ones a few sums at a time run to their end, so that these are stored while the others go on.
    """
    passed = max(0, start - 1)
    split = max(start, tile.k - (tile.buffers - 1))
    order = list(product(range(start, split), range(tile.rows)))
    for first in range(0, tile.rows, latencies.result):
        together = range(first, min(first + latencies.result, tile.rows))
        order += product(range(split, tile.k), together)
    loaded = {divmod(start * tile.rows + event, tile.rows) for event in range(latencies.lead)}
    ends = {row: position for position, (step, row) in enumerate(order) if step == tile.k - 1}
    stored = 0
    lines = []
    for position, (step, row) in enumerate(order):
        for later in order[position : position + latencies.lead + 1]:
            lines += [_load_scalar(tile, *later, passed)] if later not in loaded else []
            loaded.add(later)
        lines += [_multiply_add(tile, step, row)]
        if row == 0 and step + tile.buffers <= tile.k:
            lines += [_load_vector(tile, step + tile.buffers - 1, passed)]
        if not tile.finishes and stored < tile.rows and ends[stored] + latencies.result <= position:
            lines += [store(tile, stored)]
            stored += 1
    return lines + [store(tile, row) for row in range(stored, tile.rows) if not tile.finishes]


def _multiply_add(tile: Tile, step: int, row: int) -> str:
    scalar = (step * tile.rows + row) % (tile.rows * tile.buffers)
    instruction = "MULTIPLY_ADD" if step else "MULTIPLY"
    return f"{instruction}({tile.sum_register(row)}, f{scalar}, {tile.vector_register(step)});"


def _load_scalar(tile: Tile, step: int, row: int, passed: int) -> str:
    name = f"f{(step * tile.rows + row) % (tile.rows * tile.buffers)}"
    if step >= tile.k:
        return f"LOAD_SCALAR({name}, {at('next_a', ('', tile.scalars[row] + (step - tile.k) * tile.scalar_step, 1))});"
    return f"LOAD_SCALAR({name}, {at('a', ('', tile.scalars[row] + (step - passed) * tile.scalar_step, 1))});"


def _load_vector(tile: Tile, step: int, passed: int) -> str:
    base, steps = ("next_b", step - tile.k) if step >= tile.k else ("b", step - passed)
    return f"LOAD_VECTOR({tile.vector_register(step)}, {at(base, ('', steps * tile.vector_step, 1))});"


def store(tile: Tile, row: int) -> str:
    """Store sum `row`."""
    where = at("out", ("", tile.outputs[row], 1))
    if tile.out_stride == 1:
        return f"STORE_VECTOR({tile.sum_register(row)}, {where});"
    return f"STORE_STRIDED({tile.sum_register(row)}, {where}, (size_t){4 * tile.out_stride});"
