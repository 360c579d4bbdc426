"""Read what the bare-metal program says over its serial line (toolchain/bare/main.c). Pure: no files, no processes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lrf_dse.runners.answers import Rejected
from lrf_dse.runners.job import Array

_ILLEGAL_INSTRUCTION = 2
_CAUSES = {
    0: "misaligned instruction address",
    1: "instruction access fault",
    2: "illegal instruction",
    3: "breakpoint",
    4: "misaligned load",
    5: "load access fault",
    6: "misaligned store",
    7: "store access fault",
}

# Fields of a vector instruction: RVV 1.0, sections 7.3 (memory) and 11 (arithmetic).
_OP_V, _LOAD_FP, _STORE_FP = 0x57, 0x07, 0x27
_GATHER_16 = 0b001110
_WHOLE_REGISTER = 0b01000
_ELEMENT_BITS = {0: 8, 5: 16, 6: 32, 7: 64}
_MOVE_MASK = 0xFFF0_707F  # section 16.1: everything but the two registers
_MISCOMPUTED = {0x4200_6057: "vmv.s.x", 0x4200_5057: "vfmv.s.f"}


@dataclass(frozen=True)
class Pass:
    """One inference: what rdcycle and rdinstret counted."""

    cycles: int
    instructions: int


@dataclass(frozen=True)
class Console:
    """What a run without errors said."""

    cold: Pass
    warm: Pass
    ram_parts: Mapping[str, int]
    outputs: tuple[Array, ...]


def read_console(text: str, expected: Sequence[Array], *, simulator: str) -> Console:
    """The figures, and outputs in the dtypes and shapes of `expected`. Raises Rejected, naming `simulator`."""
    lines = [line.split(" ") for line in text.splitlines()]
    for line in lines:
        if line[0] == "error":
            raise Rejected("run", " ".join(line[1:]))
        if line[0] == "trap" and len(line) == 5:
            cause, pc, value, instruction = (int(word, 16) for word in line[1:])
            raise Rejected("run", _trap(cause, pc, value, instruction, simulator))
    try:
        return _facts(lines, expected)
    except (ValueError, KeyError, IndexError) as error:
        raise Rejected("run", f"the program's serial line is not complete: {text[-80:]!r}") from error


def refused_instruction(code: int) -> str | None:
    """The name of an instruction that rvsim 2.1.0 refuses though it is legal; None for any other.

    vrgatherei16.vv where the index group is smaller than the data group, and whole-register loads and stores of a
    register that is not a multiple of LMUL, which does not matter to them.

    >>> refused_instruction(0x028400A7), refused_instruction(0x3A1080D7), refused_instruction(0x02058407)
    ('vs1r.v', 'vrgatherei16.vv', None)
    """
    opcode, width = code & 0x7F, code >> 12 & 7
    if opcode == _OP_V and width == 0 and code >> 26 == _GATHER_16:
        return "vrgatherei16.vv"
    whole = code >> 26 & 7 == 0 and code >> 20 & 31 == _WHOLE_REGISTER
    if opcode not in {_LOAD_FP, _STORE_FP} or width not in _ELEMENT_BITS or not whole:
        return None
    registers = (code >> 29) + 1
    return f"vs{registers}r.v" if opcode == _STORE_FP else f"vl{registers}re{_ELEMENT_BITS[width]}.v"


def miscomputed_instructions(code: bytes) -> tuple[str, ...]:
    """The names of instructions in `code` that rvsim 2.1.0 executes wrongly under LMUL > 1.

    vmv.s.x and vfmv.s.f write one register whatever the LMUL; rvsim, under a tail-agnostic vtype, fills the rest of the
    group with ones. Only where those hold something is the result wrong: this explains an error and predicts none.

    >>> miscomputed_instructions(bytes.fromhex("d7610742"))
    ('vmv.s.x',)
    """
    halves = struct.unpack(f"<{len(code) // 2}H", code[: len(code) // 2 * 2])
    words = (low | high << 16 for low, high in pairwise(halves))
    return tuple(sorted({_MISCOMPUTED[key] for word in words if (key := word & _MOVE_MASK) in _MISCOMPUTED}))


def _trap(cause: int, pc: int, value: int, instruction: int, simulator: str) -> str:
    refused = refused_instruction(instruction) if cause == _ILLEGAL_INSTRUCTION else None
    if refused:
        return f"{simulator} cannot run this program: it raises IllegalInstruction on {refused}, which is legal code"
    what = _CAUSES.get(cause, f"exception {cause}")
    detail = f"{instruction:#x}" if cause == _ILLEGAL_INSTRUCTION else f"of address {value:#x}"
    return f"the program ended with an exception: {what} {detail} at {pc:#x}"


def _facts(lines: Sequence[Sequence[str]], expected: Sequence[Array]) -> Console:
    """Raises ValueError, KeyError or IndexError if something is missing."""
    if not lines or list(lines[-1]) != ["done"]:
        raise ValueError("no last line")
    passes = {line[0]: Pass(int(line[1]), int(line[2])) for line in lines if line[0] in {"cold", "warm"}}
    parts = {line[1]: int(line[2]) for line in lines if line[0] == "memory"}
    written = {int(line[1]): bytes.fromhex(line[2]) for line in lines if line[0] == "output"}
    outputs = []
    for index, want in enumerate(expected):
        data = written[index]
        if len(data) != want.nbytes:
            raise Rejected("verify", f"output {index} has {len(data)} bytes, expected {want.nbytes}")
        outputs.append(np.frombuffer(data, dtype=want.dtype.newbyteorder("<")).reshape(want.shape))
    return Console(passes["cold"], passes["warm"], parts, tuple(outputs))
