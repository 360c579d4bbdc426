"""Generated C as Python, so that tests run it on `codegen.machine` without a compiler and an emulator.

It knows the C that `lrf_dse.codegen` writes: pointers, loops, unions of bits, macros of one instruction each, functions
that return nothing. What the instruction of a macro is comes from the macro's own text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from codegen.machine import TYPES, Bits, Cast, Machine, Pointer, Union

from lrf_dse.codegen import microkernel, stream_code, stream_pass, stream_state, widening

KINDS = {"unsigned char": "U8", "unsigned short": "U16", "float": "F32"}
POINTER = re.compile(r"\((?:const )?(unsigned char|unsigned short|float) \*\)\s*")
NUMBER = re.compile(r"\b(?:(0x[0-9a-f]+)u|(0x[0-9a-f.]+p[+-]?\d+)f|(\d+\.\d*(?:e-?\d+)?)f|(0x[0-9a-f]+|\d+)L)\b")
FUNCTION = re.compile(r"^(?:static )?(?:inline )?(?:__attribute__\(\(.*?\)\) )?void (\w+)\((.*)\)$")


class Macro(NamedTuple):
    """A macro of one instruction: its parameters, the instruction with registers in braces, its scalars as Python.

    `sets` is the parameter that it writes, "" if it writes vector registers or memory.
    """

    parameters: list[str]
    template: str
    scalars: list[str]
    sets: str


def _macros(*texts: str) -> dict[str, Macro]:
    found = {}
    defined = re.compile(r"^#define (\w+)\(([^)]*)\) __asm__ volatile\((.*)\)$", re.M)
    for name, listed, body in defined.findall("\n".join(texts)):
        text, *rest = body.split(":", maxsplit=1)
        template = "".join(piece or f"{{{raw}}}" for piece, raw in re.findall(r'"([^"]*)"|#(\w+)', text))
        operands = [(sign, _closed(rest[0][at:])) for sign, at in _constraints(rest[0])] if rest else []
        scalars = [expression(re.sub(r"^\*\((.*)\)$", r"\1", value)) for sign, value in operands if sign[0] != "="]
        sets = next((value for sign, value in operands if sign[0] in "=+"), "")
        found[name] = Macro([part.strip() for part in listed.split(",")], template, scalars, sets)
    return found


def _constraints(text: str) -> list[tuple[str, int]]:
    """Every constraint of an operand, with where its expression begins."""
    return [(match[1], match.end()) for match in re.finditer(r'"([=+]?[A-Za-z]+)"\(', text)]


def _closed(text: str) -> str:
    """`text` up to the parenthesis that closes it."""
    depth = 1
    for at, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            return text[:at]
    raise ValueError(text)


def _arguments(text: str) -> list[str]:
    """The arguments of a call, apart at commas outside parentheses."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def expression(text: str) -> str:
    """A C expression as Python."""
    text = re.sub(r"\((?:size_t|long|int|float)\)", "", text)
    text = re.sub(r"\(([^()?]+) \? ([^:]+) : ([^()]+)\)", r"((\2) if \1 else (\3))", text)
    text = re.sub(r"^(.+) \? (.+) : (.+)$", r"(\2) if \1 else (\3)", text)
    text = re.sub(r"\b(\w+) - (\w+) >= ", r"(\1 - \2) % (1 << 64) >= ", text)  # unsigned
    text = re.sub(r"^\*(\w+)$", r"\1[0]", text)
    text = re.sub(r"^&(.*)\[(.*)\]$", r"(\1) + (\2)", text)
    text = POINTER.sub(lambda match: f"{KINDS[match[1]]} @ ", text)
    text = NUMBER.sub(lambda m: m[1] or (f"float.fromhex('{m[2]}')" if m[2] else m[3] or m[4]), text)
    text = re.sub(r"!(?!=)", "not ", text)
    return text.replace("/", "//").replace("&&", "and")


def python_of(lines: list[str]) -> str:
    """Lines of C as Python: blocks by their indentation, macros as calls of the machine."""
    out: list[str] = []
    blocks: list[tuple[str, int]] = []  # what ends each block, and how deep the statement is that it belongs to
    depth = outer = 0

    def emit(text: str) -> None:
        out.append("    " * depth + text)

    for raw in lines:
        line = re.sub(r"\bfrom\b", "source", raw.strip())  # a word of Python
        if not line or line.startswith(("/*", "*", "(void)", "#")) or line.endswith("*/"):
            continue
        if line.startswith("}"):
            ending, outer = blocks.pop()
            if line.startswith("} while ("):
                ending = f"if not ({expression(line[9:-2])}): break"
            emit(ending or "pass")
            depth = outer
        elif line.endswith("{"):
            blocks.append((_opened(line[:-1].strip(), emit), outer))
            depth += 1
            outer = depth
        elif line.startswith("for ("):  # of one statement, without braces
            _opened(line, emit)
            depth += 1
        else:
            _statement(line.rstrip(";"), emit)
            depth = outer
    return "\n".join(out)


def _opened(head: str, emit: Callable[[str], None]) -> str:
    """Emit the head of a block; what its last statement is."""
    counted = re.match(r"for \(size_t (\w+) = (.*); \w+ < (.*); \w+(?:\+\+| \+= (\d+))\)", head)
    down = re.match(r"for \(size_t (\w+) = (.*);; \w+--\)", head)
    steps = re.match(r"for \(; (\w+); (.*)\)", head)
    if counted:
        name, start, end, step = counted.groups()
        emit(f"for {name} in range({expression(start)}, {expression(end)}, {step or 1}):")
    elif down:
        emit(f"{down[1]} = {expression(down[2])}")
        emit("while True:")
        return f"{down[1]} -= 1"
    elif steps:
        emit(f"while {steps[1]}:")
        return "; ".join(part.replace("count--", "count -= 1") for part in steps[2].split(", "))
    elif head.startswith("if ("):
        emit(f"if {expression(head[4:-1])}:")
    else:
        emit("while True:" if head == "do" else "if True:")
    return ""


def _statement(line: str, emit: Callable[[str], None]) -> None:
    call = re.match(r"^([A-Z][A-Z0-9_]*)\((.*)\)$", line)
    union = re.match(r".*union \{.*\} (\w+) = \{(.*)\}$", line)
    unions = re.match(r"^union \{[^}]*\} ([\w, ]+)$", line)
    declared = re.match(
        r"^(?:const )?(unsigned char|unsigned short|float|ptrdiff_t|size_t|unsigned long|long|int) (.*)$", line
    )
    conditional = re.match(r"^if \((.*)\) (break|\w+\(.*\))$", line)
    if union:
        emit(f"{union[1]} = Bits({expression(union[2])})")
    elif unions:
        for name in unions[1].split(", "):
            emit(f"{name} = Union()")
    elif conditional:
        emit(f"if {expression(conditional[1])}: {expression(conditional[2])}")
    elif call and call[1] == "STEP":
        pointer, step = _arguments(call[2])
        emit(f"{pointer} = stepped({pointer}, {expression(step)})")
    elif call and call[1] == "KEEP":
        emit("pass")
    elif call:
        emit(_instruction(MACROS[call[1]], _arguments(call[2])))
    elif declared and "=" in declared[2]:
        for one in _arguments(declared[2]):
            name, value = one.split("=", 1)
            emit(f"{name.replace('*', '').replace('const ', '').strip()} = {expression(value.strip())}")
    elif declared:
        emit("pass")
    else:
        emit(expression(line))


def _instruction(macro: Macro, arguments: list[str]) -> str:
    """The call of the machine that a macro stands for."""
    given = dict(zip(macro.parameters, arguments, strict=True))
    operation, _, registers = macro.template.format(**given).partition(" ")
    parts = [part.strip().strip("()") for part in registers.split(",")]
    scalars = []
    for scalar in macro.scalars:
        names = re.compile(rf"\b({'|'.join(given)})\b")
        scalars.append(names.sub(lambda match: f"({expression(given[match[1]])})", scalar))
    target = f"{given[macro.sets]} = " if macro.sets else ""
    return f"{target}machine.run({', '.join([repr(operation), repr(parts), *scalars])})"


def stepped(pointer: Pointer, count: int) -> Pointer:
    """A pointer so many bytes further on."""
    return Pointer(pointer.buffer, pointer.at + int(count), pointer.kind)


def half_to_float(bits: np.uint16) -> float:
    return float(np.array([bits], np.uint16).view(np.float16)[0])


def run(machine: Machine, lines: list[str], **names: Any) -> None:
    """Run the statements `lines` with `names` known."""
    _called(machine, compile(python_of(lines), "generated", "exec"), list(names), {}, *names.values())


def functions(machine: Machine, source: str) -> dict[str, Callable[..., None]]:
    """The C functions of `source` that return nothing, by name."""
    lines, found = source.splitlines(), dict[str, Callable[..., None]]()
    for at, line in enumerate(lines):
        head = FUNCTION.match(line)
        if head and lines[at + 1] == "{":
            end = next(n for n in range(at, len(lines)) if lines[n] == "}")
            names = [re.split(r"[ *]", part)[-1].replace("from", "source") for part in head[2].split(", ")]
            body = compile(python_of(lines[at + 2 : end]), head[1], "exec")
            found[head[1]] = partial(_called, machine, body, names, found)
    return found


def _called(
    machine: Machine, body: Any, names: list[str], others: dict[str, Callable[..., None]], *values: Any
) -> None:
    known: dict[str, Any] = {kind: Cast(kind) for kind in TYPES}
    known |= {"machine": machine, "stepped": stepped, "half_to_float": half_to_float, "Bits": Bits, "Union": Union}
    known |= {"__builtin_fabsf": abs, **others, **dict(zip(names, values, strict=True))}
    with np.errstate(all="ignore"):
        exec(body, known)


MACROS = _macros(microkernel.MACROS, widening.MACROS, stream_code.MACROS, stream_pass.MACROS, stream_state.MACROS)
