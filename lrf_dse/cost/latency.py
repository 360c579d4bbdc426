"""Latency on one target from instructions alone: what is left where nothing models the pipeline.

Owns no figure: they all come from the target. Estimates and lower bounds from shapes: `lrf_dse.codegen.closed_form`
and `lrf_dse.codegen.bound`.
"""

from __future__ import annotations

from lrf_dse.target import Target


def issue_bound(instructions: int, target: Target) -> float | None:
    """The fewest cycles in which one core can issue so many instructions; None without a timing model."""
    width = target.core.issue_width
    # Not even a perfect schedule issues more than `width` instructions a cycle.
    return None if width is None else instructions / width.value


def combine(bound_cycles: float | None, instructions: int | None, target: Target) -> float | None:
    """The larger of a lower bound and the issue bound of the instructions that one core executed.

    A program cannot be faster than its instructions over the issue width. None where neither is known.
    """
    bounds = [bound_cycles, None if instructions is None else issue_bound(instructions, target)]
    return max((bound for bound in bounds if bound is not None), default=None)
