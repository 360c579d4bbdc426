"""The one best combination within limits, and the proof that none is better: an integer program, solved by HiGHS.

The merge of `select` finds whole fronts, and thins them on models of many layers. One answer is cheaper, and its
optimality gap is known: no combination is better than what HiGHS returns by more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from lrf_dse.front.pareto import FloatArray, front_mask
from lrf_dse.plan.choice import Objective
from lrf_dse.plan.options import (
    FLASH,
    LATENCY,
    LOSS,
    NO_LIMITS,
    RAM,
    Combination,
    LayerOption,
    Limits,
    numbers_of,
    totals_of,
)

COLUMN: dict[Objective, int] = {"latency": LATENCY, "bytes": FLASH, "ram": RAM, "accuracy": LOSS}
"""Which number of an option each objective minimises."""

MOST_NODES = 2000
"""Nodes of the search tree, at most: a limit in seconds would give another answer on another machine."""

OPTIMAL = 1e-6
"""A relative gap below this counts as none: HiGHS itself works within tolerances of this size."""

_SUMS = np.array([1.0, 1.0, 0.0, 1.0])
"""The numbers that add up over the layers."""

_TIE = 1e-9
"""Among answers this near to the best one, relative to the largest option, the other numbers decide."""


@dataclass(frozen=True)
class Answer:
    """The best combination found, what it takes in the objective, and what no combination goes below.

    Where none was found `combination` is None and `value` infinite: there is none if `bound` is infinite too.
    """

    objective: Objective
    combination: Combination | None
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """By how much the best of all combinations may be better, relative to `value`; 0 proves that none is."""
        if self.combination is None:
            return 0.0 if self.bound == inf else inf
        return max(0.0, self.value - self.bound) / max(abs(self.value), 1e-12)

    @property
    def proved(self) -> bool:
        """Whether no combination is better, to the solver's tolerance."""
        return self.gap <= OPTIMAL


def best_within(
    layers: Sequence[Sequence[LayerOption]],
    objective: Objective,
    *,
    within: Limits = NO_LIMITS,
    max_loss: float | None = None,
    min_latency: float | None = None,
) -> Answer:
    """The combination with the least of `objective` within all limits.

    Ties go to the better one in latency, flash and loss. These are sums over the layers, RAM is the largest of them, as
    in `select.compose`. `min_latency` asks for a combination that is not faster. Raises ValueError where a layer has no
    option, or one that is not finite.
    """
    if not layers or not all(layers):
        raise ValueError("every layer needs at least one option")
    most = within.bounds
    most[LOSS] = inf if max_loss is None else max_loss
    problem = _Problem(layers, -inf if min_latency is None else min_latency)
    column = COLUMN[objective]
    if objective == "ram":
        best, bound = problem.least_ram(most)
    else:
        best, bound = problem.solved(np.eye(4)[column], most)
    if best is None:
        return Answer(objective, None, inf, bound)
    value = float(totals_of(best)[column])
    most[column] = min(most[column], value)
    # A second program: the best value is now a limit, and the other numbers decide among those that reach it.
    tied, _ = problem.solved(_SUMS, most, slack=_TIE)
    # The solver's tolerance may let a tie be a little worse: then the first answer stays.
    if tied is not None and totals_of(tied)[column] <= value:
        best = tied
    return Answer(objective, best, value, min(bound, value))


class _Problem:
    """Binary x of every option, one of each layer; all numbers are divided by their largest magnitudes.

    HiGHS keeps constraints within an absolute tolerance. The largest RAM is no variable: options above a limit are left
    out, and the least limit is sought by bisection, so that every unknown is binary.
    """

    def __init__(self, layers: Sequence[Sequence[LayerOption]], min_latency: float) -> None:
        rows: list[tuple[int, int]] = []
        for k, options in enumerate(layers):
            # A dominated option can be replaced in any combination, but for one that must not be too fast.
            useful = front_mask(numbers_of(options)) if min_latency == -inf else np.ones(len(options), np.bool_)
            rows += [(k, int(i)) for i in np.flatnonzero(useful)]
        self._options = [layers[k][i] for k, i in rows]
        self._numbers = numbers_of(self._options)
        self._one_each = (np.array([k for k, _ in rows]) == np.arange(len(layers))[:, None]).astype(np.float64)
        self._min_latency = min_latency
        self._scale = np.maximum(np.abs(self._numbers).max(axis=0), 1e-12)

    def solved(self, weights: FloatArray, most: FloatArray, *, slack: float = 0.0) -> tuple[Combination | None, float]:
        """The combination with the least weighted sum of scaled numbers, each at most `most`, and that sum's bound.

        The bound is in real units where one number has a weight; None with an infinite one: there is no combination.
        One that exceeds `most` by what the solver tolerates, beyond `slack`, is refused by tighter limits.
        """
        # HiGHS keeps constraints to about 1e-6: what it lets through beyond a limit is asked for again below it.
        for tighter in (0.0, 2e-6, 1e-5):
            limits = most + (slack - tighter) * self._scale
            result = self._run(weights, limits, self._min_latency + tighter * self._scale[LATENCY])
            if result.x is None:
                # Status 2 of `scipy.optimize.milp` is infeasible: then nothing is possible, else the solver gave up and
                # knows no bound.
                return None, inf if result.status == 2 else -inf
            chosen = np.argmax(np.where(self._one_each > 0, result.x, -1.0), axis=1)
            found = Combination(tuple(self._options[i] for i in chosen))
            if (totals_of(found) <= most + slack * self._scale).all() and found.latency >= self._min_latency:
                bound = result.fun if result.mip_dual_bound is None else result.mip_dual_bound
                return found, float(bound * (self._scale @ weights))
        return None, -inf

    def least_ram(self, most: FloatArray) -> tuple[Combination | None, float]:
        """The combination whose largest RAM is the least, and that RAM: which limits can be kept is monotone."""
        sizes = np.unique(self._numbers[:, RAM])
        sizes = sizes[sizes <= most[RAM]]
        best: Combination | None = None
        low, high, bound = 0, len(sizes), inf
        while low < high:
            middle = (low + high) // 2
            limits = most.copy()
            limits[RAM] = sizes[middle]
            found, reached = self.solved(_SUMS, limits)
            if found is not None:
                best, high = found, middle
            else:
                low, bound = middle + 1, min(bound, reached)
        return best, bound if best is None or bound == -inf else best.ram_bytes

    def _run(self, weights: FloatArray, most: FloatArray, min_latency: float) -> Any:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        scaled, limits = (self._numbers / self._scale)[:, _SUMS > 0], (most / self._scale)[_SUMS > 0]
        # Only latency has a lower limit; the three rows are latency, flash and loss.
        least = np.full(3, -inf)
        least[0] = min_latency / self._scale[LATENCY]
        return milp(
            scaled @ weights[_SUMS > 0],
            integrality=np.ones(len(scaled)),
            bounds=Bounds(0, (self._numbers[:, RAM] <= most[RAM]).astype(np.float64)),
            constraints=[
                LinearConstraint(csr_array(self._one_each), 1, 1),
                LinearConstraint(csr_array(scaled.T), least, limits),
            ],
            options={"node_limit": MOST_NODES, "mip_rel_gap": 0.0},
        )
