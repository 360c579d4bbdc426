"""Which operation of the timing model an instruction is, and what LLVM's model charges for the same.

The plugin's decoder is asked, not copied: under a cost table in which every operation at every LMUL is busy for a
number of cycles of its own, the cycles of an instruction tell which it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.simulators.llvm import McaBlock
from benchmarks.simulators.loops import Instruction, Vtype
from benchmarks.simulators.placing import PlacedLoop
from lrf_dse.calibrate.entries import assemble_micros, micro_value, run_micros
from lrf_dse.calibrate.micro import Micro, lines_of
from lrf_dse.runners.timing import TimingSwitches
from lrf_dse.target import Target, operations
from lrf_dse.target.timing import LMULS, UNKNOWN_OPERATION, Cost

_REPEATS, _ITERATIONS = 8, 16
_FIRST_MARK = 16  # longer than what a loop costs besides
_ELEMENT_BITS = 32


@dataclass(frozen=True)
class Charge:
    """What `operation` costs at LMUL `lmul` here and in LLVM's model: cycles busy, and to the result.

    `instruction` is one that is charged so, with its length multiplier; its costs are with a mask if it is `masked`.
    """

    operation: str
    lmul: int
    instruction: str
    masked: bool
    busy: float
    latency: float
    llvm_busy: float
    llvm_latency: float

    @property
    def differs(self) -> bool:
        """Whether LLVM's cost is another one."""
        return (self.busy, self.latency) != (self.llvm_busy, self.llvm_latency)

    def __str__(self) -> str:
        busy = f"{self.llvm_busy:g} cycles, not {self.busy:g}" if self.llvm_busy != self.busy else ""
        late = f"latency {self.llvm_latency:g}, not {self.latency:g}" if self.llvm_latency != self.latency else ""
        return f"{self.instruction}: {', '.join(filter(None, (busy, late)))}"


@dataclass(frozen=True)
class _Form:
    """A kind of instruction: what costs may depend on, and LLVM's."""

    mnemonic: str
    masked: bool
    vtype: Vtype | None
    llvm_throughput: float
    llvm_latency: float


def charges(
    placed: Sequence[PlacedLoop], blocks: Sequence[McaBlock], target: Target, work: Path
) -> list[tuple[Charge, ...]]:
    """The costs in both models of what is in each loop; `blocks` are what llvm-mca says of the same, in order.

    Instructions of one operation and LMUL that LLVM charges differently are charged as most of them in the loop are.
    Raises ToolError and BuildError where a tool fails.
    """
    forms: list[Counter[_Form]] = []
    probes: dict[_Form, Micro] = {}
    for loop, block in zip(placed, blocks, strict=True):
        forms.append(Counter())
        # The block goes on with the count and branch of the loop around it.
        for (one, vtype), cost in zip(_with_states(loop), block.instructions, strict=False):
            state = vtype if one.is_vector else None
            form = _Form(one.mnemonic, "v0.t" in one.operands, state, cost.throughput, cost.latency)
            forms[-1][form] += 1
            probes.setdefault(form, _probe(loop, one, vtype))
    operations_of = dict(zip(probes, _identify(list(probes.values()), target, work), strict=True))
    return [_charges_of(counted, operations_of, target) for counted in forms]


def _charges_of(
    forms: Counter[_Form], operations_of: Mapping[_Form, tuple[str, int]], target: Target
) -> tuple[Charge, ...]:
    known: dict[tuple[str, int], Charge] = {}
    for form, _ in forms.most_common():
        operation, index = operations_of[form]
        if operation != UNKNOWN_OPERATION:
            known.setdefault((operation, index), _charge(form, operation, index, target))
    return tuple(known.values())


def with_charges(target: Target, charged: Iterable[Charge]) -> Target:
    """`target` with LLVM's costs where `charged` has them."""
    assert target.timing is not None
    costs = dict(target.timing.costs.cost)
    for charge in charged:
        cost, index = costs[charge.operation], LMULS.index(charge.lmul)
        busy = [_busy(cost, number, target) for number in range(len(LMULS))]
        latency = list(cost.latency)
        busy[index], latency[index] = charge.llvm_busy, charge.llvm_latency
        new = {"busy": tuple(busy), "latency": tuple(latency), "per_element": 0.0}
        masked = 1.0 if charge.masked else cost.masked
        costs[charge.operation] = cost.model_copy(update=new | {"masked": masked})
    return _with_costs(target, costs)


def _with_costs(target: Target, costs: Mapping[str, Cost]) -> Target:
    assert target.timing is not None
    table = target.timing.costs.model_copy(update={"cost": costs})
    return target.model_copy(update={"timing": target.timing.model_copy(update={"costs": table})})


def _charge(form: _Form, operation: str, index: int, target: Target) -> Charge:
    """LLVM's throughput is that of all pipes together: each is busy for a multiple of it."""
    assert target.timing is not None
    cost = target.timing.costs.cost[operation]
    busy = _busy(cost, index, target) * (cost.masked if form.masked else 1)
    name = form.mnemonic if form.vtype is None else f"{form.mnemonic} {form.vtype.lmul}"
    return Charge(
        operation, LMULS[index], name, form.masked,
        busy, cost.latency[index], form.llvm_throughput * len(cost.pipes), form.llvm_latency,
    )  # fmt: skip


def _busy(cost: Cost, index: int, target: Target) -> float:
    """Cycles of one pipe at an LMUL, for elements of 32 bits."""
    elements = (target.isa.vlen_bits or 0) // _ELEMENT_BITS * LMULS[index]
    return cost.per_element * elements or cost.busy[index]


def _with_states(loop: PlacedLoop) -> Iterator[tuple[Instruction, Vtype | None]]:
    """The instructions of a loop, each with the vector state that it runs under."""
    state = loop.loop.vtype
    for one in loop.body:
        yield one, state
        state = one.vtype or state


def _probe(loop: PlacedLoop, one: Instruction, vtype: Vtype | None) -> Micro:
    """Nothing but this instruction. Memory is reached through the register that the loop around it keeps."""
    text = re.sub(r"-?\w*\(\w+\)", "(s9)" if one.is_vector else "0(s9)", one.text)
    state = [] if vtype is None else [f"vsetvli t0, x0, {vtype}, ta, ma"]
    start = lines_of([loop.micro.start, *state])
    return Micro(one.mnemonic, lines_of([text] * _REPEATS), _REPEATS, "cycles", "", _ITERATIONS, 2, "", start)


def _identify(probes: Sequence[Micro], target: Target, work: Path) -> list[tuple[str, int]]:
    """Operation and index of LMUL of the instruction of each probe."""
    assert target.timing is not None
    pipe = target.timing.costs.pipes[0]
    names = list(operations())
    table = {
        name: Cost(pipes=(pipe,), busy=tuple(_mark(number, index) for index in range(len(LMULS))), latency=1, known="")
        for number, name in enumerate(names[: names.index(UNKNOWN_OPERATION)])
    }
    program = assemble_micros(target, probes, work)
    switches = TimingSwitches(perfect_memory=True)
    runs = run_micros(program, _with_costs(target, table), probes, switches=switches)
    found = []
    for micro, passes in zip(probes, runs, strict=True):
        number, index = divmod(round(micro_value(micro, passes)) - _FIRST_MARK, len(LMULS))
        found.append((names[number], index))
    return found


def _mark(operation: int, index: int) -> float:
    """How long an operation at an LMUL is busy in the table that tells them apart."""
    return float(_FIRST_MARK + operation * len(LMULS) + index)
