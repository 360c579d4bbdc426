"""Evaluate HAL-level IR into a Schedule.

After iree-compile --compile-to=hal a static model is a small imperative program: initializers create
the executable and the constant buffer, a memoised function records a command buffer, and an async
entry point allocates, executes and returns. Everything in it is constant but the contents of buffers,
so it is evaluated here, operation by operation, with buffers as symbols. Fences need no care: queue
operations appear in an order that satisfies their waits, and the host replays them one by one.

An operation that is not in the table of `hal_operations` is a ScheduleError that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrf_dse.builders.constants import buffer_constant_bytes
from lrf_dse.builders.hal_operations import HANDLERS, CommandBuffer, InputView, operand_segments, resolve
from lrf_dse.builders.schedule import Buffer, Command, Port, Schedule, Span, StorageKind
from lrf_dse.errors import ScheduleError

# Far more than any model has: a loop that never ends is an error, not a hang.
_MAX_STEPS = 1_000_000


def read_schedule(hal_text: str) -> Schedule:
    """The schedule of the one public entry point in `hal_text`. Raises ScheduleError."""
    from iree.compiler import ir

    with ir.Context():
        try:
            module = ir.Module.parse(hal_text)
        except ir.MLIRError as error:
            raise ScheduleError(f"the HAL IR does not parse: {str(error).splitlines()[0]}") from error
        return Evaluator(module).run()


class Evaluator:
    """State of one evaluation: SSA values, globals, storages and the commands met so far."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.globals: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        self.executables: dict[str, bytes] = {}
        self.storages: list[Buffer] = []
        self.emitted: list[Command] = []
        self.loading = True
        self.inputs: list[Port] = []
        self.steps = 0

    def run(self) -> Schedule:
        """The schedule of the module's one entry point."""
        initializers, entries = [], []
        for op in (view.operation for view in self.module.body.operations):
            if op.name == "hal.executable":
                self._read_executable(op)
            elif op.name == "util.global":
                # Set by an initializer; reading one that none has set is an error.
                self.globals[_symbol(op)] = None
            elif op.name == "util.initializer":
                initializers.append(op)
            elif op.name == "util.func":
                self.functions[_symbol(op)] = op
                # IREE marks entry points with their calling convention; other functions are called by these.
                entries += [op] if "iree.abi.model" in op.attributes else []
            else:
                raise ScheduleError(f"the HAL module holds {op.name!r}, which the schedule host does not know")
        if len(entries) != 1:
            raise ScheduleError(f"the HAL module must have one entry point, found {len(entries)}")
        for op in initializers:
            self.run_region(op.regions[0], [])
        # Whatever initializers emitted happens once, when the program starts; what follows happens in each inference.
        at_load, self.emitted, self.loading = self.emitted, [], False
        results = self.run_region(entries[0].regions[0], self._entry_arguments(entries[0]))
        outputs = tuple(Port(view.span, view.shape, view.element_type) for view in results)
        return Schedule(
            self.executables, tuple(self.storages), tuple(at_load), tuple(self.emitted), tuple(self.inputs), outputs
        )

    def _read_executable(self, op: Any) -> None:
        from iree.compiler import ir

        name = _symbol(op)
        binaries = [
            b.operation for b in op.regions[0].blocks[0].operations if b.operation.name == "hal.executable.binary"
        ]
        # A second binary appears where a variant's target differs from the device's by a letter (see dispatches).
        if len(binaries) != 1:
            raise ScheduleError(f"executable @{name} must hold one binary, found {len(binaries)}")
        self.executables[name] = buffer_constant_bytes(ir, binaries[0].attributes["data"])

    def _entry_arguments(self, op: Any) -> list[Any]:
        """Input buffer views as placeholders (sized by hal.buffer_view.assert), then the two fences."""
        return [
            InputView(self, index) if "buffer_view" in str(argument.type) else "fence"
            for index, argument in enumerate(op.regions[0].blocks[0].arguments)
        ]

    def new_storage(self, kind: StorageKind, size_bytes: int, data: bytes | None = None) -> Span:
        """A new storage, as the span of all of it."""
        storage = Buffer(kind, sum(s.kind == kind for s in self.storages), size_bytes, data)
        self.storages.append(storage)
        return Span(storage, 0, size_bytes)

    def run_region(self, region: Any, arguments: Sequence[Any]) -> list[Any]:
        """Evaluate a region from its first block until util.return; its operands are the result."""
        block, values = region.blocks[0], dict[Any, Any]()
        while True:
            # Conditions are known numbers, so each branch is simply taken; phi values are the arguments of blocks.
            values.update(zip(block.arguments, arguments, strict=True))
            for view in block.operations:
                op = view.operation
                self._count_step(op)
                operands = [values[operand] for operand in op.operands]
                if op.name == "util.return":
                    return operands
                if op.name in ("cf.br", "cf.cond_br"):
                    block, arguments = _branch(op, operands)
                    break
                values.update(zip(op.results, self._evaluate(op, operands), strict=True))

    def _count_step(self, op: Any) -> None:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise ScheduleError(f"the HAL module does not end after {_MAX_STEPS} operations (at {op.name!r})")

    def _evaluate(self, op: Any, operands: list[Any]) -> list[Any]:
        handler = HANDLERS.get(op.name)
        if handler is None:
            raise ScheduleError(
                f"the HAL module holds {op.name!r}, which the schedule host does not know: {_first_line(op)}",
                location=str(op.location),
            )
        try:
            return handler(self, op, operands)
        except ValueError as error:
            raise ScheduleError(f"{op.name}: {error}: {_first_line(op)}", location=str(op.location)) from error

    def execute(self, commands: CommandBuffer, table: Sequence[Span]) -> None:
        """Emit recorded commands with their slots resolved against the binding table."""
        for make, *arguments in commands.commands:
            self.emitted.append(make(*(resolve(argument, table) for argument in arguments)))


def _branch(op: Any, operands: list[Any]) -> tuple[Any, list[Any]]:
    """The block that a terminator goes to, and the arguments it passes."""
    if op.name == "cf.br":
        return op.successors[0], operands
    # Operands: the condition, the arguments for the first block, those for the second.
    _, count_true, count_false = operand_segments(op)
    true_args, false_args = operands[1 : 1 + count_true], operands[1 + count_true : 1 + count_true + count_false]
    return (op.successors[0], true_args) if operands[0] else (op.successors[1], false_args)


def _symbol(op: Any) -> str:
    return str(op.attributes["sym_name"].value)


def _first_line(op: Any) -> str:
    return str(op).splitlines()[0][:160]
