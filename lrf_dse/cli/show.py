"""How results appear: tables or JSON go to standard output, progress and warnings to standard error."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lrf_dse.errors import UsageError
from lrf_dse.progress import Progress
from lrf_dse.sealed import write_atomic


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    # Names in other scripts stay readable; what the terminal cannot show is escaped by the stream (cli.main).
    print(json.dumps(value, indent=2, ensure_ascii=False))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """One JSON document as a file, in the place of an older one of its kind. Raises UsageError for any other file."""
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            known = None
        # A file of the same keys is taken for an earlier output of the same command; anything else is somebody's.
        if not isinstance(known, dict) or known.keys() != value.keys():
            raise UsageError(f"--json {path}: is there already and no earlier output; give another name")
    write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def print_line(text: str = "") -> None:
    """One line on standard output."""
    print(printable(text))


def printable(text: str) -> str:
    r"""`text` with escapes for what moves a cursor, ends a line or turns the order of letters round.

    Names come from model files: one with a line end would break a table, one with an escape sequence rule the terminal.

    >>> printable("fc\nblock\x1b[31m")
    'fc\\nblock\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def one_line(text: str) -> str:
    """`text` as one line: line ends of messages become spaces, other control characters are escaped."""
    return printable(" ".join(text.split()))


def warn(text: str) -> None:
    """One warning on standard error."""
    print(f"warning: {one_line(text)}", file=sys.stderr)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, marked: Sequence[int] = ()
) -> None:
    """A table; a column is aligned right if its name starts with '>'; rows of `marked` are bold."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)), title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        heading = Text(printable(column.removeprefix(">")))
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for index, row in enumerate(rows):
        # Text, because rich would read "[fc1]" in a plain string as markup.
        table.add_row(*(Text(printable(cell)) for cell in row), style="bold" if index in marked else None)
    # Fold nothing and cut nothing, whatever the terminal's width: the numbers are the result.
    console = Console(width=400, highlight=False)
    console.print(table, crop=False, soft_wrap=True)
    console.print()


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """A callback (stage, done, total) that draws bars on standard error, or where that is no terminal writes lines.

    Nothing if `quiet`. The bars begin with the first stage: bad input that is found before has standard error for
    itself.
    """
    if quiet:
        yield lambda _stage, _done, _total: None
        return
    if not sys.stderr.isatty():
        with progress_lines(every_s=60.0) as lines:
            yield lines
        return
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    # A fixed width of the names: bars of several stages begin in one column.
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = rich_progress.Progress(*columns, console=Console(stderr=True))
    tasks: dict[str, Any] = {}

    def advance(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            bars.start()
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield advance
    finally:
        if tasks:
            bars.stop()


@contextmanager
def progress_lines(*, every_s: float) -> Iterator[Progress]:
    """A callback (stage, done, total) that writes a plain line for every stage, and one every `every_s` seconds."""
    began, stop = time.monotonic(), threading.Event()
    stages: dict[str, tuple[int, int]] = {}

    def tell() -> None:
        # The stage that began last: dictionaries keep the order.
        stage, (done, total) = next(reversed(stages.items()))
        print(f"{(time.monotonic() - began) / 60:.1f} min: {stage}: {done} of {total}", file=sys.stderr, flush=True)

    def advance(stage: str, done: int, total: int) -> None:
        is_new = stage not in stages
        stages[stage] = done, total
        if is_new:
            tell()

    def remind() -> None:
        while not stop.wait(every_s):
            if stages:
                tell()

    # A daemon, so that it cannot keep a process alive that ends by an exception.
    clock = threading.Thread(target=remind, daemon=True)
    clock.start()
    try:
        yield advance
    finally:
        stop.set()
        clock.join()


def number(value: float | None) -> str:
    """A count with thousands separators; a dash for an unknown."""
    return "-" if value is None else f"{value:,.0f}"


def metric_value(value: float | None) -> str:
    """A value of any metric; a dash for an unknown."""
    return "-" if value is None else f"{value:.2f}" if abs(value) >= 1 else f"{value:.4g}"


def interval(bounds: tuple[float, float] | None) -> str:
    """The ends of an interval."""
    return "-" if bounds is None else f"{bounds[0]:.2f}..{bounds[1]:.2f}"


def percent(value: float | None, *, digits: int = 2) -> str:
    """A percentage or points; a dash for an unknown."""
    return "-" if value is None else f"{value:.{digits}f}"
