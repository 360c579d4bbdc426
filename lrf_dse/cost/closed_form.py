"""Cycles of a candidate on one thread, warm, in closed form: the faster of the kernels that IREE makes of it.

cycles = sum over terms of coefficient x amount. The amounts are counted in how IREE cuts the stages and in which level
their operands lie (plain_kernel, packed_kernel); the coefficients are a target's data, fitted once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lrf_dse.cost.machine import Machine, machine_of
from lrf_dse.cost.packed_kernel import packed_terms
from lrf_dse.cost.plain_kernel import Terms, plain_terms
from lrf_dse.schema import Candidate
from lrf_dse.target import Target

KERNEL_TERMS: Mapping[str, Callable[[Candidate, Machine], Terms]] = {
    "iree": plain_terms,
    "iree-tiled": packed_terms,
}
"""By builder, as lrf_dse.builders names them: what its kernel of a candidate does."""


def predicted_cycles(candidate: Candidate, target: Target) -> float | None:
    """The fewest over the builders; None without coefficients, for other kernels, and for several threads."""
    by_builder = cycles_by_builder(candidate, target)
    return min(by_builder.values(), default=None)


def cycles_by_builder(candidate: Candidate, target: Target) -> dict[str, float]:
    """Predicted cycles of the program of each builder; empty where `predicted_cycles` is None."""
    machine, form = machine_of(target), target.closed_form
    if machine is None or form is None or candidate.threads != 1 or candidate.kernel != "iree":
        return {}
    return {
        builder: weighted(KERNEL_TERMS[builder](candidate, machine), fit.coefficients)
        for builder, fit in form.fits.items()
    }


def weighted(terms: Terms, coefficients: Mapping[str, float]) -> float:
    """Cycles: the sum of every amount times its coefficient."""
    return sum(coefficients[name] * amount for name, amount in terms.items())
