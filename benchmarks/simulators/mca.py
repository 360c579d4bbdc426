"""The timing model against llvm-mca, on loops of compiled kernels: cycles an iteration, and where a difference is from.

llvm-mca knows no cache, no branch predictor and no load that waits behind a store, and it lets no instruction write its
result before an earlier one, which is a switch of the timing model. So a difference has four possible causes, and each
is measured by making the timing model do as LLVM does: the order of write-back, loads behind stores, the cost of an
operation, and what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.simulators.llvm import McaBlock, run_mca
from benchmarks.simulators.loops import Loop
from benchmarks.simulators.operations import Charge, charges, with_charges
from benchmarks.simulators.placing import PlacedLoop, Unplaced, place
from lrf_dse.calibrate.entries import assemble_micros, micro_value, run_micros
from lrf_dse.calibrate.micro import loop_text
from lrf_dse.errors import ToolError
from lrf_dse.runners.timing import DEFAULT_SWITCHES, TimingSwitches
from lrf_dse.target import Target

GOAL = 0.15
EXPLAINED = 0.05
WRITE_BACK = "results written in order"
"""The cause that is a switch of the timing model."""
PASSING = "loads pass stores"
"""The cause that boards contradict."""

_SMALL = 0.02
"""A cause that moves a loop by less than this part of its cycles is not named."""

_WARM, _STEADY = 200, 400  # iterations of llvm-mca: what lies between is the steady state
_IN_ORDER = TimingSwitches(in_order_writeback=True)


@dataclass(frozen=True)
class Cause:
    """What a difference comes from: cycles an iteration by which the timing model moves when it does as LLVM does."""

    what: str
    cycles: float


@dataclass(frozen=True)
class LoopEntry:
    """One loop in both models: cycles an iteration of the timing model and of llvm-mca.

    `in_order` is the timing model with results written in order, `like_mca` that with LLVM's costs and with loads that
    pass stores: what is then left of a difference is the mechanism. `causes` move it by more than 2%, the largest
    first.
    """

    name: str
    loop: Loop
    modelled: float
    in_order: float
    like_mca: float
    mca: float
    causes: tuple[Cause, ...] = ()

    @property
    def error(self) -> float:
        """Of the timing model relative to llvm-mca."""
        return self.modelled / self.mca - 1

    @property
    def agrees(self) -> bool:
        """Whether the goal is met."""
        return abs(self.error) <= GOAL

    @property
    def explained(self) -> bool:
        """Whether the order of write-back and LLVM's costs are all that the models differ in."""
        return abs(self.like_mca / self.mca - 1) <= EXPLAINED


@dataclass(frozen=True)
class McaReport:
    """Every loop that both ran, the costs of what they consist of, and why the other loops could not be placed."""

    target: str
    entries: tuple[LoopEntry, ...]
    charges: tuple[Charge, ...]
    left_out: Mapping[str, str]


def compare_with_mca(loops: Sequence[Loop], target: Target, work: Path) -> McaReport:
    """Run `loops` in both models; programs go to the folder `work`.

    Raises UsageError if LLVM has no model of the chip, ToolError and BuildError where a tool fails.
    """
    placed, left_out = _place_all(loops)
    if not placed:
        return McaReport(target.name, (), (), left_out)
    blocks, mca = _mca_cycles(placed, target)
    charged = charges(placed, blocks, target, work / "probes")
    program = assemble_micros(target, [loop.micro for loop in placed], work)

    def cycles(costs: Iterable[Charge], switches: TimingSwitches = _IN_ORDER, chip: Target = target) -> list[float]:
        return _modelled_cycles(program, with_charges(chip, costs), placed, switches)

    modelled, in_order = cycles([], DEFAULT_SWITCHES), cycles([])
    free = _with_loads_that_pass(target)
    passing = cycles([], chip=free)
    tables, table_of = _tables(charged)
    like_mca = [cycles(table, chip=free) for table in tables]
    every = tuple(dict.fromkeys(charge for of_loop in charged for charge in of_loop))
    alone = {charge: cycles([charge]) for charge in every if charge.differs}
    entries = []
    for n, loop in enumerate(placed):
        moved = {WRITE_BACK: in_order[n] - modelled[n], PASSING: passing[n] - in_order[n]}
        moved |= {str(charge): alone[charge][n] - in_order[n] for charge in charged[n] if charge.differs}
        like = like_mca[table_of[n]][n]
        entries.append(
            LoopEntry(loop.micro.name, loop.loop, modelled[n], in_order[n], like, mca[n], _causes(moved, mca[n]))
        )
    return McaReport(target.name, tuple(entries), every, left_out)


def _with_loads_that_pass(target: Target) -> Target:
    """`target` as LLVM has it: a vector load does not wait behind a vector store."""
    assert target.timing is not None
    free = {"load_after_store_cycles": None, "store_drain_bytes_per_cycle": None}
    return target.model_copy(update={"timing": target.timing.model_copy(update=free)})


def _tables(charged: Sequence[Sequence[Charge]]) -> tuple[list[list[Charge]], list[int]]:
    """LLVM's costs as few tables without contradictions, and the number of the one that holds for each loop.

    LLVM may charge two instructions differently that are one operation here, such as loads at LMUL 1 and 1/2.
    """
    tables: list[dict[tuple[str, int], Charge]] = []
    chosen = []
    for of_loop in charged:
        mine = {(charge.operation, charge.lmul): charge for charge in of_loop}
        fits = (n for n, table in enumerate(tables) if all(table.get(key, one) == one for key, one in mine.items()))
        number = next(fits, len(tables))
        if number == len(tables):
            tables.append({})
        tables[number].update(mine)
        chosen.append(number)
    return [list(table.values()) for table in tables], chosen


def _place_all(loops: Iterable[Loop]) -> tuple[list[PlacedLoop], dict[str, str]]:
    """The loops that can be placed, and why the others cannot, by name."""
    placed, left_out = [], {}
    for loop in loops:
        name = f"{loop.source}, {loop.address:#x}"
        try:
            placed.append(place(loop, name))
        except Unplaced as reason:
            left_out[name] = str(reason)
    return placed, left_out


def _mca_cycles(placed: Sequence[PlacedLoop], target: Target) -> tuple[tuple[McaBlock, ...], list[float]]:
    """What llvm-mca says of every loop, and its cycles an iteration in the steady state."""
    blocks = {loop.micro.name: _block(loop) for loop in placed}
    warm, steady = (run_mca(blocks, target, iterations=count) for count in (_WARM, _STEADY))
    pairs = zip(warm, steady, strict=True)
    return steady, [(after.cycles - before.cycles) / (_STEADY - _WARM) for before, after in pairs]


def _block(loop: PlacedLoop) -> str:
    """The text of a microbenchmark's loop; comments say what vector state its first instructions find."""
    vtype = loop.loop.vtype
    state = (
        [] if vtype is None else [f"# LLVM-MCA-RISCV-LMUL {vtype.lmul.upper()}", f"# LLVM-MCA-RISCV-SEW E{vtype.sew}"]
    )
    return "\n".join([*state, loop_text(loop.micro, "loop")])


def _modelled_cycles(
    program: Path, target: Target, placed: Sequence[PlacedLoop], switches: TimingSwitches
) -> list[float]:
    """Cycles an iteration of every loop. Raises ToolError if its data did not stay in the nearest cache."""
    micros = [loop.micro for loop in placed]
    runs = run_micros(program, target, micros, switches=switches)
    for micro, passes in zip(micros, runs, strict=True):
        if far := passes[-1].bytes_by_level["l2"]:
            raise ToolError(f"{micro.name}: {far} bytes came from beyond the nearest cache")
    return [micro_value(micro, passes) for micro, passes in zip(micros, runs, strict=True)]


def _causes(moved: Mapping[str, float], cycles: float) -> tuple[Cause, ...]:
    named = (Cause(what, by) for what, by in moved.items() if abs(by) > _SMALL * cycles)
    return tuple(sorted(named, key=lambda cause: -abs(cause.cycles)))
