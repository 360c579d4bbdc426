"""What stands between the multiply-adds of a tile's loop."""

from __future__ import annotations

import pytest

from lrf_dse.codegen.order import Latencies, sum_up
from lrf_dse.codegen.tile import Tile
from lrf_dse.target import load_target


def turn(tile: Tile) -> list[str]:
    """The lines of the loop over k."""
    lines = [line.strip() for line in sum_up(tile, Latencies.of(tile, load_target("spacemit-k1")))]
    return lines[lines.index("do {") + 1 : lines.index("} while (a != end);")]


def tile(lmul: int, rows: int, *, apart: int = 1) -> Tile:
    """A tile of 64 steps, its scalars `apart`."""
    scalars = tuple(row * apart for row in range(rows))
    return Tile(lmul, 64, scalars, rows, 8 * lmul, scalars, 1)


@pytest.mark.parametrize("apart", [1, 64, 1000])
def test_one_thing_at_a_time_is_issued_beside_a_multiply_add_and_its_scalar(apart) -> None:
    lines = turn(tile(4, 6, apart=apart))
    gaps = "\n".join(lines).split("MULTIPLY_ADD")[1:-1]
    assert all(gap.count("LOAD_SCALAR") == 1 for gap in gaps)
    assert all(gap.count("LOAD_VECTOR") + gap.count("STEP") <= 1 for gap in gaps)
    pointers = 2 + (1 if apart < 80 else 6)
    assert sum(line.startswith("STEP") for line in lines) == pointers


def test_steps_that_multiply_adds_do_not_hide_stand_together() -> None:
    assert [line.startswith("STEP") for line in turn(tile(2, 8))[-4:]] == [False, True, True, True]


def test_the_vector_of_a_step_is_loaded_behind_its_first_multiply_add() -> None:
    loop = tile(2, 8)
    lines = turn(loop)
    heads = [n for n, line in enumerate(lines) if line.startswith("MULTIPLY_ADD")][:: loop.rows]
    assert [lines[n + 2].startswith("LOAD_VECTOR") for n in heads] == [True] * loop.buffers
