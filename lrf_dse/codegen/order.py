"""The order of a tile's instructions: which load stands between which multiply-adds, and when sums are stored.

Everything is placed so that it also fits where results are written in order: after a multiply-add comes a scalar's
load, then one more thing, a vector's load or a pointer's step, that ends no earlier than what was issued before it.
Tiles that follow each other are one stream: while the last steps of one are summed up, the first operands of the next
are loaded, and its sums are stored between these steps and the first products of the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from lrf_dse.codegen.text import at, indented
from lrf_dse.codegen.tile import Tile
from lrf_dse.codegen.tile_cost import hides_steps
from lrf_dse.target import Target

_DEFAULT_LEAD = 4
"""Multiply-adds between a scalar's load and its use on a target whose latencies are not known."""


@dataclass(frozen=True)
class Latencies:
    """Times in multiply-adds: `lead` from a scalar's load to its use, `result` until a sum is ready, `store` of stores.

    `hides_steps`: whether a multiply-add takes so long that a pointer's step fits before the next one ends. Else every
    step would hold up what follows it where results are written in order: they stand together at the end of the turn.
    """

    lead: int
    result: int
    store: int
    hides_steps: bool

    @staticmethod
    def of(tile: Tile, target: Target) -> Latencies:
        """The latencies of `target`, as far as the tile has as many multiply-adds and names for scalars."""
        lead = result = _DEFAULT_LEAD
        store = 1
        if target.timing:
            costs = target.timing.costs.cost
            index = tile.lmul.bit_length() - 1
            fma = costs["v_float_widen" if tile.half else "v_float_fma"]
            # Latencies in cycles become numbers of multiply-adds: each of them keeps its pipe for busy[index] cycles.
            lead = int(-(-costs["float_load"].latency[0] // fma.busy[index])) + 1
            result = int(-(-fma.latency[index] // fma.busy[index]))
            store = max(1, round(costs["v_store"].busy[index] / fma.busy[index]))
        # A scalar's name comes round after rows x buffers loads: an earlier load would overwrite one that is still
        # needed.
        most = min(tile.rows * min(tile.k, tile.buffers), tile.rows * tile.buffers - 1)
        return Latencies(min(lead, most), result, store, hides_steps(tile.lmul, target))


def sum_up(tile: Tile, latencies: Latencies) -> list[str]:
    """The sum over k: what must be loaded first, step 0, a loop, and the steps that load nothing beyond the end."""
    lead, ring = latencies.lead, tile.buffers
    # As many turns as load nothing beyond the end: the vector of ring - 1 steps later, the scalar of `lead` later.
    turns = max(0, (tile.k - max(ring, 1 + -(-lead // tile.rows))) // ring)
    lines = [f"const {tile.kind} *{name} = a + {base};" for name, base in tile.pointers.items() if base]
    # Scalars first: the first multiply-add waits for one of them and for the first vector.
    lines += [_load_scalar(tile, *divmod(event, tile.rows), 0) for event in range(lead)]
    lines += [_load_vector(tile, step) for step in range(min(ring - 1, tile.k))]
    lines += _flat(_steps(tile, range(1), lead))
    body = _loop(tile, turns, latencies) if turns else []
    if tile.repeats == 1:
        return [*lines, *body, *_last_steps(tile, 1 + turns * ring, latencies)]
    return [*lines, *_series(tile, body, turns * ring, latencies)]


def _loop(tile: Tile, turns: int, latencies: Latencies) -> list[str]:
    """`turns` times as many steps as vectors are in the ring."""
    ring = tile.buffers
    vectors = [f"const {tile.kind} *b{n} = {at('b', ('', (ring + n) * tile.vector_step, 1))};" for n in range(ring)]
    end = f"const {tile.kind} *const end = a + {turns * ring * tile.scalar_step};"
    return ["{", *indented([*vectors, end, "do {", *indented(_turn(tile, latencies)), "} while (a != end);"]), "}"]


def _turn(tile: Tile, latencies: Latencies) -> list[str]:
    """One turn of the loop: after each multiply-add a scalar's load, and a vector's load or the step of a pointer.

    A step's vector is loaded behind its first multiply-add. Behind the last one loops took up to 1.18 times as long
    (modelled cycles, spacemit-k1): the vector is then late for the next turn of a short ring.
    """
    passed = dict.fromkeys(tile.pointers, 0)
    waiting = list(tile.pointers)
    lines = []
    for step, row in product(range(1, 1 + tile.buffers), range(tile.rows)):
        later, later_row = divmod(step * tile.rows + row + latencies.lead, tile.rows)
        gone = passed[tile.pointer_of(later_row)]
        lines += [_multiply_add(tile, step, row), _load_scalar(tile, later, later_row, gone)]
        if row == 0:
            lines += [_vector(tile, step - 1, f"b{step - 1}")]
            waiting += [f"b{step - 1}"]
        elif waiting and latencies.hides_steps:
            # Addresses of later loads in this turn count from where the pointer now stands.
            passed[waiting[0]] = tile.buffers
            lines += [_next_turn(tile, waiting.pop(0))]
    return lines + [_next_turn(tile, name) for name in waiting]


def _next_turn(tile: Tile, pointer: str) -> str:
    step = tile.scalar_step if pointer in tile.pointers else tile.vector_step
    return f"STEP({pointer}, {tile.element_bytes * tile.buffers * step});"


def _series(tile: Tile, body: list[str], passed: int, latencies: Latencies) -> list[str]:
    """The loop over tiles that follow each other, from step 1 of one to step 0 of the next."""
    last = _steps(tile, range(1 + passed, tile.k), latencies.lead, passed)
    first = _steps(tile, range(1), latencies.lead)
    stored = 0
    for number, group in enumerate((*last[-tile.rows :], *first), start=1):
        # Sum i must be stored before the first product of the next one, the multiply-add of number rows + i + 1.
        while stored < tile.rows and number >= min(latencies.result + stored * latencies.store, tile.rows + stored):
            group.append(store(tile, stored))
            stored += 1
    rest = sum(line.startswith("STORE") for line in _flat(last))
    one_tile = [
        "/* The last one loads itself again. */",
        f"const ptrdiff_t on = (left ? {tile.next_scalars} : 0) - {passed * tile.scalar_step};",
        f"const float *next_b = b + (left ? {tile.next_vectors} : 0);",
        *body,
        *_flat(last),
        "if (!left) break;",
        "b = next_b;",
        *_flat(first),
        f"out += {tile.next_outputs};",
    ]
    head = f"for (size_t left = {tile.repeats - 1};; left--) {{"
    return [head, *indented(one_tile), "}", *(store(tile, row) for row in range(rest, tile.rows))]


def _steps(tile: Tile, steps: range, lead: int, passed: int = 0) -> list[list[str]]:
    """The multiply-adds of `steps`, one after the other, each with the loads for later ones after it."""
    groups = []
    end = tile.k if tile.repeats == 1 else 2 * tile.k
    for step, row in product(steps, range(tile.rows)):
        group = [_multiply_add(tile, step, row)]
        later, later_row = divmod(step * tile.rows + row + lead, tile.rows)
        # From this load on scalars are those of the next tile.
        if (later, later_row) == (tile.k, 0) and end > tile.k:
            group += [f"{name} += on;" for name in tile.pointers]
        if later < end:
            group += [_load_scalar(tile, later, later_row, tile.k if later >= tile.k else passed)]
        if row == 0 and step + tile.buffers <= end:
            group += [_load_vector(tile, step + tile.buffers - 1)]
        groups.append(group)
    return groups


def _flat(groups: list[list[str]]) -> list[str]:
    return [line for group in groups for line in group]


def _last_steps(tile: Tile, start: int, latencies: Latencies) -> list[str]:
    """The steps from `start` on, after the pointers have moved on by all but the first of the steps before.

    In the last ones a few sums at a time run to their end, so that these are stored while the others go on.
    """
    passed = max(0, start - 1)
    split = max(start, tile.k - (tile.buffers - 1))
    order = list(product(range(start, split), range(tile.rows)))
    # `result` sums side by side are just enough that none waits for its own multiply-add.
    for first in range(0, tile.rows, latencies.result):
        together = range(first, min(first + latencies.result, tile.rows))
        order += product(range(split, tile.k), together)
    loaded = {divmod(start * tile.rows + event, tile.rows) for event in range(latencies.lead)}
    ends = {row: position for position, (step, row) in enumerate(order) if step == tile.k - 1}
    stored = 0
    lines = []
    for position, (step, row) in enumerate(order):
        ahead = [later for later in order[position : position + latencies.lead + 1] if later not in loaded]
        loads = [_load_scalar(tile, *later, passed) for later in ahead]
        # Sums are now in another order than scalars were loaded in: the one that comes next may not be there yet.
        needed = ahead[:1] == [(step, row)]
        lines += [*loads[:needed], _multiply_add(tile, step, row), *loads[needed:]]
        loaded.update(ahead)
        if row == 0 and step + tile.buffers <= tile.k:
            lines += [_load_vector(tile, step + tile.buffers - 1)]
        if not tile.finishes and stored < tile.rows and ends[stored] + latencies.result <= position:
            lines += [store(tile, stored)]
            stored += 1
    return lines + [store(tile, row) for row in range(stored, tile.rows) if not tile.finishes]


def _multiply_add(tile: Tile, step: int, row: int) -> str:
    scalar = (step * tile.rows + row) % (tile.rows * tile.buffers)
    instruction = ("HALF_" if tile.half else "") + ("MULTIPLY_ADD" if step else "MULTIPLY")
    return f"{instruction}({tile.sum_register(row)}, f{scalar}, {tile.vector_register(step)});"


def _load_scalar(tile: Tile, step: int, row: int, passed: int) -> str:
    """The load of a scalar, after its pointer has moved on by `passed` steps."""
    name = f"f{(step * tile.rows + row) % (tile.rows * tile.buffers)}"
    pointer = tile.pointer_of(row)
    offset = tile.scalars[row] - tile.pointers[pointer] + (step - passed) * tile.scalar_step
    return f"LOAD_{'HALF' if tile.half else 'SCALAR'}({name}, {at(pointer, ('', offset, 1))});"


def _load_vector(tile: Tile, step: int) -> str:
    base, steps = ("next_b", step - tile.k) if step >= tile.k else ("b", step)
    return _vector(tile, step, at(base, ("", steps * tile.vector_step, 1)))


def _vector(tile: Tile, step: int, where: str) -> str:
    return f"LOAD_{'HALVES' if tile.half else 'VECTOR'}({tile.vector_register(step)}, {where});"


def store(tile: Tile, row: int) -> str:
    """Store sum `row`."""
    where = at("out", ("", tile.outputs[row], 1))
    if tile.out_stride == 1:
        return f"STORE_VECTOR({tile.sum_register(row)}, {where});"
    return f"STORE_STRIDED({tile.sum_register(row)}, {where}, (size_t){4 * tile.out_stride});"
