"""The closed form's coefficients for one chip, as data: targets/closed_form/NAME.toml.

Owns what each coefficient means. lrf_dse/cost/ multiplies them with what it counts in a candidate;
benchmarks/closed_form.py fits them to modelled cycles and writes the file.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, model_validator

from lrf_dse.target.figure import Known, Section
from lrf_dse.target.timing import PerLmul

_COMMON: dict[str, str] = {
    "dispatches": "calls of a kernel with all its workgroups",
    "workgroups": "calls of a kernel's function",
    "elementwise": "elements that a dispatch of its own adds the bias to",
    "broadcast": "bytes of weights copied for every slice while running",
}

TERMS: Mapping[str, Mapping[str, str]] = {
    "iree": _COMMON
    | {
        "steps": "cycles of inner-loop steps whose operands are in the nearest cache",
        "registers": "vector registers set to zero before a block's loop and stored after it",
        "near_lines": "lines of the vector operand that come from a farther cache",
        "near_waits": "cycles for which such lines are late where the prefetcher leaves them out",
        "far_steps": "cycles by which memory takes longer than the step that it feeds",
        "far_waits": "cycles for which lines from memory are late where the prefetcher leaves them out",
        "far_starts": "blocks whose operand starts anew in memory, before the prefetcher follows",
        "rows_near": "lines of the scalar operand that come from a farther cache",
        "rows_far_ahead": "the same from memory, where the prefetcher reaches the next block of rows",
        "rows_far": "the same from memory, where it does not",
    },
    "iree-tiled": _COMMON
    | {
        "steps": "cycles of inner-loop steps whose operands are in the nearest cache",
        "near_lines": "lines of packed weights that come from a farther cache",
        "far_steps": "cycles by which memory takes longer than the step that it feeds",
        "far_lines": "lines of packed weights that come from memory",
        "pack_vectors": "vectors of the input copied into tiles",
        "pack_elements": "elements of the input gathered into tiles",
        "pack_scalars": "elements of an input that one row makes its own tile",
        "scattered": "elements that a stage stores one by one where the next one reads them",
        "divisions": "divisions by what is no power of two, in finding those places",
        "skipped": "elements of a tile's padding, stepped over in the same loop",
        "padded": "zeros stored into the next stage's padding",
        "transposed_rows": "rows of tiles that the last stage gathers column by column",
        "handed_rows": "rows of tiles that the first of a low-rank pair hands on",
    },
}
"""By builder: each coefficient's name and what it multiplies. A coefficient is in cycles a unit; of what is counted in
cycles it is a plain factor."""


class Fit(Known):
    """One builder's coefficients."""

    coefficients: Mapping[str, float]


class ClosedForm(Section):
    """The closed form of one chip, in cycles of one step of an inner loop.

    `step` is what it takes beside its multiply-adds, for M1, M2, M4 and M8. A row takes `masked_row` where the vector
    is masked, `spilled_row` on top from the sixth row on, and `ragged_row` where rows are masked.
    """

    step: PerLmul
    masked_row: float = Field(gt=0)
    spilled_row: float = Field(gt=0)
    ragged_row: float = Field(gt=0)
    step_known: Known
    fits: Mapping[str, Fit] = Field(min_length=1)

    @model_validator(mode="after")
    def _terms_are_known(self) -> ClosedForm:
        for builder, fit in self.fits.items():
            if builder not in TERMS:
                raise ValueError(f"fits.{builder}: must be one of {', '.join(TERMS)}")
            if wrong := set(fit.coefficients) ^ set(TERMS[builder]):
                raise ValueError(f"fits.{builder}.coefficients: unknown or missing: {', '.join(sorted(wrong))}")
        return self
