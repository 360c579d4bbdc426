"""Two programs of LLVM, as processes: llvm-objdump shows a kernel image's code, llvm-mca times a block of assembly.

Owns their command lines and what of their output is used; judges nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf_dse.errors import ToolError, UsageError
from lrf_dse.process import Limit, run
from lrf_dse.target import Target

LLVM_MCA, LLVM_OBJDUMP = "llvm-mca-22", "llvm-objdump-22"
PACKAGE = "llvm-22"

_FEATURES = "+m,+a,+f,+d,+c,+v"
_PROCESSORS: Mapping[str, str] = {"spacemit-k1": "spacemit-x60"}
"""LLVM's scheduling model of a target's core."""

_MOST_CPU_S = 300.0


def disassemble(image: Path) -> str:
    """The code of the riscv64 ELF file `image`, as llvm-objdump prints it. Raises ToolError."""
    return _run(LLVM_OBJDUMP, ["-d", f"--mattr={_FEATURES}", "--no-show-raw-insn", str(image)])


@dataclass(frozen=True)
class McaInstruction:
    """One instruction in LLVM's model: cycles to its result, and cycles each of many independent ones takes."""

    text: str
    latency: int
    throughput: float


@dataclass(frozen=True)
class McaBlock:
    """What llvm-mca says of a block that it repeats."""

    name: str
    cycles: int
    instructions: tuple[McaInstruction, ...]


def run_mca(blocks: Mapping[str, str], target: Target, *, iterations: int) -> tuple[McaBlock, ...]:
    """Every block (assembly by name), repeated `iterations` times, in LLVM's model of the core of `target`.

    Raises UsageError if LLVM has none that is known here, ToolError if llvm-mca is missing or refuses a block.
    """
    processor = processor_of(target)
    text = "".join(f"# LLVM-MCA-BEGIN {name}\n{block}\n# LLVM-MCA-END\n" for name, block in blocks.items())
    model = ["-mtriple=riscv64", f"-mcpu={processor}", f"-mattr={_FEATURES}"]
    said = _run(LLVM_MCA, [*model, f"-iterations={iterations}", "-json", "-instruction-info", "-"], stdin=text)
    found = tuple(_read_block(region) for region in json.loads(said)["CodeRegions"])
    if [block.name for block in found] != list(blocks):
        raise ToolError(f"{LLVM_MCA} answered for {len(found)} blocks of {len(blocks)}")
    return found


def processor_of(target: Target) -> str:
    """LLVM's name for the core of `target`. Raises UsageError if it is not known here."""
    if target.name not in _PROCESSORS:
        known = ", ".join(sorted(_PROCESSORS))
        raise UsageError(f"target {target.name}: no scheduling model of LLVM is known for it (only for {known})")
    return _PROCESSORS[target.name]


def _read_block(region: Mapping[str, Any]) -> McaBlock:
    facts = region["InstructionInfoView"]["InstructionList"]
    instructions = tuple(
        McaInstruction(text.replace("\t", " ").strip(), fact["Latency"], fact["RThroughput"])
        for text, fact in zip(region["Instructions"], facts, strict=True)
    )
    return McaBlock(region["Name"], region["SummaryView"]["TotalCycles"], instructions)


def _run(program: str, arguments: Sequence[str], *, stdin: str = "") -> str:
    path = shutil.which(program)
    if path is None:
        raise ToolError(f"{program} not found: install the Debian package {PACKAGE} (apt-get install {PACKAGE})")
    done = run([path, *arguments], name=program, limit=Limit(cpu_s=_MOST_CPU_S), stdin=stdin)
    if done.code != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise ToolError(f"{program} failed: {lines[0] if lines else f'exit code {done.code}'}")
    return done.stdout
