"""A number that says how it is known: the smallest piece of a target file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A table of a target file: no key but its own, and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Known(Section):
    """How the figures beside it are known."""

    basis: Literal["published", "derived", "assumed", "measured"]
    source: str = Field(min_length=1)


class Figure(Known):
    """A number, with how it is known."""

    value: float = Field(gt=0)
