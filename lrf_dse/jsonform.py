"""The JSON form of core values, and content keys: what records are kept by. Works on any frozen dataclass of values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable
from functools import cache
from typing import Any, cast


def to_json(value: Any) -> Any:
    """The JSON form of a core value: plain dicts, lists and scalars."""
    return _adapter(cast(Hashable, type(value))).dump_python(value, mode="json")


@cache
def _adapter(kind: Hashable) -> Any:
    from pydantic import TypeAdapter  # heavier than all of this module: only where records are read

    return TypeAdapter(cast(Any, kind))


def from_json(kind: Any, data: Any) -> Any:
    """Inverse of `to_json`: a `kind` (a dataclass, or a union of dataclasses). Raises ValueError.

    >>> from lrf_dse.schema import TTShape
    >>> shape = TTShape((20, 15), (28, 28), (1, 8, 1))
    >>> from_json(TTShape, to_json(shape)) == shape
    True
    """
    return _adapter(kind).validate_python(data)


def problem_of(error: Exception) -> str:
    """The first problem that `from_json` found, on one line: where it is and what it is.

    >>> from lrf_dse.schema import TTShape
    >>> try:
    ...     from_json(TTShape, {"out_dims": [2], "in_dims": [3]})
    ... except ValueError as error:
    ...     problem_of(error)
    '1 validation error for TTShape ranks Field required'
    """
    return " ".join(str(error).split()).partition(" [type=")[0]


def content_key(kind: str, **facts: Any) -> str:
    """A content key: the kind, then a hash of `facts` (JSON values) that does not depend on their order.

    >>> content_key("timing", a=1, b=2) == content_key("timing", b=2, a=1)
    True
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    # 96 bits: among a million keys two are equal by chance with a probability of about 10^-17.
    return f"{kind}-{hashlib.sha256(text).hexdigest()[:24]}"
