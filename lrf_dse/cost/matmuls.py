"""The MatMuls that a candidate runs, and how IREE 3.13 cuts each of them for a RISC-V vector unit.

Owns the tiling rules, as they show in the compiler's configurations (iree-compile
--compile-to=executable-configurations). They are its rules but for a few shapes; a test counts these. Lanes are fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal

from lrf_dse.cost.counts import dense_stage, stage_counts
from lrf_dse.schema import Candidate

MOST_ROWS = 7
"""Rows of C that one inner loop keeps in registers: 7 accumulators of LMUL 4 beside one loaded vector."""

_THREADS = 8  # what iree-compile takes for the number of cores
_MOST_DISTRIBUTED = 64
_LMUL_OF_BLOCK, _LMUL_OF_ROW = 4, 8  # a matrix with one row has one accumulator, of LMUL 8


@dataclass(frozen=True)
class MatMul:
    """C[b] = A[b] B[b] for every b < `batches`; A [rows, k], B [k, columns]. The `weights` are A or B."""

    batches: int
    rows: int
    columns: int
    k: int
    weights: Literal["A", "B"]


@dataclass(frozen=True)
class Blocks:
    """`count` pieces of `size` rows or columns. `masked`: their size is known only at run time."""

    count: int
    size: int
    masked: bool


@dataclass(frozen=True)
class Tiling:
    """The workgroups of a MatMul and the register blocks within, over all of its rows and columns."""

    tile_rows: int
    tile_columns: int
    row_tiles: int
    column_tiles: int
    row_blocks: tuple[Blocks, ...]
    column_blocks: tuple[Blocks, ...]


@dataclass(frozen=True)
class PackedTiling:
    """Data tiling: C, or its transpose where that is wider, in `tiles` of `tile_rows` x 4 registers."""

    transposed: bool
    tile_rows: int
    row_tiles: int
    column_tiles: int


def matmuls(candidate: Candidate) -> tuple[MatMul, ...]:
    """The stages as lrf_dse/models/chain.py writes them, in the order they are executed.

    >>> from lrf_dse.schema import Candidate, FcLayer, TTShape
    >>> layer = FcLayer("fc", 784, 300, 1, True)
    >>> matmuls(Candidate(layer, TTShape((20, 15), (28, 28), (1, 8, 1))))[1]
    MatMul(batches=1, rows=20, columns=15, k=224, weights='A')
    """
    layer, shape = candidate.layer, candidate.tt_shape
    if shape is None:
        stage = dense_stage(layer)
        return (MatMul(1, layer.batch, stage.rows, stage.k, "B"),)
    return tuple(
        MatMul(1, stage.batches, stage.rows, stage.k, "B")
        if stage.columns == 1
        else MatMul(stage.batches, stage.rows, stage.columns, stage.k, "A")
        for stage in stage_counts(shape, candidate.order, batch=layer.batch)
    )


@lru_cache(maxsize=65536)
def tiling(m: MatMul, lanes: int) -> Tiling:
    """How the plain kernel is cut: what a workgroup computes, and the blocks of its inner loops."""
    block_rows = min(MOST_ROWS, m.rows)
    block_columns = lanes * (_LMUL_OF_ROW if m.rows == 1 else _LMUL_OF_BLOCK)
    rows, columns = _distributed(m, (block_rows, block_columns), lanes)
    return Tiling(
        rows,
        columns,
        ceil_div(m.rows, rows),
        ceil_div(m.columns, columns),
        _blocks(m.rows, rows, block_rows),
        _blocks(m.columns, columns, block_columns),
    )


@lru_cache(maxsize=65536)
def packed_tiling(m: MatMul, lanes: int) -> PackedTiling:
    """How the data-tiled kernel is cut: 1, 2, 4 or 7 rows of 4 vector registers, never wider than high."""
    transposed = m.columns < m.rows
    rows, columns = (m.columns, m.rows) if transposed else (m.rows, m.columns)
    height = next((height for height in (1, 2, 4) if rows <= height), MOST_ROWS)
    return PackedTiling(transposed, height, ceil_div(rows, height), ceil_div(columns, lanes * _LMUL_OF_BLOCK))


def ceil_div(a: int, b: int) -> int:
    """The least integer that is at least a / b."""
    return -(-a // b)


def lmul_of(size: int, lanes: int) -> int:
    """The smallest LMUL that holds `size` elements."""
    return next(lmul for lmul in (1, 2, 4, 8) if size <= lmul * lanes)


def _blocks(size: int, tile: int, block: int) -> tuple[Blocks, ...]:
    """The blocks of all whole tiles, then of what is left: there, what does not fill a block is masked."""
    whole, rest = divmod(size, tile)
    pieces = [
        Blocks(whole * (tile // block), block, False),
        Blocks(whole, tile % block, False),
        Blocks(rest // block, block, False),
        Blocks(1, rest % block, True),
    ]
    return tuple(piece for piece in pieces if piece.count and piece.size)


def _distributed(m: MatMul, block: tuple[int, int], lanes: int) -> tuple[int, int]:
    """Rows and columns of one workgroup: near an eighth of the matrix, at most 16 workgroups, divisors preferred."""
    sizes, hint = (m.rows, m.columns), 2 * lanes
    most = tuple(max(_MOST_DISTRIBUTED, least) for least in block)
    first = [_first_tile(size, least, hint) for size, least in zip(sizes, block, strict=True)]
    grown = _fewer_workgroups(sizes, first, most, hint, batches=m.batches)
    tiles = [_divisor_near(*each) for each in zip(sizes, grown, block, strict=True)]
    return tiles[0], tiles[1]


def _first_tile(size: int, least: int, hint: int) -> int:
    target = min(size // _THREADS, max(_MOST_DISTRIBUTED, least))
    even = [tile for tile in range(hint, target + 1, hint) if size % tile == 0 and tile >= least]
    return even[-1] if even else max(1 << (target.bit_length() - 1) if target else 0, least)


def _fewer_workgroups(
    sizes: tuple[int, int], tiles: list[int], most: tuple[int, ...], hint: int, *, batches: int
) -> list[int]:
    """Tiles doubled, columns first, until there are at most two workgroups a thread; then made equal."""

    def even(size: int, tile: int) -> bool:
        return tile % hint == 0 and size % tile == 0

    for axis in (1, 0):
        while batches * prod(map(ceil_div, sizes, tiles)) > 2 * _THREADS:
            size, tile = sizes[axis], tiles[axis]
            grown = min(2 * tile, size)
            if tile >= min(most[axis], size) or (even(size, tile) and not even(size, grown)):
                break
            tiles[axis] = grown
            if ceil_div(size, grown) == ceil_div(size, tile):
                break
    levelled = [ceil_div(size, ceil_div(size, tile)) for size, tile in zip(sizes, tiles, strict=True)]
    return [new if even(size, new) else tile for size, tile, new in zip(sizes, tiles, levelled, strict=True)]


def _divisor_near(size: int, most: int, least: int) -> int:
    """A tile of at most `most` that divides `size`: a multiple of `least`, else one above half; else `most`."""
    if size <= most and size < least:
        return size
    start = min(most, size)
    multiples = range(start // least * least, 0, -least)
    return next((tile for tile in (*multiples, *range(start, max(1, start // 2) - 1, -1)) if size % tile == 0), most)
