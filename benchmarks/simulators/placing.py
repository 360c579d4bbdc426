"""Make a microbenchmark of a loop cut from a kernel: the same instructions, on data that stays in the nearest cache.

Pure text. The registers that a loop brings in are given values, so that every address lies in the buffer: a base
register points to a place of its own there, whatever else adds to an address is 0. Steps from one iteration to the next
(`addi a0, a0, 64`) become steps of 0, so that an iteration touches what the last one did. Nothing else is changed:
instructions, their order and what they wait for are the kernel's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.simulators.loops import Instruction, Loop, Vtype
from lrf_dse.calibrate.micro import Micro, lines_of

ITERATIONS = 1000

_TAKEN = ("t6", "s9", "s10")  # by the loops around a microbenchmark
_NAMES = ("zero", "ra", "sp", "gp", "tp", *(f"t{n}" for n in range(7)), *(f"s{n}" for n in range(12)))
_INTEGER = frozenset((*_NAMES, *(f"a{n}" for n in range(8))))
_MEMORY_OPERAND = re.compile(r"(-?\w*)\((\w+)\)")
_INDEXED = re.compile(r"v[ls][ou]x")
_STRIDED = re.compile(r"v[ls]s(seg\d)?e?\d+\.v|v[ls]sseg")

_VECTOR_LENGTH, _STRIDE_BYTES = 256, 64
_FIRST_PLACE, _PLACE_STEP = 1 << 20, (4 << 10) + 320  # far enough apart for 12-bit offsets, in different sets
_REACH = 64 << 10  # how far from a pointer an address may lie
_MASK = (1 << 64) - 1


class Unplaced(Exception):
    """A loop that cannot be placed; the message says why."""


@dataclass(frozen=True)
class _Value:
    """What an integer register holds: `pointers` times the buffer's address, and `offset`."""

    pointers: int
    offset: int


@dataclass(frozen=True)
class PlacedLoop:
    """A loop and its microbenchmark; `body` is what of the loop is in it, instruction by instruction."""

    loop: Loop
    body: tuple[Instruction, ...]
    micro: Micro


_Registers = dict[str, _Value | None]  # None: not known here


def place(loop: Loop, name: str) -> PlacedLoop:
    """`loop` as the microbenchmark `name`, one iteration of it an iteration. Raises Unplaced."""
    body = _renamed(_frozen(loop.body))
    if loop.vtype is None and not _sets_vtype_first(body):
        raise Unplaced("its vector state is not known")
    brought = _brought_in(body)
    fixed = dict.fromkeys(_lengths(body), _VECTOR_LENGTH) | dict.fromkeys(_strides(body), _STRIDE_BYTES)
    candidates = sorted(brought - set(fixed))
    pointers = _pointers(body, candidates, {register: fixed.get(register, 0) for register in brought})
    start = [
        *_vector_start(loop.vtype, masked=any("v0.t" in one.operands for one in body)),
        *(f"li {register}, {value}" for register, value in sorted(fixed.items()) if register in brought),
        *(f"li {register}, 0" for register in candidates if register not in pointers),
    ]
    for number, register in enumerate(pointers):
        start += [f"li {register}, {_FIRST_PLACE + number * _PLACE_STEP}", f"add {register}, {register}, s9"]
    text = lines_of(one.text for one in body)
    return PlacedLoop(loop, body, Micro(name, text, 1, iterations=ITERATIONS, start=lines_of(start)))


def _vector_start(vtype: Vtype | None, *, masked: bool) -> Iterator[str]:
    """Zeros in all vector registers (indices among them), ones in the mask; then the state that the loop expects."""
    yield "vsetvli t0, x0, e32, m8, ta, ma"
    yield from (f"vmv.v.i v{group}, 0" for group in (0, 8, 16, 24))
    if masked:
        yield "vmv.v.i v0, -1"
    if vtype is not None:
        yield f"vsetvli t0, x0, {vtype}, ta, ma"


def _sets_vtype_first(body: Sequence[Instruction]) -> bool:
    """Whether the loop sets the vector state before it computes."""
    first = next((one for one in body if one.is_vector or one.vtype is not None), None)
    return first is None or first.vtype is not None


def _frozen(body: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """Steps of registers from one iteration to the next become 0."""
    brought = _brought_in(body)

    def freeze(one: Instruction) -> Instruction:
        operands = _operands(one)
        steps = one.mnemonic == "addi" and operands[0] == operands[1] and operands[0] in brought
        return Instruction(one.address, "addi", f"{operands[0]}, {operands[0]}, 0") if steps else one

    return tuple(freeze(one) for one in body)


def _renamed(body: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """The registers of the loops around it give way to unused ones."""
    used = {word for one in body for word in re.findall(r"\w+", one.operands)}
    spare = [name for name in sorted(_INTEGER - {"zero"}) if name not in used and name not in _TAKEN]
    clashes = [name for name in _TAKEN if name in used]
    if len(clashes) > len(spare):
        raise Unplaced("it uses all integer registers")
    new = dict(zip(clashes, spare, strict=False))
    return tuple(
        Instruction(one.address, one.mnemonic, re.sub(r"\w+", lambda word: new.get(word[0], word[0]), one.operands))
        for one in body
    )


def _operands(one: Instruction) -> list[str]:
    return one.operands.split(", ") if one.operands else []


def _written(one: Instruction) -> str | None:
    """The integer register that an instruction writes."""
    first = next(iter(_operands(one)), "")
    is_store = re.fullmatch(r"s[bhwd]", one.mnemonic) is not None
    return first if first in _INTEGER and not is_store else None


def _read(one: Instruction) -> set[str]:
    """The integer registers that it reads."""
    operands = _operands(one)[1:] if _written(one) else _operands(one)
    return {word for text in operands for word in re.findall(r"\w+", text) if word in _INTEGER} - {"zero"}


def _brought_in(body: Sequence[Instruction]) -> set[str]:
    """The integer registers that an iteration reads before it writes them."""
    brought: set[str] = set()
    written: set[str] = set()
    for one in body:
        brought |= _read(one) - written
        written |= {_written(one) or "zero"}
    return brought


def _lengths(body: Sequence[Instruction]) -> set[str]:
    """Registers that ask for a vector length."""
    return {_operands(one)[1] for one in body if one.mnemonic == "vsetvli"} - {"zero"}


def _strides(body: Sequence[Instruction]) -> set[str]:
    return {_operands(one)[2] for one in body if _STRIDED.fullmatch(one.mnemonic)} - {"zero"}


def _pointers(body: Sequence[Instruction], candidates: Sequence[str], values: Mapping[str, int]) -> tuple[str, ...]:
    """Registers that, as pointers into the buffer, keep every address in it and in one place. Raises Unplaced."""

    def registers(pointers: Iterable[str]) -> _Registers:
        return {name: _Value(int(name in pointers), value) for name, value in values.items()}

    # Addresses are sums: what each register alone adds to them says what several do.
    adds = {name: _addresses(body, registers([name])) for name in candidates}
    covers = {
        name: frozenset(number for number, value in enumerate(found) if value and value.pointers)
        for name, found in adds.items()
        if all(value and value.pointers in (0, 1) for value in found)
    }
    chosen = _cover(frozenset(range(len(_addresses(body, registers([]))))), covers)
    if chosen is not None:
        state = registers(chosen)
        first, second = _addresses(body, state), _addresses(body, state)
        if first == second and all(value and abs(value.offset) <= _REACH for value in first):
            return chosen
    raise Unplaced("no values of the registers that it brings in keep its addresses in one place")


def _cover(uncovered: frozenset[int], covers: Mapping[str, frozenset[int]]) -> tuple[str, ...] | None:
    """Names whose sets are disjoint and together `uncovered`; None if there are none."""
    if not uncovered:
        return ()
    first = min(uncovered)
    for name, covered in covers.items():
        if first in covered and covered <= uncovered:
            rest = _cover(uncovered - covered, covers)
            if rest is not None:
                return (name, *rest)
    return None


def _addresses(body: Sequence[Instruction], registers: _Registers) -> list[_Value | None]:
    """The addresses of an iteration's memory accesses, in order; `registers` are those after it then."""
    found: list[_Value | None] = []
    for one in body:
        if memory := _MEMORY_OPERAND.search(one.operands):
            base = registers.get(memory[2])
            found.append(_Value(base.pointers, base.offset + int(memory[1] or "0", 0)) if base else None)
        if _INDEXED.match(one.mnemonic) and any(_operands(one)[2] == _operands(other)[0] for other in body):
            found.append(None)
        if (written := _written(one)) is not None:
            registers[written] = _result(one, registers)
    return found


def _result(one: Instruction, registers: _Registers) -> _Value | None:
    """What an instruction leaves in its integer register, as far as addresses are made of it."""
    if one.mnemonic == "csrr":
        return _Value(0, 32) if one.operands.endswith("vlenb") else None
    rule = _RULES.get(one.mnemonic)
    values = [_value(text, registers) for text in _operands(one)[1:]] if rule else []
    known = [value for value in values if value is not None]
    if rule is None or len(known) < len(values):
        return None
    offset = _signed(rule(*(value.offset for value in known)))
    pointers = [value.pointers for value in known]
    if not any(pointers):
        return _Value(0, offset)
    weights = _LINEAR.get(one.mnemonic)
    return None if weights is None else _Value(sum(w * p for w, p in zip(weights, pointers, strict=True)), offset)


def _value(text: str, registers: _Registers) -> _Value | None:
    if text == "zero":
        return _Value(0, 0)
    return registers.get(text) if text in _INTEGER else _Value(0, int(text, 0))


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


_RULES: Mapping[str, Callable[..., int]] = {
    "li": lambda a: a,
    "lui": lambda a: _signed(((a << 12) & 0xFFFFFFFF) ^ (1 << 31)) - (1 << 31),
    "mv": lambda a: a,
    "addi": lambda a, b: a + b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "neg": lambda a: -a,
    "slli": lambda a, b: a << b,
    "srli": lambda a, b: (a & _MASK) >> b,
    "srai": lambda a, b: a >> b,
    "and": lambda a, b: a & b,
    "andi": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "ori": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "xori": lambda a, b: a ^ b,
    "mul": lambda a, b: a * b,
    "mulh": lambda a, b: (a * b) >> 64,
    "mulhu": lambda a, b: ((a & _MASK) * (b & _MASK)) >> 64,
    "snez": lambda a: int(a != 0),
    "seqz": lambda a: int(a == 0),
}
_LINEAR: Mapping[str, Sequence[int]] = {
    "mv": (1,),
    "addi": (1, 0),
    "add": (1, 1),
    "sub": (1, -1),
    "neg": (-1,),
}
"""How often each operand's pointers are in the result, for the operations on addresses."""
