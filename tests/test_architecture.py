"""The architecture as a test: which room imports which, what stays pure, and how large a file may grow.

The checkers work on source text, so that the tests below can show them bad snippets and see them fail.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lrf_dse"

# Left to right: a room imports itself and what stands in a column to its left, never its own column's neighbours.
# `__init__` is the public API. cost stands right of tt because the funnel prunes by tt's spectra, and runners right of
# builders because they read what was built and build their plugin.
TABLE: tuple[frozenset[str], ...] = tuple(
    frozenset(column.split())
    for column in (
        "errors",
        "units options progress",
        "resources",
        "process",
        "farm",
        "sealed",
        "judged shape",
        "schema",
        "jsonform",
        "target",
        "front",
        "tt",
        "cost",
        "codegen",
        "models",
        "store",
        "builders",
        "runners",
        "tune finetune",
        "plan",
        "deploy",
        "calibrate",
        "report",
        "pipeline",
        "__init__",
        "doctor",
        "cli",
        "__main__",
    )
)
COLUMN = {room: number for number, column in enumerate(TABLE) for room in column}

# Pure rooms compute: no files, clocks or processes.
PURE_ROOMS = {"front", "tt", "cost", "codegen", "plan"}
# fmt: off
IMPURE_MODULES = {
    "asyncio", "datetime", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
    "select", "shutil", "signal", "socket", "sqlite3", "subprocess", "tempfile", "threading", "time", "urllib",
}
# fmt: on
IMPURE_CALLS = {"open", "input"}
IMPURE_METHODS = {"fromfile", "tofile", "load", "save", "savez", "read_text", "write_text", "read_bytes", "write_bytes"}
PURITY_EXCEPTIONS = {
    ("lrf_dse/tt/t3f_svd.py", "os"): "TensorFlow reads its log level from the environment, once, when it is imported",
}

TERMINAL_ROOMS = {"cli", "__main__"}
TERMINAL_MODULES = {"typer", "click", "rich"}
TERMINAL_CALLS = {"print", "exit", "quit", "sys.exit", "os._exit", "SystemExit"}

HEAVY = {
    "dask",
    "distributed",
    "iree",
    "keras",
    "matplotlib",
    "onnx_ir",
    "onnxruntime",
    "pandas",
    "plotly",
    "t3f",
    "tensorflow",
    "torch",
}

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 12


def room_of(path: str) -> str:
    """The room of a file, from its path in the checkout: lrf_dse/tt/svd.py -> tt."""
    return Path(path).parts[1].removesuffix(".py")


def imports(node: ast.AST) -> Iterator[str]:
    """The dotted names that an import statement, or a call of import_module with a literal, may load."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        prefix = "." * node.level + (node.module or "")
        yield from (f"{prefix}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in {"import_module", "__import__"}:
        yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def dotted(node: ast.expr) -> str:
    """a.b.c of an expression made of names and attributes, else the empty string."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def import_problems(path: str, source: str) -> list[str]:
    """Imports that go right or sideways in TABLE, relative imports, and rooms that TABLE does not know."""
    room = room_of(path)
    if room not in COLUMN:
        return [f"{path}: room {room!r} is not in TABLE"]
    problems = []
    for node in ast.walk(ast.parse(source)):
        for name in imports(node):
            if name.startswith("."):
                problems.append(f"{path}: relative import {name}")
            if name.partition(".")[0] != "lrf_dse":
                continue
            parts = name.split(".")
            # `from lrf_dse import explore` asks the public API; `from lrf_dse import target` asks a room.
            other = parts[1] if len(parts) > 1 and parts[1] in COLUMN else "__init__"
            if len(parts) > 2 and parts[1] not in COLUMN:
                problems.append(f"{path}: imports unknown room {parts[1]!r}")
            elif other != room and COLUMN[other] >= COLUMN[room]:
                problems.append(f"{path}: {room} must not import {other}")
    return problems


def purity_problems(path: str, source: str) -> list[str]:
    """Files, clocks and processes in a pure room."""
    if room_of(path) not in PURE_ROOMS:
        return []
    problems = []
    for node in ast.walk(ast.parse(source)):
        for module in {name.partition(".")[0] for name in imports(node)} & IMPURE_MODULES:
            if (path, module) not in PURITY_EXCEPTIONS:
                problems.append(f"{path}: a pure room must not import {module}")
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name in IMPURE_CALLS or method in IMPURE_METHODS:
                problems.append(f"{path}:{node.lineno}: a pure room must not call {name or method}")
    return problems


def terminal_problems(path: str, source: str) -> list[str]:
    """Printing, exiting and terminal libraries outside the command line."""
    if room_of(path) in TERMINAL_ROOMS:
        return []
    problems = []
    for node in ast.walk(ast.parse(source)):
        for module in {name.partition(".")[0] for name in imports(node)} & TERMINAL_MODULES:
            problems.append(f"{path}: only cli may import {module}")
        raised = node.exc if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) else None
        called = node.func if isinstance(node, ast.Call) else raised
        if called is not None and dotted(called) in TERMINAL_CALLS:
            problems.append(f"{path}:{called.lineno}: only cli may use {dotted(called)}")
    return problems


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: not functions' bodies, not `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and dotted(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from at_import(child)


def heavy_problems(path: str, source: str) -> list[str]:
    """Slow imports that would run whenever the module is imported."""
    names = {name.partition(".")[0] for node in at_import(ast.parse(source)) for name in imports(node)}
    return [f"{path}: import {name} inside the function that needs it" for name in sorted(names & HEAVY)]


def shape_problems(path: str, source: str) -> list[str]:
    """Files and functions that grew past one idea, and files without a docstring."""
    tree = ast.parse(source)
    problems = [] if ast.get_docstring(tree) else [f"{path}: has no module docstring"]
    lines = len(source.splitlines())
    if lines > MAX_FILE_LINES:
        problems.append(f"{path}: {lines} lines, at most {MAX_FILE_LINES}: look for the second idea")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                problems.append(f"{path}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}")
            if (count := parameters(node)) > MAX_PARAMETERS:
                problems.append(f"{path}: {node.name} has {count} parameters, at most {MAX_PARAMETERS}")
    return problems


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a function has, without `self` or `cls`."""
    found = function.args
    names = [each.arg for each in (*found.posonlyargs, *found.args, *found.kwonlyargs)]
    names += [each.arg for each in (found.vararg, found.kwarg) if each is not None]
    return len(names) - (names[:1] in (["self"], ["cls"]))


# Neither pattern matches its own text here.
FORBIDDEN_TEXT = {
    "an absolute path of one machine": re.compile(
        rb"(?<![\w.~*})$-])/(?:root|work|opt/pypi|opt/wheels|tmp/exp|home/[a-z][a-z0-9_-]*)/"
    ),
    "a package registry's host name": re.compile(
        rb"\b(?:pypi|pythonhosted|npmjs|deb\.debian|security\.debian)\.(?:org|com)\b"
    ),
}


def text_problems(path: str, content: bytes) -> list[str]:
    """What ties a file to one machine or one registry."""
    return [
        f"{path}: {what}: {match.group().decode(errors='replace')}"
        for what, pattern in FORBIDDEN_TEXT.items()
        if (match := pattern.search(content))
    ]


def cycles(sources: dict[str, str]) -> list[str]:
    """Import cycles between modules, of imports that run at import time."""
    modules = {path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): path for path in sources}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = {name for node in at_import(ast.parse(sources[path])) for name in imports(node)}
        found = {name if name in modules else name.rpartition(".")[0] for name in names}
        graph[module] = (found & modules.keys()) - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


CHECKERS = (import_problems, purity_problems, terminal_problems, heavy_problems, shape_problems)


def package_sources() -> dict[str, str]:
    """Path in the checkout and text of every module of the package."""
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def project_files() -> list[Path]:
    """Files that are in git or could be added to it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_the_package_keeps_to_the_rule(checker) -> None:
    sources = package_sources()
    assert len(sources) > 5
    assert [problem for path, source in sources.items() for problem in checker(path, source)] == []


def test_modules_import_each_other_without_cycles() -> None:
    assert cycles(package_sources()) == []


def test_no_file_is_tied_to_a_machine_or_a_registry() -> None:
    files = project_files()
    assert len(files) > 10
    assert [p for file in files for p in text_problems(file.relative_to(ROOT).as_posix(), file.read_bytes())] == []


def test_ruff_bans_the_same_heavy_imports() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert set(settings["flake8-tidy-imports"]["banned-module-level-imports"]) == HEAVY


def test_exceptions_are_still_needed() -> None:
    sources = package_sources()
    for path, module in PURITY_EXCEPTIONS:
        found = {name.partition(".")[0] for node in ast.walk(ast.parse(sources[path])) for name in imports(node)}
        assert module in found, f"{path} no longer imports {module}: remove the exception"


# The checkers themselves: each must see what it is there for, and must not cry wolf.
DOC = '"""A."""\n'
BAD = [
    (import_problems, "lrf_dse/schema.py", "from lrf_dse.store import Store", "schema must not import store"),
    (import_problems, "lrf_dse/cost/a.py", "import lrf_dse.codegen.b", "cost must not import codegen"),
    (import_problems, "lrf_dse/tune/a.py", "from lrf_dse import finetune", "tune must not import finetune"),
    (import_problems, "lrf_dse/builders/a.py", "def f(): import lrf_dse.runners", "builders must not import runners"),
    (import_problems, "lrf_dse/pipeline.py", "from lrf_dse import explore", "pipeline must not import __init__"),
    (import_problems, "lrf_dse/plan/a.py", "import_module('lrf_dse.cli')", "plan must not import cli"),
    (import_problems, "lrf_dse/tt/a.py", "from . import svd", "relative import"),
    (import_problems, "lrf_dse/utils.py", "", "not in TABLE"),
    (import_problems, "lrf_dse/cli.py", "from lrf_dse.common.x import y", "unknown room 'common'"),
    (purity_problems, "lrf_dse/tt/a.py", "def f():\n  from os import environ", "must not import os"),
    (purity_problems, "lrf_dse/plan/a.py", "import datetime as d", "must not import datetime"),
    (purity_problems, "lrf_dse/codegen/a.py", "open('x').read()", "must not call open"),
    (purity_problems, "lrf_dse/cost/a.py", "np.load('x')", "must not call np.load"),
    (terminal_problems, "lrf_dse/store.py", "print(1)", "only cli may use print"),
    (terminal_problems, "lrf_dse/store.py", "import sys\nsys.exit(1)", "only cli may use sys.exit"),
    (terminal_problems, "lrf_dse/store.py", "raise SystemExit", "only cli may use SystemExit"),
    (terminal_problems, "lrf_dse/report/a.py", "from rich.console import Console", "only cli may import rich"),
    (heavy_problems, "lrf_dse/tt/a.py", "try:\n  import torch as t\nexcept ImportError: pass", "import torch"),
    (heavy_problems, "lrf_dse/tt/a.py", "class A:\n  from iree.compiler import ir", "import iree"),
    (shape_problems, "lrf_dse/tt/a.py", "x = 1", "no module docstring"),
    (shape_problems, "lrf_dse/tt/a.py", '"""A."""\n' + "x = 1\n" * 350, "351 lines"),
    (shape_problems, "lrf_dse/tt/a.py", '"""A."""\ndef f():\n' + "  x = 1\n" * 60, "f has 61 lines"),
    (shape_problems, "lrf_dse/tt.py", f"{DOC}def f(self, a, b, c, d, e, g, h, *i, j, k, l, m, **n): 0", "f has 13"),
]  # fmt: skip
GOOD = [
    (import_problems, "lrf_dse/runners/a.py", "from lrf_dse.builders.zig import zig_cc"),
    (import_problems, "lrf_dse/cli/a.py", "from lrf_dse import explore, doctor\nfrom lrf_dse.cli import tables"),
    (purity_problems, "lrf_dse/builders/a.py", "import os"),
    (purity_problems, "lrf_dse/tt/t3f_svd.py", "import os"),
    (terminal_problems, "lrf_dse/cli.py", "import typer\nprint(1)"),
    (terminal_problems, "lrf_dse/codegen/a.py", "text = 'print(1)'"),
    (heavy_problems, "lrf_dse/tt/a.py", "def f():\n  import tensorflow\nif TYPE_CHECKING:\n  import pandas"),
    (shape_problems, "lrf_dse/tt/a.py", '"""A."""\n' + "x = 1\n" * 349),
]


@pytest.mark.parametrize(("checker", "path", "source", "message"), BAD)
def test_a_checker_sees_a_bad_snippet(checker, path: str, source: str, message: str) -> None:
    (problem,) = checker(path, source)
    assert message in problem


@pytest.mark.parametrize(("checker", "path", "source"), GOOD)
def test_a_checker_passes_a_good_snippet(checker, path: str, source: str) -> None:
    assert checker(path, source) == []


def test_a_cycle_is_seen() -> None:
    a, b = "lrf_dse/tt/a.py", "lrf_dse/tt/b.py"
    assert cycles({a: "from lrf_dse.tt.b import x", b: "from lrf_dse.tt import a"}) != []
    assert cycles({a: "from lrf_dse.tt.b import x", b: "def f():\n  from lrf_dse.tt import a"}) == []


@pytest.mark.parametrize(
    "parts",
    [
        ("/ro", "ot/x"),
        ("at /wo", "rk/main"),
        ("'/ho", "me/alice/x"),
        ("https://py", "pi.org/"),
        ("files.python", "hosted.org"),
        ("deb.deb", "ian.org"),
    ],
)
def test_tied_text_is_seen(parts: tuple[str, str]) -> None:
    assert text_problems("f", "".join(parts).encode()) != []


@pytest.mark.parametrize(
    "text", ["reports/work/x", "~/root/x", "/usr/bin/env", "on PyPI", "$HOME/work/x", "/homework/"]
)
def test_plain_text_is_not_mistaken(text: str) -> None:
    assert text_problems("f", text.encode()) == []
