"""Tensor trains whose cores lie on grids of few bits: one core is rounded, the others are fitted to what it became.

Rounding every core by itself adds up their errors. Here, in the order in which the kernel runs the stages:

1. the cores that are not rounded yet are made orthonormal, so that all rows of the next stage's matrix count alike;
2. that matrix is rounded in the metric of the states that the stages before it, rounded already, really give it;
3. the cores still to come are fitted again, each the least-squares solution with all others standing still.

Later rounds fit every core between the rounded others and round it again; the best round is kept. Everything happens in
the metric of the calibration data (`lrf_dse.tt.moment`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrf_dse.schema import Order, Storage
from lrf_dse.tt.als import (
    WideCores,
    compressed_left,
    compressed_right,
    interleaved,
    left_interface,
    matrix_of,
    right_interfaces,
)
from lrf_dse.tt.als_core import CoreProblem, solve_core
from lrf_dse.tt.contraction import block_factors, core_of, is_monarch, shape_of, stage_matrix
from lrf_dse.tt.feedback import Inputs, rounded
from lrf_dse.tt.grid import Stored, nearest
from lrf_dse.tt.moment import MATRIX_SIDE, FloatArray, InputMetric
from lrf_dse.tt.monarch import Fitting, cores_of

ROUNDS = 4
"""Rounds at most; one that gains less than 1 % of the objective is the last."""

LIFT = 1e-9
"""Added to a core's problem, relative to its diagonal: rounded neighbours may leave a rank that nothing depends on."""


@dataclass(frozen=True, eq=False)
class StoredCores:
    """The stages' matrices as they are stored, by core, and the cores [r, m, n, r'] that they stand for.

    `error` is ||(W - T) (C + ridge I)^1/2||^2, the objective that was made small.
    """

    stages: tuple[Stored, ...]
    cores: WideCores
    error: float


def on_grid(
    weight: FloatArray,
    cores: Sequence[FloatArray],
    storages: Sequence[Storage],
    metric: InputMetric,
    *,
    order: Order = "last_first",
    rounds: int = ROUNDS,
    inputs: Inputs | None = None,
) -> StoredCores:
    """The tensor train nearest to W [out, in] in `metric` that was found with cores on the grids of `storages`.

    `cores` are where it starts: a fit of W that knows no grid; the one core [1, out, in, 1] is a dense layer. Scales
    belong to the rows of a stage's matrix, and those depend on `order`. `inputs` are those of `metric`, where they are
    known already.
    """
    wide = [np.asarray(core, np.float64) for core in cores]
    if is_monarch(wide):
        return _monarch_on_grid(weight, wide, storages, metric, rounds)
    out_dims, in_dims = [core.shape[1] for core in wide], [core.shape[2] for core in wide]
    image = interleaved(metric.times(weight), out_dims, in_dims)
    # Rounding and fitting must lower the same objective, and feedback knows no ridge of its own.
    inside = metric.with_ridge_inside()
    fitting = _Fitting(weight, metric, inside, image, tuple(storages), order, inputs)
    best = fitting.first_round(wide)
    # A dense layer is one matrix: nothing else could be fitted to what its rounding lost.
    for _ in range(rounds - 1 if len(wide) > 1 else 0):
        again = fitting.later_round(best)
        gains = again.error < 0.99 * best.error
        best = min(best, again, key=lambda found: found.error)
        if not gains:
            break
    return best


def _monarch_on_grid(
    weight: FloatArray, cores: WideCores, storages: Sequence[Storage], metric: InputMetric, rounds: int
) -> StoredCores:
    """The same for block-diagonal factors: R is rounded, L is fitted to what it became and rounded, and so on.

    Every block is a matrix of its own, with inputs of its own: of R a part of the layer's, of L what R gives.
    """
    shape = shape_of(cores)
    fitting, best = Fitting(weight, metric, shape), None
    left, right = block_factors(cores, shape)
    for number in range(rounds):
        # The first round starts from the fit as it came.
        if number:
            right = fitting.right(left, right)
        # Each block of R reads its own part of the layer's inputs.
        inputs = [fitting.moments.own(i) for i in range(len(right))]
        stored_right = _rounded_blocks(right.reshape(len(right), -1, shape.in_dims[1]), storages[1], inputs)
        right = stored_right.values.astype(np.float64).reshape(right.shape)
        states = fitting.states(right)
        left = fitting.left(right, states)
        stored_left = _rounded_blocks(left.reshape(*left.shape[:2], -1), storages[0], list(states))
        left = stored_left.values.astype(np.float64).reshape(left.shape)
        error = fitting.squared(left, right)
        gains = best is None or error < 0.99 * best.error
        if best is None or error < best.error:
            best = StoredCores((stored_left, stored_right), cores_of(left, right, shape), error)
        if not gains:
            break
    assert best is not None
    return best


def _rounded_blocks(blocks: FloatArray, storage: Storage, seconds: Sequence[FloatArray]) -> Stored:
    """Blocks [blocks, rows, K] below each other on the grid, each for inputs of its own second moment [K, K]."""
    parts = [
        nearest(block, storage) if block.shape[1] > MATRIX_SIDE else rounded(block, storage, Inputs(second))
        for block, second in zip(blocks, seconds, strict=True)
    ]
    scales = [part.scales for part in parts if part.scales is not None]
    codes = np.concatenate([part.codes for part in parts])
    return Stored(storage, codes, np.concatenate(scales) if scales else None)


@dataclass(frozen=True, eq=False)
class _Fitting:
    """What all rounds share: `inside` is `metric` with its ridge as part of C, `image` W (C + ridge I), interleaved."""

    weight: FloatArray
    metric: InputMetric
    inside: InputMetric
    image: FloatArray
    storages: tuple[Storage, ...]
    order: Order
    inputs: Inputs | None

    def first_round(self, cores: WideCores) -> StoredCores:
        """Round every core in the order of the stages, those after it fitted again each time."""
        stages: dict[int, Stored] = {}
        sequence = self._sequence(len(cores))
        for place, k in enumerate(sequence):
            cores = self._gauged(cores, k)
            self._round(stages, cores, k)
            # Every core that is still free makes good what this rounding lost, as far as it can.
            for j in sequence[place + 1 :]:
                cores[j] = self._solved(cores, j)
        return self._result(stages, cores)

    def later_round(self, before: StoredCores) -> StoredCores:
        """Fit every core between the others, which are on their grids, and round it again."""
        cores, stages = list(before.cores), dict(enumerate(before.stages))
        for k in self._sequence(len(cores)):
            cores[k] = self._solved(cores, k)
            self._round(stages, cores, k)
        return self._result(stages, cores)

    def _sequence(self, d: int) -> list[int]:
        return list(range(d)) if self.order == "first_first" else list(reversed(range(d)))

    def _result(self, stages: dict[int, Stored], cores: WideCores) -> StoredCores:
        error = self.metric.squared(self.weight - matrix_of(cores))
        return StoredCores(tuple(stages[k] for k in range(len(cores))), cores, error)

    def _gauged(self, cores: WideCores, k: int) -> WideCores:
        """The same train, with the cores that are run after core k orthonormal toward it."""
        cores = list(cores)
        if self.order == "last_first":
            for j in range(k):
                a, m, n, b = cores[j].shape
                basis, rest = np.linalg.qr(cores[j].reshape(a * m * n, b))
                if basis.shape[1] == b:  # else the rank is larger than the core can fill: it stays
                    cores[j] = basis.reshape(a, m, n, b)
                    cores[j + 1] = np.tensordot(rest, cores[j + 1], 1)
            return cores
        for j in range(len(cores) - 1, k, -1):
            a, m, n, b = cores[j].shape
            basis, rest = np.linalg.qr(cores[j].reshape(a, m * n * b).T)
            if basis.shape[1] == a:
                cores[j] = np.ascontiguousarray(basis.T).reshape(a, m, n, b)
                cores[j - 1] = np.tensordot(cores[j - 1], rest.T, 1)
        return cores

    def _round(self, stages: dict[int, Stored], cores: WideCores, k: int) -> None:
        """Put core k on its grid, in place."""
        matrix = stage_matrix(cores[k], self.order)
        if matrix.shape[1] > MATRIX_SIDE:
            stages[k] = nearest(matrix, self.storages[k])  # a moment of so many inputs would take gigabytes
        else:
            stages[k] = rounded(matrix, self.storages[k], self._inputs(cores, k))
        cores[k] = core_of(stages[k].values.astype(np.float64), cores[k].shape, self.order)

    def _inputs(self, cores: WideCores, k: int) -> Inputs:
        """What the stage of core k contracts, over all its places in the state.

        On the side that is not contracted yet, every input index is a place of its own: an interface of the identity.
        """
        n = cores[k].shape[2]
        if n == self.metric.in_features and cores[k].shape[0 if self.order == "first_first" else 3] == 1:
            return self.inputs or Inputs(_second(self.inside))  # the layer's own inputs
        if self.order == "last_first":
            left = _places(int(np.prod([core.shape[2] for core in cores[:k]])))
            right = compressed_right(right_interfaces(cores)[k])
        else:
            left = compressed_left(left_interface(cores[:k]))
            right = _places(int(np.prod([core.shape[2] for core in cores[k + 1 :]]))).transpose(2, 0, 1)
        return Inputs(CoreProblem(self.inside, left, right, n).matrix())  # over (r_{k-1}, n) or (n, r_k): the stage's K

    def _solved(self, cores: WideCores, k: int) -> FloatArray:
        """Core k [r, m, n, r'] as the least-squares solution between the others."""
        core = cores[k]
        a, m, n, b = core.shape
        # The other cores have input modes of 1, so T = L G R acts on the outputs only, for every input alike.
        if n == self.metric.in_features:
            return self._solved_for_outputs(cores, k)
        projected = self.image.reshape(1, -1)
        for other in cores[:k]:
            flat = other.reshape(-1, other.shape[3])
            projected = flat.T @ projected.reshape(len(flat), -1)
        for other in reversed(cores[k + 1 :]):
            projected = projected.reshape(-1, other[0].size) @ other.reshape(len(other), -1).T
        left, right = compressed_left(left_interface(cores[:k])), compressed_right(right_interfaces(cores)[k])
        if not left.any() or not right.any():
            return core  # neighbours that rounding made zero: nothing depends on this core
        problem = CoreProblem(self.inside, left, right, n, lift=LIFT)
        solved, _ = solve_core(
            problem,
            np.ascontiguousarray(projected.reshape(a, m, n, b).transpose(1, 0, 2, 3)),
            np.ascontiguousarray(core.transpose(1, 0, 2, 3)),
        )
        return np.ascontiguousarray(solved.transpose(1, 0, 2, 3))

    def _solved_for_outputs(self, cores: WideCores, k: int) -> FloatArray:
        """The same where core k alone sees the inputs: the metric does not matter, outputs alone are fitted."""
        _, m, n, _ = cores[k].shape
        left = left_interface(cores[:k])[:, 0]  # [i_<, a]
        right = right_interfaces(cores)[k][:, :, 0]  # [b, i_>]
        wanted = self.weight.reshape(len(left), m, -1, n)
        # Pseudoinverses: rounded neighbours may have lost a rank.
        half = np.tensordot(np.linalg.pinv(left), wanted, 1)  # [a, m, i_>, n]
        return np.ascontiguousarray(np.tensordot(half, np.linalg.pinv(right), ((2,), (0,))))


def _second(metric: InputMetric) -> FloatArray:
    """C as a matrix, where rows stand for it as well."""
    if metric.second is not None:
        return metric.second
    assert metric.rows is not None
    return np.asarray(metric.rows.T @ metric.rows)


def _places(count: int) -> FloatArray:
    """The identity as an interface [count, count, 1]."""
    return np.eye(count)[:, :, None]
