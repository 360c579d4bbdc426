"""A number that says how it is known: the smallest piece of a target file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A table of a target file: no key but its own, and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Known(Section):
    """How the figures beside it are known.

    "published" by a vendor or by somebody who measured it, "derived" from published figures, "assumed" where nothing is
    published, "measured" by `lrf-dse calibrate`.
    """

    basis: Literal["published", "derived", "assumed", "measured"]
    source: str = Field(min_length=1)


class Figure(Known):
    """A number, with how it is known."""

    value: float = Field(gt=0)
