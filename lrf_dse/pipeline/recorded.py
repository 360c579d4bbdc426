"""Records read back as the values that they were."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from lrf_dse.jsonform import from_json

Value = TypeVar("Value")


class Records(Protocol):
    """What a store is to who makes figures: a place for each, by key."""

    def get(self, key: str) -> Any | None:
        """The value of `key`, None where there is none."""
        ...

    def put(self, key: str, kind: str, value: Any, *, context: Any = None) -> None:
        """Keep a value."""
        ...


class NoRecords:
    """Records that forget: a worker of a cluster keeps nothing, its client does."""

    def get(self, _key: str) -> None:
        """Nothing."""

    def put(self, _key: str, _kind: str, _value: Any, *, context: Any = None) -> None:
        """Nothing is kept."""


def recorded(store: Records, key: str, kind: type[Value]) -> Value | None:
    """The `kind` that is recorded under `key`; None where nothing is, or a value as another release wrote it.

    A key says what a figure depends on, not how it is written down: such a figure is made again.
    """
    value = store.get(key)
    try:
        found: Value | None = None if value is None else from_json(kind, value)
    # Not an error of the user: the record is written again when the figure is made.
    except ValueError:
        return None
    return found
