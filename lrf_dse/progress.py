"""How progress is told: one kind of callback, which stages call and the command line shows."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is to do."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """No progress shown."""
