"""A vector machine: the RVV instructions that generated kernels use, with the rules that an emulator lets pass.

Groups of registers start at multiples of their size, no instruction works on more elements than its registers hold,
and nothing outside a buffer is touched. Registers hold ones (NaN) until they are written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TYPES = {"U8": np.uint8, "U16": np.uint16, "F32": np.float32}


class Pointer:
    """A place in a buffer of bytes; whatever is read or written through it must lie within the buffer."""

    def __init__(self, buffer: np.ndarray, at: int = 0, kind: str = "U8") -> None:
        self.buffer, self.at, self.kind = buffer, at, kind

    def __add__(self, elements: int) -> Pointer:
        return Pointer(self.buffer, self.at + int(elements) * np.dtype(TYPES[self.kind]).itemsize, self.kind)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pointer) and other.buffer is self.buffer and other.at == self.at

    __hash__ = None

    def bytes(self, count: int, apart: int = 1, size: int = 1) -> np.ndarray:
        """The indices of `count` elements of `size` bytes that start so many bytes `apart`."""
        places = self.at + apart * np.arange(count)[:, None] + np.arange(size)
        assert count == 0 or (places.min() >= 0 and places.max() < self.buffer.size), "outside the buffer"
        return places

    def __getitem__(self, index: int) -> Any:
        there = self + index
        size = np.dtype(TYPES[self.kind]).itemsize
        value = self.buffer[there.bytes(1, size=size)[0]].view(TYPES[self.kind])[0]
        return value if self.kind == "F32" else int(value)

    def __setitem__(self, index: int, value: Any) -> None:
        there, kind = self + index, TYPES[self.kind]
        self.buffer[there.bytes(1, size=np.dtype(kind).itemsize)[0]] = np.array([value]).astype(kind).view(np.uint8)


class Cast:
    """`F32 @ pointer` is the pointer as one to floats."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __matmul__(self, pointer: Pointer) -> Pointer:
        return Pointer(pointer.buffer, pointer.at, self.kind)


@dataclass(frozen=True)
class Bits:
    """A constant union of bits and a float: `value` is a register of a float that holds these bits."""

    bits: int

    @property
    def value(self) -> Bits:
        return self


class Union:
    """A union of a float and its bits."""

    bits = 0

    @property
    def value(self) -> np.float32:
        return np.array([self.bits], np.uint32).view(np.float32)[0]

    @value.setter
    def value(self, value: float) -> None:
        self.bits = int(np.array([value], np.float32).view(np.uint32)[0])


def memory(values: np.ndarray, kind: str = "F32") -> Pointer:
    """A pointer to the bytes of `values`, which the machine changes in place."""
    return Pointer(values.reshape(-1).view(np.uint8), 0, kind)


@dataclass
class Machine:
    """32 vector registers of `vlen` bits, and counts of the instructions that ran by name and LMUL."""

    vlen: int = 256
    sew: int = 32
    lmul: float = 1.0
    vl: int = 0
    ran: Counter[tuple[str, float]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.file = np.full(32 * self.vlen // 8, 255, np.uint8)

    def vector(self, name: str, kind: type, *, copy: bool = True) -> np.ndarray:
        """The `vl` elements of a group of registers."""
        size = np.dtype(kind).itemsize
        registers = max(1, int(self.lmul * 8 * size / self.sew))
        first = int(name[1:])
        assert first % registers == 0, f"{name} is no group of {registers}"
        assert self.vl * size * 8 <= registers * self.vlen, f"{self.vl} elements do not fit {registers} registers"
        start = first * self.vlen // 8
        view = self.file[start : start + self.vl * size].view(kind)
        return view.copy() if copy else view

    def write(self, name: str, values: np.ndarray, kind: type) -> None:
        self.vector(name, kind, copy=False)[:] = values.astype(kind)

    def first(self, name: str, kind: type, value: Any = None) -> Any:
        """The first element of a register, set where there is a `value`."""
        start, size = int(name[1:]) * self.vlen // 8, np.dtype(kind).itemsize
        view = self.file[start : start + size].view(kind)
        if value is not None:
            view[0] = value
        return view[0]

    def run(self, operation: str, registers: list[str], *scalars: Any) -> Any:
        """One instruction on `registers` (and what else its text names) and scalars; what it returns."""
        self.ran[(operation, self.lmul)] += 1
        return OPERATIONS[operation](self, registers, *scalars)


def _float(sew: int) -> type:
    return np.float32 if sew == 32 else np.float16


def _scalar(value: Any, kind: type) -> float:
    """A scalar of `kind`: half precision comes in the register of a float that holds its bits."""
    if isinstance(value, Bits):
        assert kind is np.float16 and value.bits >> 16 == 0xFFFF, "a half precision number that is not boxed"
        return float(np.array([value.bits & 0xFFFF], np.uint16).view(np.float16)[0])
    assert not isinstance(value, np.float16) or kind is np.float16
    return float(value)


def _set(machine: Machine, operands: list[str], *length: int) -> None:
    machine.sew = int(operands[2][1:])
    machine.lmul = 1 / int(operands[3][2:]) if operands[3].startswith("mf") else float(operands[3][1:])
    machine.vl = int(length[0]) if length else machine.vl
    assert machine.vl * machine.sew <= machine.lmul * machine.vlen, "more elements than registers hold"


def _load(bits: int, machine: Machine, operands: list[str], pointer: Pointer, apart: int | None = None) -> None:
    kind, size = {8: np.uint8, 16: np.uint16, 32: np.uint32}[bits], bits // 8
    places = pointer.bytes(machine.vl, size if apart is None else int(apart), size)
    machine.write(operands[0], np.ascontiguousarray(pointer.buffer[places]).view(kind).ravel(), kind)


def _store(bits: int, machine: Machine, operands: list[str], pointer: Pointer, apart: int | None = None) -> None:
    kind, size = {16: np.uint16, 32: np.uint32}[bits], bits // 8
    places = pointer.bytes(machine.vl, size if apart is None else int(apart), size)
    pointer.buffer[places] = machine.vector(operands[0], kind).view(np.uint8).reshape(-1, size)


def _extended(signed: bool, parts: int, machine: Machine, operands: list[str]) -> None:
    name = "int" if signed else "uint"
    values = machine.vector(operands[1], np.dtype(f"{name}{machine.sew // parts}").type)
    machine.write(operands[0], values, np.dtype(f"{name}{machine.sew}").type)


def _integer(
    work: Callable[[np.ndarray, int], np.ndarray], machine: Machine, operands: list[str], *scalar: Any
) -> None:
    kind = np.dtype(f"uint{machine.sew}").type
    second = int(scalar[0]) if scalar else int(operands[2])
    values = machine.vector(operands[1], kind).astype(np.int64)
    machine.write(operands[0], work(values, second) & ((1 << machine.sew) - 1), kind)


def _signed(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint32).view(np.int32).astype(np.int64)


def _real(work: Callable[..., np.ndarray], machine: Machine, operands: list[str], *scalar: Any) -> None:
    """Work on what is in `operands`, the result in the first, and rounded once."""
    kind = _float(machine.sew)
    known = [machine.vector(name, kind).astype(np.float64) for name in operands if name.startswith("v")]
    values = [_scalar(one, kind) for one in scalar]
    machine.write(operands[0], work(*known, *values), kind)


def _widened(work: Callable[..., np.ndarray], machine: Machine, operands: list[str], *scalar: Any) -> None:
    """Half precision operands, a single precision result in twice the registers."""
    assert machine.sew == 16, "only half precision is widened"
    narrow = [machine.vector(name, np.float16).astype(np.float64) for name in operands[1:] if name.startswith("v")]
    values = [_scalar(one, np.float16) for one in scalar]
    total = machine.vector(operands[0], np.float32).astype(np.float64)
    machine.write(operands[0], work(total, *narrow, *values), np.float32)


def _integers(work: Callable[..., np.ndarray], name: str, machine: Machine, operands: list[str]) -> None:
    kind = np.dtype(f"{name}{machine.sew}").type
    machine.write(operands[0], work(*(machine.vector(one, kind) for one in operands[1:])), kind)


def _reduced(work: Callable[..., Any], name: str, machine: Machine, operands: list[str]) -> None:
    """All elements of the second operand and the first of the third, to the first element of the first."""
    kind = np.dtype(f"{name}{machine.sew}").type
    start, values = machine.first(operands[2], kind), machine.vector(operands[1], kind)
    machine.first(operands[0], kind, work(start, values))


def _sum_of_halves(machine: Machine, operands: list[str]) -> None:
    start = machine.first(operands[2], np.float32)
    machine.first(operands[0], np.float32, start + machine.vector(operands[1], np.float16).astype(np.float64).sum())


def _of(work: Any, *first: Any) -> Callable[..., Any]:
    return lambda machine, operands, *rest: work(*first, machine, operands, *rest)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "vsetvli": _set,
    **{f"vle{bits}.v": _of(_load, bits) for bits in (8, 16, 32)},
    "vlse32.v": _of(_load, 32),
    **{f"vse{bits}.v": _of(_store, bits) for bits in (16, 32)},
    "vsse32.v": _of(_store, 32),
    "vzext.vf2": _of(_extended, False, 2),
    "vzext.vf4": _of(_extended, False, 4),
    "vsext.vf2": _of(_extended, True, 2),
    "vand.vi": _of(_integer, lambda a, b: a & b),
    "vand.vx": _of(_integer, lambda a, b: a & b),
    "vor.vx": _of(_integer, lambda a, b: a | b),
    "vsrl.vi": _of(_integer, lambda a, b: a >> b),
    "vsll.vi": _of(_integer, lambda a, b: a << b),
    "vadd.vx": _of(_integer, lambda a, b: a + b),
    "vmax.vx": _of(_integer, lambda a, b: np.maximum(_signed(a), b)),
    "vmin.vx": _of(_integer, lambda a, b: np.minimum(_signed(a), b)),
    "vminu.vx": _of(_integer, lambda a, b: np.minimum(a, b & 0xFFFFFFFF)),
    "vfadd.vv": _of(_real, lambda _, a, b: a + b),
    "vfmul.vv": _of(_real, lambda _, a, b: a * b),
    "vfsub.vf": _of(_real, lambda _, a, f: a - f),
    "vfmul.vf": _of(_real, lambda _, a, f: a * f),
    "vfmacc.vf": _of(_real, lambda c, b, f: c + f * b),
    "vfnmsac.vf": _of(_real, lambda c, b, f: c - f * b),
    "vfmacc.vv": _of(_real, lambda c, a, b: c + a * b),
    "vfwsub.vf": _of(_widened, lambda _, b, f: b - f),
    "vfwmul.vf": _of(_widened, lambda _, b, f: b * f),
    "vfwmacc.vf": _of(_widened, lambda c, b, f: c + f * b),
    "vmv.v.i": lambda machine, operands: machine.write(
        operands[0], np.full(machine.vl, int(operands[1])), np.dtype(f"uint{machine.sew}").type
    ),
    "flw": lambda _, __, pointer: np.float32(pointer[0]),
    "flh": lambda _, __, pointer: np.uint16((Cast("U16") @ pointer)[0]).view(np.float16),
    "vmax.vv": _of(_integers, np.maximum, "int"),
    "vmaxu.vv": _of(_integers, np.maximum, "uint"),
    "vredmax.vs": _of(_reduced, lambda start, values: max(start, values.max()), "int"),
    "vredmaxu.vs": _of(_reduced, lambda start, values: max(start, values.max()), "uint"),
    "vfredmax.vs": _of(_reduced, lambda start, values: max(start, values.max()), "float"),
    "vfredmin.vs": _of(_reduced, lambda start, values: min(start, values.min()), "float"),
    "vfredusum.vs": _of(_reduced, lambda start, values: start + values.sum(), "float"),
    "vfwredusum.vs": _sum_of_halves,
    "vfwadd.wv": _of(_widened, lambda total, _, b: total + b),
    "vfncvt.f.f.w": lambda machine, operands: machine.write(
        operands[0], machine.vector(operands[1], np.float32), np.float16
    ),
    "vfmax.vv": _of(_real, lambda _, a, b: np.maximum(a, b)),
    "vfmin.vv": _of(_real, lambda _, a, b: np.minimum(a, b)),
    "vfmv.s.f": lambda machine, operands, value: machine.first(operands[0], np.float32, value),
    "vfmv.f.s": lambda machine, operands: machine.first(operands[1], np.float32),
    "vmv.x.s": lambda machine, operands: int(machine.first(operands[1], np.dtype(f"int{machine.sew}").type)),
    "fmax.s": lambda _, __, a, b: max(np.float32(a), np.float32(b)),
    "fmin.s": lambda _, __, a, b: min(np.float32(a), np.float32(b)),
    "fcvt.s.h": lambda _, __, half: np.float32(half),
    "fcvt.h.s": lambda _, __, single: np.float16(single),
    "fsh": lambda _, __, half, pointer: pointer.__setitem__(0, half.view(np.uint16)),
}
