"""Records read back as the values that they were."""

from __future__ import annotations

from typing import TypeVar

from lrf_dse.jsonform import from_json
from lrf_dse.store import Store

Value = TypeVar("Value")


def recorded(store: Store, key: str, kind: type[Value]) -> Value | None:
    """The `kind` that is recorded under `key`; None where nothing is, or a value as another release wrote it.

    A key says what a figure depends on, not how it is written down: such a figure is made again.
    """
    value = store.get(key)
    try:
        found: Value | None = None if value is None else from_json(kind, value)
    except ValueError:
        return None
    return found
