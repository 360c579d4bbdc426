"""The loops of one stage around its tiles: over batches, slices of K, vectors and register blocks, as C functions."""

from __future__ import annotations

from collections.abc import Callable

from lrf_dse.codegen.microkernel import arguments, tile_function
from lrf_dse.codegen.phases import stage_code
from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.storage import code_bytes
from lrf_dse.codegen.stream_pass import CODE_BITS
from lrf_dse.codegen.stream_stage import stream_function
from lrf_dse.codegen.text import Term, at, loop
from lrf_dse.codegen.tile import Tile
from lrf_dse.codegen.tiling import BlockGrid, PanelRun, chunks, columns_tile, grids, panel_runs, rows_tile
from lrf_dse.codegen.widening import panel_at, widening_calls, widening_functions
from lrf_dse.codegen.widening_halves import panels_at, state_at
from lrf_dse.target import Target


def stage_function(plan: StagePlan, lanes: int, target: Target) -> list[str]:
    """The C functions of one stage in its way: what it calls, then stage_N itself."""
    return STAGES[plan.how.vector](plan, lanes, target)


def _tiled(plan: StagePlan, lanes: int, target: Target) -> list[str]:
    """A stage in register tiles: the tiles, then stage_N itself."""
    tiles = _Tiles(plan.number)
    if plan.how.vector == "rows":
        body = _rows(plan, lanes, tiles)
    else:
        body = _columns_of_widened(plan, lanes, tiles) if plan.packed.by_rows else _columns(plan, lanes, tiles)
    k = f"K = {plan.k * plan.k_slices}" + (f" in {plan.k_slices} slices" if plan.k_slices > 1 else "")
    states = (
        f"S' [{plan.batches}, {plan.rows}, {plan.columns}] = A [{plan.rows}, K] S [{plan.batches}, K, {plan.columns}]"
    )
    return [
        *widening_functions(plan, lanes),
        *(line for tile, name in tiles.names.items() for line in (*tile_function(name, tile, target), "")),
        *stage_code(plan, f"{states}, {k}", body),
    ]


def _streamed(plan: StagePlan, lanes: int, _target: Target) -> list[str]:
    """A stage whose weights pass by as one stream."""
    return stream_function(plan, lanes)


STAGES: dict[str, Callable[[StagePlan, int, Target], list[str]]] = {
    "columns": _tiled,
    "rows": _tiled,
    "stream": _streamed,
    "short": _streamed,
}
"""By the way to compute a stage (`VectorAxis`): the text of its functions, of a plan, the lanes and the target."""


class _Tiles:
    """The tiles that a stage's loops call, each written once under its name."""

    def __init__(self, stage: int) -> None:
        self.stage = stage
        self.names: dict[Tile, str] = {}

    def call(self, tile: Tile, **values: str) -> str:
        """The call of `tile` with `values` by the names of its parameters."""
        name = self.names.setdefault(tile, f"tile_{self.stage}{chr(ord('a') + len(self.names))}")
        values |= {"first": "first", "last": "last"}
        return f"{name}({', '.join(values[parameter.split()[-1].lstrip('*')] for parameter in arguments(tile))});"


def _columns(plan: StagePlan, lanes: int, tiles: _Tiles) -> list[str]:
    """Vectors of neighbouring columns; for each the blocks of rows follow each other, so that the vectors stay near."""
    body: list[str] = []
    # Workgroups share batches; only where these are fewer than workgroups do they share panels.
    shared = plan.groups if plan.batches < plan.groups else 1
    for chunk in chunks(plan, lanes):
        inner: list[str] = []
        for run in panel_runs(plan.panels):
            size = run.first.rows
            tile = columns_tile(plan, lanes, chunk, run)
            panels = run.count // tile.repeats
            place: tuple[Term, ...] = (
                ("p", size * plan.columns, panels),
                ("c", chunk.width, chunk.count),
                ("", run.first.row * plan.columns + chunk.column, 1),
            )
            vectors: tuple[Term, ...] = (
                ("l", plan.in_step, plan.batches),
                ("ks", plan.k * plan.columns, plan.k_slices),
                ("c", chunk.width, chunk.count),
                ("", chunk.column, 1),
            )
            call = tiles.call(
                tile,
                a=at("w", *panel_terms(plan, run, panels)),
                b=at("s", *vectors),
                out=at("out", ("l", plan.out_step, plan.batches), *place),
                vl=str(chunk.valid),
                bias=at("bias", (f"l % {plan.bias_batches}", plan.out_step, plan.bias_batches), *place),
            )
            inner += loop("p", panels, [call], groups=shared)
        body += loop("c", chunk.count, inner)
    return loop("l", plan.batches, over_k(plan, body), groups=plan.groups if shared == 1 else 1)


def _columns_of_widened(plan: StagePlan, lanes: int, tiles: _Tiles) -> list[str]:
    """Vectors of neighbouring columns, with each panel widened once before all vectors pass by it."""
    body: list[str] = []
    shared = plan.groups if plan.batches < plan.groups else 1
    for run in panel_runs(plan.panels):
        inner: list[str] = []
        for chunk in chunks(plan, lanes):
            place: tuple[Term, ...] = (
                ("p", run.first.rows * plan.columns, run.count),
                ("c", chunk.width, chunk.count),
                ("", run.first.row * plan.columns + chunk.column, 1),
            )
            vectors: tuple[Term, ...] = (("ks", plan.k * plan.columns, plan.k_slices), ("c", chunk.width, chunk.count))
            call = tiles.call(
                columns_tile(plan, lanes, chunk, run),
                a="work",
                b=at("s", ("l", plan.in_step, plan.batches), *vectors, ("", chunk.column, 1)),
                out=at("out", ("l", plan.out_step, plan.batches), *place),
                vl=str(chunk.valid),
                bias=at("bias", (f"l % {plan.bias_batches}", plan.out_step, plan.bias_batches), *place),
            )
            inner += loop("c", chunk.count, [call])
        # Batches are inside, panels outside: a panel is widened once and then used by every batch.
        inner = loop("l", plan.batches, inner, groups=plan.groups if shared == 1 else 1)
        body += loop("p", run.count, over_k(plan, [*widening_calls(plan, run), *inner]), groups=shared)
    return body


def _rows(plan: StagePlan, lanes: int, tiles: _Tiles) -> list[str]:
    """Vectors of neighbouring rows of A, some panels at a time, for blocks of (batch, column) pairs."""
    body: list[str] = []
    for run in panel_runs(plan.panels, plan.how.panels):
        one_by_one = run.together == 1
        inner: list[str] = []
        for grid in grids(plan, lanes, run):
            tile = rows_tile(plan, lanes, run, grid)
            panels = run.together if one_by_one else run.together // tile.repeats
            called = grid.called(tile.repeats) if one_by_one else grid
            calls = [_rows_call(plan, tiles, tile, (run, panels), called)]
            inner += _over(called, loop("i", panels, calls, groups=1 if one_by_one else plan.groups))
        groups = plan.groups if one_by_one else 1
        if not widening_calls(plan, run):
            body += loop("p", run.count, over_k(plan, inner), groups=groups)
        else:  # a slice of the state stays in the first cache while all widened panels pass by it
            body += over_k(plan, loop("p", run.count, [*widening_calls(plan, run), *inner], groups=groups))
    return body if not plan.in_half else [*_in_half(plan), *body]


def _in_half(plan: StagePlan) -> list[str]:
    """What a stage does before its tiles, which multiply in half precision: it rounds its state."""
    lines = [f"prepare_{plan.number}(s, work);", f"const unsigned short *const state = {state_at(plan)};"]
    if plan.storage == "fp16":
        return [*lines, "const unsigned short *const halves = (const unsigned short *)w;"]
    return [*lines, f"unsigned short *const panels = {panels_at(plan)};"]


def _over(grid: BlockGrid, body: list[str]) -> list[str]:
    """`body` for every block of `grid`."""
    return loop("q", grid.periods, loop("l", grid.batch_count, loop("d", grid.column_count, body)))


def _rows_call(plan: StagePlan, tiles: _Tiles, tile: Tile, panels: tuple[PanelRun, int], grid: BlockGrid) -> str:
    """The call of `tile` in a loop over `panels` (a run, and the calls for those that are together) and over `grid`."""
    run, calls = panels
    width, together = run.first.width, run.first.width * run.together
    rows: tuple[Term, ...] = (
        ("p", together * plan.columns, run.count),
        ("i", width * plan.columns, calls),
        ("", run.first.row * plan.columns, 1),
    )
    base, where = "work", tuple[Term, ...]()
    if not widening_calls(plan, run):
        base, where = "halves" if plan.in_half else "w", panel_terms(plan, run, run.count)
    elif plan.in_half:
        base = "panels"
    # Scales follow the codes of a panel (lrf_dse/codegen/storage.py); only tiles that ask for them get the pointer.
    scales = f"(const float *)({panel_at(plan, run, 'i')} + {code_bytes(plan.storage, plan.k, width)})"
    return tiles.call(
        tile,
        a=at("state" if plan.in_half else "s", ("ks", plan.k * plan.columns, plan.k_slices), *grid.terms(plan.in_step)),
        b=at(base, *where, ("i", plan.k * width, calls)),
        factor=f"work[0] * 0x1p{CODE_BITS}f" if plan.storage == "int8" else "work[0]",
        scales=scales,
        out=at("out", *rows, *grid.terms(plan.out_step)),
        vl=str(run.first.rows),
        bias=at("bias", *rows, *grid.terms(plan.bias_step, bias=True)),
    )


def panel_terms(plan: StagePlan, run: PanelRun, panels: int) -> tuple[Term, ...]:
    """Where a panel of `run` lies in the packed weights of the stage; the loop over them runs `panels` times."""
    return (
        ("ks", plan.k * plan.packed.width, plan.k_slices),
        ("p", plan.k * run.first.width * run.together, panels),
        ("", plan.k * run.offset, 1),
    )


def over_k(plan: StagePlan, body: list[str]) -> list[str]:
    """`body` for every slice of K that is cut within the call."""
    if plan.k_slices == 1:
        return body
    head = "const int first = ks == 0" + (f", last = ks == {plan.k_slices - 1};" if plan.finish else ";")
    return loop("ks", plan.k_slices, [head, *body])
