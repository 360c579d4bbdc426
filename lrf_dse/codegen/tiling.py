"""How a stage is cut into tiles: which vectors, which blocks of sums, how many of each. No text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lrf_dse.codegen.packing import Panel, blocks, vectors
from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.text import Term, runs
from lrf_dse.codegen.tile import Tile

FEWEST_ROWS = 3
"""A loaded vector should feed so many multiply-adds."""


@dataclass(frozen=True)
class Chunk:
    """`count` vectors of `width` floats from `column` on, `valid` of which are columns."""

    column: int
    width: int
    count: int
    valid: int


@dataclass(frozen=True)
class PanelRun:
    """`count` times `together` panels of A like `first` that follow each other.

    `offset` is the packed width of those before them.
    """

    first: Panel
    count: int
    offset: int
    together: int = 1


@dataclass(frozen=True)
class BlockGrid:
    """Blocks of `batch_rows` x `column_rows` (batch, column) pairs: where the first one starts, how many follow.

    All of it repeats `periods` times, `period_batches` batches apart.
    """

    batch: int
    batch_rows: int
    batch_count: int
    column: int
    column_rows: int
    column_count: int
    periods: int
    period_batches: int

    @property
    def count(self) -> int:
        """How many blocks."""
        return self.batch_count * self.column_count * self.periods

    def called(self, repeats: int) -> BlockGrid:
        """The same blocks, where one call does `repeats` of them: its columns, else its batches."""
        if self.column_count > 1:
            return replace(self, column_count=self.column_count // repeats)
        return replace(self, batch_count=self.batch_count // repeats)

    def offsets(self, batch_step: int) -> tuple[int, ...]:
        """Where the pairs of one block lie, in an array of `batch_step` a batch."""
        return tuple(b * batch_step + c for b in range(self.batch_rows) for c in range(self.column_rows))

    def terms(self, batch_step: int, *, bias: bool = False) -> tuple[Term, ...]:
        """Where a block lies in such an array; the bias starts again with every period."""
        return (
            ("q", 0 if bias else self.period_batches * batch_step, self.periods),
            ("l", self.batch_rows * batch_step, self.batch_count),
            ("d", self.column_rows, self.column_count),
            ("", self.batch * batch_step + self.column, 1),
        )


def chunks(plan: StagePlan, lanes: int) -> Iterator[Chunk]:
    """Vectors that cover the columns."""
    column = 0
    for width, count in runs(vectors(plan.columns, plan.how.lmul, lanes)):
        full = min(count, (plan.columns - column) // width)
        if full:
            yield Chunk(column, width, full, width)
        column += full * width
        # The last vector is not full: it computes its whole width and stores `valid` columns.
        if full < count:
            yield Chunk(column, width, 1, plan.columns - column)
            column = plan.columns


def panel_runs(panels: Sequence[Panel], together: int = 1) -> Iterator[PanelRun]:
    """Equal panels that follow each other, `together` at a time, and what is left of them."""
    index = offset = 0
    for (_, width), equal in runs((panel.rows, panel.width) for panel in panels):
        full, rest = divmod(equal, together)
        for count, size in ((full, together), (1, rest)):
            if count * size:
                yield PanelRun(panels[index], count, offset, size)
                index, offset = index + count * size, offset + width * count * size


def grids(plan: StagePlan, lanes: int, run: PanelRun) -> Iterator[BlockGrid]:
    """Blocks that cover all (batch, column) pairs for the panels of `run`, within one batch if it has enough columns.

    Where vectors are shorter than those of the stage, as many more sums take the same registers.
    """
    # A vector half as long takes half the registers, so twice as many sums fit beside each other.
    block = plan.how.block * (plan.how.lmul * lanes // run.first.width)
    # Blocks do not cross from one row of y to the next, where the bias starts again.
    period = plan.bias_batches if plan.has_bias and plan.bias_batches > 1 else plan.batches
    several = plan.columns < FEWEST_ROWS or 2 * plan.columns <= block
    batch = 0
    for batch_rows, batch_count in runs(blocks(period, max(1, block // plan.columns if several else 1))):
        column = 0
        for column_rows, column_count in runs(blocks(plan.columns, block)):
            periods = plan.batches // period
            yield BlockGrid(batch, batch_rows, batch_count, column, column_rows, column_count, periods, period)
            column += column_rows * column_count
        batch += batch_rows * batch_count


def columns_tile(plan: StagePlan, lanes: int, chunk: Chunk, run: PanelRun) -> Tile:
    """The tile of vectors along columns: scalars are a panel of A, k by k or row by row, outputs its rows."""
    rows = range(run.first.rows)
    outputs = tuple(row * plan.columns for row in rows)
    by_rows = plan.packed.by_rows
    tile = Tile(
        lmul=chunk.width // lanes,
        k=plan.k,
        scalars=tuple(row * (plan.row_pitch if by_rows else 1) for row in rows),
        scalar_step=1 if by_rows else run.first.rows,
        vector_step=plan.columns,
        outputs=outputs,
        out_stride=1,
        biases=outputs if plan.has_bias else (),
        finish=plan.finish,
        partial=plan.partial,
        next_scalars=plan.k * run.first.rows,
        next_outputs=plan.columns * run.first.rows,
    )
    return _repeated(plan, tile, 1 if by_rows else run.count)


def rows_tile(plan: StagePlan, lanes: int, run: PanelRun, grid: BlockGrid) -> Tile:
    """The tile of vectors along rows of A: scalars and outputs are (batch, column) pairs of the states."""
    tile = Tile(
        lmul=run.first.width // lanes,
        k=plan.k,
        scalars=grid.offsets(plan.in_step),
        scalar_step=plan.columns,
        vector_step=run.first.width,
        outputs=grid.offsets(plan.out_step),
        out_stride=plan.columns,
        biases=grid.offsets(plan.bias_step) if plan.has_bias else (),
        finish=plan.finish,
        partial=plan.partial,
        half=plan.in_half,
        scaled=plan.in_half and plan.storage == "int8",
    )
    if run.together > 1:
        width = run.first.width
        tile = replace(tile, next_vectors=plan.k * width, next_outputs=plan.columns * width)
        return _repeated(plan, tile, run.together)
    if grid.column_count > 1:
        tile = replace(tile, next_scalars=grid.column_rows, next_outputs=grid.column_rows)
        return _repeated(plan, tile, grid.column_count)
    tile = replace(tile, next_scalars=grid.batch_rows * plan.in_step, next_outputs=grid.batch_rows * plan.out_step)
    return _repeated(plan, tile, grid.batch_count)


def _repeated(plan: StagePlan, tile: Tile, count: int) -> Tile:
    """`tile` as one stream of `count` tiles if it can be and no workgroups share them, else alone."""
    # Workgroups start anywhere in the run of tiles, which one stream of them does not allow.
    if plan.groups > 1 or not tile.can_repeat:
        count = 1
    if count == 1:
        return replace(tile, next_scalars=0, next_vectors=0, next_outputs=0)
    return replace(tile, repeats=count)


def stage_tiles(plan: StagePlan, lanes: int) -> Iterator[tuple[Tile, int]]:
    """Every tile of one call of the stage, and how often its function is called."""
    for run in panel_runs(plan.panels, plan.how.panels):
        if plan.how.vector == "columns":
            for chunk in chunks(plan, lanes):
                tile = columns_tile(plan, lanes, chunk, run)
                yield tile, plan.batches * plan.k_slices * chunk.count * run.count // tile.repeats
        else:
            for grid in grids(plan, lanes, run):
                tile = rows_tile(plan, lanes, run, grid)
                yield tile, plan.k_slices * run.count * run.together * grid.count // tile.repeats
