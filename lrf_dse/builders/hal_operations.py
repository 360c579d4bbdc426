"""The operations of HAL IR that the schedule host knows: one handler each, and the values they make.

A handler takes (evaluator, operation, operand values) and returns the result values. Buffers are Spans,
fences and types are mere words. What is not in HANDLERS (foot of the file) is unknown: see `hal`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrf_dse.builders.constants import buffer_constant_bytes
from lrf_dse.builders.schedule import Copy, Dispatch, Fill, Port, Span
from lrf_dse.errors import ScheduleError

if TYPE_CHECKING:
    from lrf_dse.builders.hal import Evaluator

_DEVICE = "device"


def operand_segments(op: Any) -> list[int]:
    """How many operands belong to each named group of `op`."""
    return [int(n) for n in op.attributes["operandSegmentSizes"]]


@dataclass
class CommandBuffer:
    """Commands as recorded; a binding is a Span, or a slot number of the table given at execution."""

    commands: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class _Slot:
    index: int
    offset: int
    length: int


@dataclass(frozen=True)
class _Function:
    executable: str
    name: str


@dataclass(frozen=True)
class BufferView:
    """A result of the entry point: where it lies, and its tensor type."""

    span: Span
    shape: tuple[int, ...]
    element_type: str


class InputView:
    """An input of the entry point: its storage exists from the moment its type is asserted."""

    def __init__(self, evaluator: Evaluator, index: int) -> None:
        self.evaluator, self.index = evaluator, index
        self.shape: tuple[int, ...] = ()
        self.element_type = ""
        self._span: Span | None = None

    @property
    def span(self) -> Span:
        """Where the input lies."""
        if self._span is None:
            raise ScheduleError(f"input {self.index} is used before its type is asserted")
        return self._span

    def declare(self, shape: tuple[int, ...], element_type: str) -> None:
        """Learn the tensor type from the assertion at the head of the entry point, and make the storage."""
        size = _element_bytes(element_type)
        for extent in shape:
            size *= extent
        self.shape, self.element_type = shape, element_type
        self._span = self.evaluator.new_storage("input", size)
        self.evaluator.inputs.append(Port(self._span, shape, element_type))


def _element_bytes(element_type: str) -> int:
    # Such as 32 of "f32" or "i32".
    digits = "".join(c for c in element_type if c.isdigit())
    if not digits or int(digits) % 8:
        raise ScheduleError(f"element type {element_type!r} is not a whole number of bytes")
    return int(digits) // 8


def _grouped(op: Any, operands: list[Any]) -> list[list[Any]]:
    """Operands split by operandSegmentSizes."""
    groups, position = [], 0
    for count in operand_segments(op):
        groups.append(operands[position : position + count])
        position += count
    return groups


def _reference(buffer: Any, offset: int, length: int) -> Span | _Slot:
    """A buffer operand is a Span (direct) or a slot number of the binding table (indirect)."""
    return buffer.narrowed(offset, length) if isinstance(buffer, Span) else _Slot(buffer, offset, length)


def _pattern_bytes(op: Any, pattern: int) -> bytes:
    length = int(op.attributes["pattern_length"].value) if "pattern_length" in op.attributes else 0
    if length == 0:
        # Without the attribute the pattern is as long as its own type: the last integer among the operands.
        types = [str(operand.type) for operand in op.operands if str(operand.type) in ("i8", "i16", "i32", "i64")]
        length = int(types[-1][1:]) // 8
    # MLIR's integers are signed; the mask makes the bytes of a negative one.
    return (pattern & ((1 << (8 * length)) - 1)).to_bytes(length, "little")


def resolve(argument: Any, table: Sequence[Span]) -> Any:
    """`argument` with every slot in it replaced by the span that the binding table holds there."""
    if isinstance(argument, _Slot):
        return table[argument.index].narrowed(argument.offset, argument.length)
    if isinstance(argument, tuple) and any(isinstance(item, _Slot) for item in argument):
        return tuple(resolve(item, table) for item in argument)
    return argument


def _constant(_: Evaluator, op: Any, __: list[Any]) -> list[Any]:
    value = op.attributes["value"]
    if not hasattr(value, "value"):
        raise ValueError("only integer constants are known")
    # An i1 stays a truth value for cond_br and select.
    return [value.value if isinstance(value.value, bool) else int(value.value)]


def _compare(_: Evaluator, op: Any, operands: list[Any]) -> list[Any]:
    a, b = operands
    # arith::CmpIPredicate; the unsigned forms (6..9) see only sizes and counts here, which are never negative.
    table = [a == b, a != b, a < b, a <= b, a > b, a >= b, a < b, a <= b, a > b, a >= b]
    return [table[int(op.attributes["predicate"].value)]]


def _global_load(ev: Evaluator, op: Any, _: list[Any]) -> list[Any]:
    name = str(op.attributes["global"].value)
    if ev.globals.get(name) is None:
        raise ValueError(f"global @{name} is read before it is set")
    return [ev.globals[name]]


def _global_store(ev: Evaluator, op: Any, operands: list[Any]) -> list[Any]:
    ev.globals[str(op.attributes["global"].value)] = operands[0]
    return []


def _call(ev: Evaluator, op: Any, operands: list[Any]) -> list[Any]:
    return ev.run_region(ev.functions[str(op.attributes["callee"].value)].regions[0], operands)


def _buffer_constant(ev: Evaluator, op: Any, _: list[Any]) -> list[Any]:
    from iree.compiler import ir

    data = buffer_constant_bytes(ir, op.attributes["value"])
    return [ev.new_storage("constant", len(data), data)]


def _import(_: Evaluator, __: Any, operands: list[Any]) -> list[Any]:
    # True answers whether constants can be used where they lie: the other branch would copy them at load.
    source, offset, length = operands[-3:]
    return [True, source.narrowed(offset, length)]


def _allocate(ev: Evaluator, _: Any, operands: list[Any]) -> list[Any]:
    # The last operand is the size. What initializers allocate outlives an inference.
    return [ev.new_storage("state" if ev.loading else "transient", operands[-1])]


def _subspan(_: Evaluator, __: Any, operands: list[Any]) -> list[Any]:
    return [operands[0].narrowed(operands[1], operands[2])]


def _lookup(_: Evaluator, op: Any, operands: list[Any]) -> list[Any]:
    path = str(op.attributes["entry_point"]).split("::")
    return [_Function(operands[0], path[-1].lstrip("@").strip('"'))]


def _executable_create(ev: Evaluator, op: Any, operands: list[Any]) -> list[Any]:
    # Operands are the device and its affinity; anything more would be specialisation constants.
    if len(operands) > 2:
        raise ValueError("executable constants are not known")
    name = str(op.attributes["executable_target"]).split("::")[0].lstrip("@").strip('"')
    if name not in ev.executables:
        raise ValueError(f"executable @{name} does not exist")
    return [name]


def _dispatch(_: Evaluator, op: Any, operands: list[Any]) -> list[Any]:
    # Groups in the order of the operation's definition (HALOps.td of IREE 3.13): command buffer, executable, function,
    # workgroups x, y and z, constants, then buffers, offsets and lengths of the bindings.
    (commands,), _executable, (function,), (x,), (y,), (z,), constants, buffers, offsets, lengths = _grouped(
        op, operands
    )
    bindings = tuple(_reference(b, o, n) for b, o, n in zip(buffers, offsets, lengths, strict=True))
    commands.commands.append((Dispatch, function.executable, function.name, (x, y, z), tuple(constants), bindings))
    return []


def _record_fill(_: Evaluator, op: Any, operands: list[Any]) -> list[Any]:
    commands, buffer, offset, length, pattern = operands
    commands.commands.append((Fill, _reference(buffer, offset, length), _pattern_bytes(op, pattern)))
    return []


def _record_copy(_: Evaluator, __: Any, operands: list[Any]) -> list[Any]:
    commands, source, source_offset, target, target_offset, length = operands
    commands.commands.append(
        (Copy, _reference(source, source_offset, length), _reference(target, target_offset, length))
    )
    return []


def _record_update(_: Evaluator, __: Any, operands: list[Any]) -> list[Any]:
    commands, source, _size, source_offset, target, target_offset, length = operands
    commands.commands.append((Copy, source.narrowed(source_offset, length), _reference(target, target_offset, length)))
    return []


def _queue_fill(ev: Evaluator, op: Any, operands: list[Any]) -> list[Any]:
    # Of all queue operations the first four operands are the device, its affinity, and the fences to wait for and to
    # signal.
    target, offset, length, pattern = operands[4:8]
    ev.emitted.append(Fill(target.narrowed(offset, length), _pattern_bytes(op, pattern)))
    return []


def _queue_copy(ev: Evaluator, _: Any, operands: list[Any]) -> list[Any]:
    # queue.copy, queue.read (from a constant) and queue.update: source, its offset, target, its offset, length.
    source, source_offset, target, target_offset, length = operands[4:9]
    ev.emitted.append(Copy(source.narrowed(source_offset, length), target.narrowed(target_offset, length)))
    return []


def _execute(ev: Evaluator, op: Any, operands: list[Any]) -> list[Any]:
    if op.name.endswith("indirect"):
        # Buffers of the binding table, then their offsets, then their lengths.
        commands, rest = operands[4], operands[5:]
        n = len(rest) // 3
        table = [b.narrowed(o, s) for b, o, s in zip(rest[:n], rest[n : 2 * n], rest[2 * n :], strict=True)]
        ev.execute(commands, table)
    else:
        for commands in operands[4:]:
            ev.execute(commands, [])
    return []


def _view_assert(_: Evaluator, __: Any, operands: list[Any]) -> list[Any]:
    view, element_type, _encoding, *shape = operands
    if isinstance(view, InputView):
        view.declare(tuple(shape), element_type)
    return []


def _view_create(_: Evaluator, __: Any, operands: list[Any]) -> list[Any]:
    buffer, offset, length, element_type, _encoding, *shape = operands
    return [BufferView(buffer.narrowed(offset, length), tuple(shape), element_type)]


def _element_type(_: Evaluator, op: Any, __: list[Any]) -> list[Any]:
    # IREE makes a number of the type; here its name is kept, which the ports need.
    return [str(op.attributes["type"].value)]


def _always(*results: Any) -> Callable[[Evaluator, Any, list[Any]], list[Any]]:
    return lambda _ev, _op, _operands: list(results)


def _operand(index: int) -> Callable[[Evaluator, Any, list[Any]], list[Any]]:
    return lambda _ev, _op, operands: [operands[index]]


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Evaluator, Any, list[Any]], list[Any]]:
    return lambda _ev, _op, operands: [function(operands[0], operands[1])]


Handler = Callable[["Evaluator", Any, list[Any]], list[Any]]
HANDLERS: dict[str, Handler] = {
    "arith.constant": _constant,
    "arith.cmpi": _compare,
    "arith.addi": _binary(lambda a, b: a + b),
    "arith.subi": _binary(lambda a, b: a - b),
    "arith.muli": _binary(lambda a, b: a * b),
    "arith.andi": _binary(lambda a, b: a & b),
    "arith.ori": _binary(lambda a, b: a | b),
    "arith.select": lambda _ev, _op, v: [v[1] if v[0] else v[2]],
    # Python's integers have no width.
    "arith.index_cast": _operand(0),
    "util.null": _always(None),
    "util.cmp.eq": _binary(lambda a, b: a == b),
    "util.status.check_ok": _always(),
    "util.global.load": _global_load,
    "util.global.store": _global_store,
    "util.call": _call,
    "util.buffer.constant": _buffer_constant,
    "hal.devices.count": _always(1),
    "hal.devices.get": _always(_DEVICE),
    # Is this a local device, and does it run this format of executable? The module was compiled for no other.
    "hal.device.query": _always(True, True),
    "hal.device.allocator": _always("allocator"),
    "hal.device.queue.alloca": _allocate,
    "hal.device.queue.barrier": _always(),
    "hal.device.queue.copy": _queue_copy,
    "hal.device.queue.dealloca": _always(),
    "hal.device.queue.execute": _execute,
    "hal.device.queue.execute.indirect": _execute,
    "hal.device.queue.fill": _queue_fill,
    "hal.device.queue.read": _queue_copy,
    "hal.device.queue.update": _queue_copy,
    "hal.allocator.allocate": _allocate,
    "hal.allocator.import": _import,
    "hal.buffer.assert": _always(),
    "hal.buffer.subspan": _subspan,
    "hal.buffer_usage": _always("usage"),
    "hal.buffer_view.assert": _view_assert,
    "hal.buffer_view.buffer": lambda _ev, _op, v: [v[0].span],
    "hal.buffer_view.create": _view_create,
    "hal.command_buffer.copy_buffer": _record_copy,
    "hal.command_buffer.create": lambda _ev, _op, _v: [CommandBuffer()],
    "hal.command_buffer.dispatch": _dispatch,
    "hal.command_buffer.execution_barrier": _always(),
    "hal.command_buffer.fill_buffer": _record_fill,
    "hal.command_buffer.finalize": _always(),
    "hal.command_buffer.update_buffer": _record_update,
    "hal.element_type": _element_type,
    "hal.encoding_type": _always("encoding"),
    # A constant that is read like a file: here it is the buffer itself.
    "hal.ex.file.from_memory": _operand(2),
    "hal.executable.create": _executable_create,
    "hal.executable.lookup.function": _lookup,
    # The status 0 is success.
    "hal.fence.await": _always(0),
    "hal.fence.create": _always("fence"),
    "hal.fence.join": _always("fence"),
    "hal.memory_type": _always("memory"),
}
