"""TT-ALS in the norm of the calibration data: sweeps that solve for one core at a time (see `lrf_dse.tt.als_core`).

Owns the sweep: gauge, interfaces, the objective and when to stop. Arrays are double precision and already scaled.

Holtz, Rohwedder, Schneider, SIAM J. Sci. Comput. 34 (2012): with all cores left of k left-orthonormal and all right of
k right-orthonormal the problem of core k is no worse conditioned than the metric itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from lrf_dse.tt.als_core import CoreProblem, solve_core
from lrf_dse.tt.contraction import is_monarch, shape_of, to_matrix
from lrf_dse.tt.moment import FloatArray, InputMetric
from lrf_dse.tt.monarch import sweeps_of

WideCores = list[FloatArray]
"""Cores [r_{k-1}, m_k, n_k, r_k] in double precision."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Cores and the objective ||(W - T) (C + ridge I)^1/2||^2: at the start, then after every core that was solved.

    `work` counts floating-point operations of the sweeps, at most.
    """

    cores: WideCores
    objectives: tuple[float, ...]
    work: float = 0.0


def fit(
    weight: FloatArray,
    metric: InputMetric,
    start: Sequence[FloatArray],
    *,
    sweeps: int,
    tolerance: float = 1e-3,
    work: float = inf,
) -> Fit:
    """Cores that fit W [out, in] in `metric`, from `start`; the objective never grows from one core to the next.

    Stops after `sweeps`, or when a sweep lowers the objective by less than `tolerance` of itself, or where it is 1e-12
    of that of T = 0: only rounding is left. After `work` operations no further sweep begins. Memory: W four times in
    double precision, and 2 GB.
    """
    if is_monarch(start):
        return Fit(*sweeps_of(weight, metric, start, shape_of(start), sweeps=sweeps, tolerance=tolerance, work=work))
    # ||(W - T) C^1/2||^2 = <W, W C> - 2 <T, W C> + <T, T C>: W enters through W C alone, and `scale` is the first term.
    image = metric.times(weight)
    scale = float(np.vdot(weight, image))
    cores = _without_surplus_ranks(start)
    target = interleaved(image, [c.shape[1] for c in cores], [c.shape[2] for c in cores])
    del image
    spent = 0.0
    objectives = [metric.squared(weight - matrix_of(cores))]
    for _ in range(sweeps):
        before = objectives[-1]
        if before <= 1e-12 * scale:
            break
        cores, swept = _sweep(cores, target, metric, scale=scale, objectives=objectives)
        spent += swept
        # The work is looked at between sweeps: a sweep that has begun is ended, so that the same input gives the same
        # cores.
        if before - objectives[-1] <= tolerance * before or spent >= work:
            break
    return Fit(_padded(cores, [core.shape for core in start]), tuple(objectives), spent)


def _sweep(
    cores: WideCores, target: FloatArray, metric: InputMetric, *, scale: float, objectives: list[float]
) -> tuple[WideCores, float]:
    """One pass over all cores, first to last, and its work; `objectives` gains one value per core."""
    # The gauge: with orthonormal neighbours the problem of a core is as well conditioned as the metric (module
    # docstring).
    cores = _right_orthonormal(cores)
    rights = right_interfaces(cores)
    left = np.ones((1, 1, 1))
    projected = target.reshape(1, -1)  # W C with the cores left of k applied
    done: WideCores = []
    work = 0.0
    for k in range(len(cores)):
        core = cores[k]
        a, m, n, b = core.shape
        rhs = projected
        # From the last core inwards: each product shortens the array by the modes of one core.
        for other in reversed(cores[k + 1 :]):
            rhs = rhs.reshape(-1, other[0].size) @ other.reshape(len(other), -1).T
        problem = CoreProblem(metric, compressed_left(left), compressed_right(rights[k]), n)
        work += problem.work(m)
        solved, value = solve_core(
            problem,
            np.ascontiguousarray(rhs.reshape(a, m, n, b).transpose(1, 0, 2, 3)),
            np.ascontiguousarray(core.transpose(1, 0, 2, 3)),
        )
        # `value` is the objective without its first term; rounding may leave a perfect fit a little below 0.
        reached = max(0.0, scale + value)
        if reached < objectives[-1]:
            core = solved.transpose(1, 0, 2, 3)
        objectives.append(min(reached, objectives[-1]))  # rounding at the optimum: the core stays as it was
        if k == len(cores) - 1:
            return [*done, core], work
        # The core that was just solved becomes left-orthonormal; the rest of it moves into the next one, so the train
        # stays.
        basis, rest = np.linalg.qr(core.reshape(a * m * n, b))
        done.append(basis.reshape(a, m, n, b))
        cores[k + 1] = np.tensordot(rest, cores[k + 1], 1)
        projected = basis.T @ projected.reshape(a * m * n, -1)
        left = np.tensordot(left, done[-1], 1).transpose(0, 2, 1, 3, 4)
        left = left.reshape(left.shape[0] * m, -1, b)
    raise AssertionError("a tensor train has cores")


def _right_orthonormal(cores: WideCores) -> WideCores:
    """The same tensor train with every core but the first right-orthonormal."""
    cores = list(cores)
    for k in range(len(cores) - 1, 0, -1):
        core = cores[k]
        basis, rest = np.linalg.qr(core.reshape(len(core), -1).T)
        cores[k] = np.ascontiguousarray(basis.T).reshape(core.shape)
        cores[k - 1] = np.tensordot(cores[k - 1], rest.T, 1)
    return cores


def right_interfaces(cores: WideCores) -> WideCores:
    """R_k [r_k, prod m_>, prod n_>] of the cores right of k, for every k."""
    right = np.ones((1, 1, 1))
    rights = [right]
    for core in reversed(cores[1:]):
        joined = np.tensordot(core, right, 1).transpose(0, 1, 3, 2, 4)  # [r, m, m_>, n, n_>]
        right = joined.reshape(core.shape[0], core.shape[1] * right.shape[1], -1)
        rights.append(right)
    return rights[::-1]


def left_interface(cores: Sequence[FloatArray]) -> FloatArray:
    """L_k [prod m_<, prod n_<, r_{k-1}] of the `cores` left of k."""
    left = np.ones((1, 1, 1))
    for core in cores:
        left = np.tensordot(left, core, 1).transpose(0, 2, 1, 3, 4)
        left = left.reshape(left.shape[0] * core.shape[1], -1, core.shape[3])
    return left


def compressed_left(interface: FloatArray) -> FloatArray:
    """[p, j_<, a] with the Gram matrix of [i_<, j_<, a] over the output indices, p as small as can be."""
    return _compressed(interface.reshape(interface.shape[0], -1)).reshape(-1, *interface.shape[1:])


def compressed_right(interface: FloatArray) -> FloatArray:
    """[b, q, j_>] with the Gram matrix of [b, i_>, j_>] over the output indices."""
    b, _, after = interface.shape
    rows = _compressed(interface.transpose(1, 0, 2).reshape(-1, b * after))
    return np.ascontiguousarray(rows.reshape(-1, b, after).transpose(1, 0, 2))


def _compressed(rows: FloatArray) -> FloatArray:
    # R of the QR has the same Gram matrix with fewer rows, and nothing else of the interface is used.
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows


def interleaved(matrix: FloatArray, out_dims: Sequence[int], in_dims: Sequence[int]) -> FloatArray:
    """W [out, in] with its modes in the order m_1, n_1, m_2, n_2, ..., flat."""
    d = len(out_dims)
    order = [axis for k in range(d) for axis in (k, d + k)]
    return np.ascontiguousarray(matrix.reshape(*out_dims, *in_dims).transpose(order)).reshape(-1)


def matrix_of(cores: Sequence[FloatArray]) -> FloatArray:
    """The matrix that `cores` stand for, in double precision."""
    if is_monarch(cores):
        return np.asarray(to_matrix(cores), np.float64)
    last = np.asarray(cores[-1][..., 0])
    for core in reversed(cores[:-1]):
        joined = np.tensordot(core, last, 1).transpose(0, 1, 3, 2, 4)
        last = joined.reshape(core.shape[0], core.shape[1] * last.shape[1], -1)
    return np.asarray(last[0])


def _without_surplus_ranks(cores: Sequence[FloatArray]) -> WideCores:
    """The same tensor train with no rank above what the cores on either side of it can fill.

    A surplus rank has no orthonormal basis. TT shapes may have them: r_1 = 4 before a core of 2 x 1 with r_2 = 1.
    """
    cores = [np.asarray(core, np.float64) for core in cores]
    for k in range(len(cores) - 1, 0, -1):
        left, *rest = cores[k].shape
        if left > int(np.prod(rest)):
            basis, factor = np.linalg.qr(cores[k].reshape(left, -1).T)
            cores[k] = basis.T.reshape(-1, *rest)
            cores[k - 1] = np.tensordot(cores[k - 1], factor.T, 1)
    for k in range(len(cores) - 1):
        *rest, right = cores[k].shape
        if right > int(np.prod(rest)):
            basis, factor = np.linalg.qr(cores[k].reshape(-1, right))
            cores[k] = basis.reshape(*rest, -1)
            cores[k + 1] = np.tensordot(factor, cores[k + 1], 1)
    return cores


def _padded(cores: Sequence[FloatArray], shapes: Sequence[tuple[int, ...]]) -> WideCores:
    """`cores` with zeros up to the ranks that were asked for."""
    padded = []
    for core, shape in zip(cores, shapes, strict=True):
        widened = np.zeros(shape)
        widened[: core.shape[0], :, :, : core.shape[3]] = core
        padded.append(widened)
    return padded
