"""A folder with the tiny model and data, and the tiny exploration."""

from __future__ import annotations

from explored import finished, mine, tiny

__all__ = ["finished", "mine", "tiny"]
