"""Find the innermost straight-line loops of compiled kernels, and the vector state that holds in them.

Reads a disassembly, whoever built the kernel: a backward branch whose body has no other jump, branch or call is a loop.
Pure text in, values out. LMUL and SEW are followed along all paths (forward data flow), not guessed from what stands
above; a loop whose vector instructions run under a state that is not known has `vtype` None.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

# A line of llvm-objdump: address, mnemonic, operands, sometimes a comment.
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+([a-z][\w.]*)\s*([^#\n]*)", re.MULTILINE)
_LABEL = re.compile(r"0x([0-9a-f]+) <")
_VTYPE = re.compile(r"\be(\d+), (mf?\d)\b")

_RETURNS = {"ret", "mret", "jr", "tail", "unimp", "ebreak"}
_CALLS = {"jal", "jalr", "call", "ecall"}


@dataclass(frozen=True)
class Vtype:
    """Element width in bits and length multiplier ("m1" to "m8", "mf2" to "mf8") of the vector unit."""

    sew: int
    lmul: str

    def __str__(self) -> str:
        return f"e{self.sew}, {self.lmul}"


@dataclass(frozen=True)
class Instruction:
    """One instruction as assembly; operands are separated by a comma and a space."""

    address: int
    mnemonic: str
    operands: str

    @property
    def text(self) -> str:
        """It as a line of assembly."""
        return f"{self.mnemonic} {self.operands}".strip()

    @property
    def target(self) -> int | None:
        """Where it may jump to, if that is a constant."""
        label = _LABEL.search(self.operands)
        return int(label[1], 16) if label and (self.is_branch or self.mnemonic in {"j", *_CALLS}) else None

    @property
    def is_branch(self) -> bool:
        """Whether it jumps under a condition."""
        return self.mnemonic.startswith("b") and _LABEL.search(self.operands) is not None

    @property
    def ends_block(self) -> bool:
        """Whether anything but the next instruction may follow."""
        return self.is_branch or self.mnemonic in {"j", *_RETURNS, *_CALLS}

    @property
    def vtype(self) -> Vtype | None:
        """The state that it sets, if it is a vsetvli or vsetivli."""
        found = _VTYPE.search(self.operands) if self.mnemonic in {"vsetvli", "vsetivli"} else None
        return Vtype(int(found[1]), found[2]) if found else None

    @property
    def is_vector(self) -> bool:
        """Whether it is for the vector unit; setting its state is not."""
        return self.mnemonic.startswith("v") and not self.mnemonic.startswith("vset")

    @property
    def is_float(self) -> bool:
        """Whether it is scalar floating point, memory accesses included."""
        return self.mnemonic.startswith("f") and not self.mnemonic.startswith("fence")


@dataclass(frozen=True)
class Loop:
    """One loop: its `body` without the branch back, the state on entry to it, where it is and how often it was found.

    Loops that differ only in registers and constants count as one.
    """

    source: str
    body: tuple[Instruction, ...]
    vtype: Vtype | None
    times: int = 1

    @property
    def address(self) -> int:
        """Of its first instruction."""
        return self.body[0].address

    @property
    def lmuls(self) -> str:
        """The length multipliers under which its vector instructions run."""
        states = [self.vtype, *(one.vtype for one in self.body)] if any(one.is_vector for one in self.body) else []
        return " ".join(sorted({state.lmul for state in states if state}))

    @property
    def summary(self) -> str:
        """What it consists of: "7 flw, 7 vfmacc.vf, 1 vle32.v; 2 others"."""
        counts = Counter(one.mnemonic for one in self.body if one.is_vector or one.is_float).most_common()
        others = len(self.body) - sum(count for _, count in counts)
        return ", ".join(f"{count} {name}" for name, count in counts) + (f"; {others} others" if others else "")

    @property
    def work(self) -> tuple[int, int, int]:
        """What makes it likely to be hot, compared in order: vector FMAs, vector instructions, scalar float ones."""
        fmas = sum("macc" in one.mnemonic or "madd" in one.mnemonic for one in self.body)
        return fmas, sum(one.is_vector for one in self.body), sum(one.is_float for one in self.body)


def find_loops(disassembly: str, source: str) -> tuple[Loop, ...]:
    """The innermost straight-line loops, in what llvm-objdump printed, that have vector or float instructions."""
    # Sections of an object file all start at address 0.
    sections = disassembly.split("Disassembly of section")
    return tuple(loop for section in sections for loop in _loops_of(_instructions(section), source))


def distinct(loops: Iterable[Loop]) -> tuple[Loop, ...]:
    """One loop of each kind, those with most work first; `times` says how many were alike."""
    kinds: dict[object, Loop] = {}
    for loop in loops:
        state = loop.vtype if any(one.is_vector for one in loop.body) else None
        kind = (state, tuple((one.mnemonic, one.vtype) for one in loop.body))
        known = kinds.get(kind)
        kinds[kind] = loop if known is None else replace(known, times=known.times + loop.times)
    return tuple(sorted(kinds.values(), key=lambda loop: loop.work, reverse=True))


def _instructions(section: str) -> tuple[Instruction, ...]:
    found = (Instruction(int(m[1], 16), m[2], re.sub(r",\s*", ", ", m[3].strip())) for m in _LINE.finditer(section))
    return tuple(sorted(found, key=lambda one: one.address))


def _loops_of(code: Sequence[Instruction], source: str) -> Iterator[Loop]:
    number = {one.address: index for index, one in enumerate(code)}
    states = _vtypes(code, number)
    for index, one in enumerate(code):
        first = number.get(one.target if one.is_branch and one.target is not None else -1)
        if first is None or first >= index:
            continue
        body = tuple(code[first:index])
        if not any(step.ends_block for step in body) and any(step.is_vector or step.is_float for step in body):
            yield Loop(source, body, states[first])


def _vtypes(code: Sequence[Instruction], number: dict[int, int]) -> list[Vtype | None]:
    """The vector state before each instruction: None where it differs between paths or nothing has set it.

    An instruction that no path seen here reaches is a function's entry: its caller's state is not known.
    """
    unseen = object()
    states: list[object] = [unseen] * len(code)

    def spread(start: int) -> None:
        waiting: list[tuple[int, Vtype | None]] = [(start, None)]
        while waiting:
            index, state = waiting.pop()
            if states[index] is not unseen:
                state = state if states[index] == state else None
                if states[index] == state:
                    continue
            states[index] = state
            one = code[index]
            after = one.vtype or (None if one.mnemonic in {"vsetvl", *_CALLS} else state)
            next_ones = [] if one.mnemonic in {"j", *_RETURNS} else [index + 1]
            if one.target in number and one.mnemonic not in _CALLS:
                next_ones.append(number[one.target])
            waiting += [(following, after) for following in next_ones if following < len(code)]

    # Entries in order of address: what an earlier function reaches is not an entry.
    for index in range(len(code)):
        if states[index] is unseen:
            spread(index)
    return [state if isinstance(state, Vtype) else None for state in states]
