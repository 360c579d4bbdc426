"""Tables that benchmarks write into pages of docs/, each between two markers of its own, and their figures as .csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of text; a bar inside a cell is escaped.

    >>> print(markdown_table(["a", "b"], [[1, "x"]]))
    | a | b |
    |---|---|
    | 1 | x |
    """
    lines = [_row(header), "|" + "---|" * len(header), *(_row([str(cell) for cell in row]) for row in rows)]
    return "\n".join(lines)


def with_section(page: str, name: str, text: str) -> str:
    """`page` with `text` between the markers of the section `name`. Raises ValueError if it has no such section."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no section between {begin.strip()} and {end.strip()}")
    return f"{before}{begin}{text}\n{end}{after}"


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """The rows, which all have the keys of the first one, as a .csv."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
