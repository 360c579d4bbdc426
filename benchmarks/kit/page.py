"""Tables that benchmarks write into pages of docs/, each between two markers of its own. Pure text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
