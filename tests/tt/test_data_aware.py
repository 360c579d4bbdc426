"""Whitened SVD and TT-ALS: optimal where an optimum is known, monotone, and held back by the ridge."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.schema import TTShape
from lrf_dse.tt import als_core
from lrf_dse.tt.als import fit, matrix_of
from lrf_dse.tt.als_core import CoreProblem, Solving, solve_core
from lrf_dse.tt.contraction import to_matrix
from lrf_dse.tt.data_aware import TtAls, WhitenedSvd, slice_of_outputs, whitened_tt_svd
from lrf_dse.tt.moment import InputMetric, MomentSum, metric_of, moment_of
from lrf_dse.tt.numpy_svd import NumpyTtSvd
from lrf_dse.tt.output_error import held_out_error
from tests import strategies


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def inputs(samples, in_features, *, seed=1):
    """Correlated rows with a decaying spectrum, like the activations behind a ReLU."""
    mix = noise(in_features, in_features, seed=seed) * np.arange(1, in_features + 1)[:, None] ** -1.0
    return np.maximum(noise(samples, in_features, seed=seed + 1) @ mix, 0)


def whitening(moment, ridge):
    """(C + ridge mean(C) I)^1/2, and mean(C), by eigenvectors: independent of what the package does."""
    mean = np.trace(moment.second) / len(moment.second)
    values, vectors = np.linalg.eigh(moment.second + ridge * mean * np.eye(len(moment.second)))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T, mean


@pytest.mark.parametrize("samples", [6, 400])
@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        (TTShape((24, 1), (1, 20), (1, 4, 1)), (24, 1)),
        (TTShape((1, 24), (20, 1), (1, 4, 1)), (1, 20)),
        (TTShape((4, 6), (1, 20), (1, 3, 1)), (4, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("decomposer", [WhitenedSvd(ridge=1e-3), TtAls(ridge=1e-3)], ids=["whitened", "als"])
def test_one_input_mode_gives_the_analytic_optimum(decomposer, shape, rows, samples):
    weight, moment = noise(24, 20).astype(np.float32), moment_of(inputs(samples, 20))
    root, mean = whitening(moment, 1e-3)
    m, n = rows
    unfolded = (weight @ root).reshape(m, 24 // m, n, 20 // n).transpose(0, 2, 1, 3).reshape(m * n, -1)
    optimum = np.linalg.norm(np.linalg.svd(unfolded, compute_uv=False)[shape.ranks[1] :])
    reached = np.linalg.norm((weight - to_matrix(decomposer.decompose(weight, shape, moment))) @ root)
    assert reached == pytest.approx(optimum, rel=1e-4, abs=1e-5 * np.sqrt(mean))


@settings(max_examples=40)
@given(st.data())
def test_sweeps_never_raise_the_objective_and_report_it_truly(data):
    shape = data.draw(strategies.tt_shapes(max_d=6, max_dim=3, max_features=48))
    weight = data.draw(strategies.weights(shape.out_features, shape.in_features)).astype(np.float64)
    weight /= np.abs(weight).max() or 1.0
    metric = metric_of(data.draw(strategies.moments(shape.in_features)), data.draw(st.sampled_from([1e-6, 1e-2, 1.0])))
    start = [c.astype(np.float64) for c in data.draw(strategies.cores(shape))]
    fitted = fit(weight, metric, start, sweeps=4)
    values, scale = np.array(fitted.objectives), metric.squared(weight)
    assert values[0] == pytest.approx(metric.squared(weight - matrix_of(start)), rel=1e-9)
    assert (np.diff(values) <= 0).all()
    assert metric.squared(weight - matrix_of(fitted.cores)) == pytest.approx(values[-1], rel=1e-6, abs=1e-9 * scale)
    assert [core.shape for core in fitted.cores] == list(shape.core_shapes)


@settings(max_examples=25)
@given(st.data())
def test_als_is_never_worse_than_its_starts_in_its_own_objective(data):
    shape = data.draw(strategies.tt_shapes(max_d=4, max_dim=3, max_features=48))
    weight = data.draw(strategies.weights(shape.out_features, shape.in_features))
    weight = weight / (np.abs(weight).max() or 1.0)
    moment = data.draw(strategies.moments(shape.in_features))
    moment = moment.with_held_out()
    metric = metric_of(moment, 1e-2)

    def objective(cores):
        return metric.squared(weight - matrix_of([core.astype(np.float64) for core in cores]))

    ours = objective(TtAls(ridge=1e-2).decompose(weight, shape, moment))
    plain = objective(NumpyTtSvd().decompose(weight, shape))
    whitened = objective(WhitenedSvd(ridge=1e-2).decompose(weight, shape, moment))
    assert ours <= min(plain, whitened) * (1 + 1e-4) + 1e-9 * metric.squared(weight.astype(np.float64))


def problem_of(sizes, *, as_rows=False, seed=0):
    """A core's problem with random orthonormal interfaces; sizes are p, j_<, a, n, b, q, j_>."""
    p, before, a, n, b, q, after = sizes
    left = np.linalg.qr(noise(p * before, a, seed=seed))[0].reshape(p, before, a)
    right = np.linalg.qr(noise(q * after, b, seed=seed + 1))[0].T.reshape(b, q, after)
    x = inputs(40, before * n * after, seed=seed + 2) / 6
    metric = InputMetric(None, x, 0.05) if as_rows else InputMetric(x.T @ x, None, 0.05)
    return CoreProblem(metric, left, right, n)


PROBLEMS = [
    (1, 1, 1, 4, 3, 2, 5),
    (3, 4, 2, 5, 1, 1, 1),
    (3, 2, 4, 3, 3, 2, 2),
    (2, 3, 5, 1, 4, 5, 2),
    (4, 3, 7, 2, 2, 1, 6),
]


@pytest.mark.parametrize("sizes", PROBLEMS, ids=str)
@pytest.mark.parametrize("limit", [als_core.MAX_ELEMENTS, 1])
def test_the_formed_matrix_is_the_operator_in_every_order(monkeypatch, sizes, limit):
    monkeypatch.setattr(als_core, "MAX_ELEMENTS", limit)  # 1: the thin products, where Gram matrices are too large
    problem = problem_of(sizes)
    _, before, a, n, b, _, after = sizes
    metric = (problem.metric.second + 0.05 * np.eye(before * n * after)).reshape(before, n, after, before, n, after)
    oracle = np.einsum(
        "pia,bqk,inkjml,pjc,dql->anbcmd",
        problem.left, problem.right, metric, problem.left, problem.right, optimize=True,
    ).reshape(problem.side, problem.side)  # fmt: skip
    for first in (True, False):
        problem.__dict__["_right_first"] = first
        np.testing.assert_allclose(problem.matrix(), oracle, atol=1e-10)
    np.testing.assert_allclose(problem_of(sizes, as_rows=True).matrix(), oracle, atol=1e-10)
    core = noise(3, a, n, b)
    applied = (core.reshape(3, -1) @ oracle).reshape(core.shape)
    np.testing.assert_allclose(problem.times(core), applied, atol=1e-10)
    np.testing.assert_allclose(problem_of(sizes, as_rows=True).times(core), applied, atol=1e-10)


@pytest.mark.parametrize("sizes", PROBLEMS, ids=str)
@pytest.mark.parametrize("as_rows", [True, False])
def test_conjugate_gradients_come_to_the_same_core(sizes, as_rows):
    problem = problem_of(sizes, as_rows=as_rows)
    rhs = noise(3, *problem.shape, seed=5)
    solution = np.linalg.solve(problem_of(sizes).matrix(), rhs.reshape(3, -1).T).T
    start = noise(*rhs.shape, seed=6)
    value = [float(np.vdot(start, problem.times(start)) - 2 * np.vdot(start, rhs))]
    for steps in (1, 3, 200):  # each run goes further down, and the last one arrives
        never_formed = replace(problem, solving=Solving(steps, tolerance=1e-10, side=0))
        core, reached = solve_core(never_formed, rhs, start)
        assert reached == pytest.approx(np.vdot(core, problem.times(core)) - 2 * np.vdot(core, rhs), rel=1e-9)
        value.append(reached)
    assert value == sorted(value, reverse=True)
    np.testing.assert_allclose(core.reshape(3, -1), solution, atol=1e-4)
    core, _ = solve_core(problem, rhs, core)  # what is left is found from a residual in double precision
    np.testing.assert_allclose(core.reshape(3, -1), solution, atol=1e-6)


def test_products_in_single_precision_leave_out_what_never_varies():
    second = np.zeros((9, 9))
    second[:4, :4] = noise(6, 4).T @ noise(6, 4)
    metric = InputMetric(second, None, 0.01)
    matrix = noise(5, 9, seed=3)
    assert len(metric.in_single.varying) == 4
    np.testing.assert_allclose(metric.in_single.times(matrix.astype(np.float32)), metric.times(matrix), atol=1e-5)
    rows = InputMetric(None, noise(7, 9), 0.01)
    np.testing.assert_allclose(rows.in_single.times(matrix.astype(np.float32)), rows.times(matrix), atol=1e-5)


def test_the_preconditioner_is_exact_for_a_kronecker_problem():
    # C four times the identity and no ridge: so is H, and one step arrives.
    problem = problem_of((2, 3, 4, 3, 2, 3, 2))
    problem = CoreProblem(InputMetric(4 * np.eye(18), None, 0.0), problem.left, problem.right, 3)
    a, n, b = problem.preconditioner()
    np.testing.assert_allclose(np.kron(a, np.kron(n, b)), np.eye(24) / 4, atol=1e-10)


@pytest.mark.parametrize(
    "shape",
    [
        TTShape((6, 5), (5, 6), (1, 6, 1)),
        TTShape((5, 3, 2), (2, 3, 5), (1, 6, 6, 1)),
        TTShape((3, 10), (15, 2), (1, 6, 1)),
    ],
    ids=str,
)
def test_data_helps_on_data_that_was_not_fitted(shape):
    rows, fresh = np.split(inputs(1200, 30), [600])
    weight = noise(30, 30).astype(np.float32)
    moment = moment_of(rows[:480], held_out=rows[480:])
    judge = moment_of(rows, held_out=fresh)
    plain, whitened, als = (
        held_out_error(judge, weight, to_matrix(decomposer.decompose(weight, shape, moment)))
        for decomposer in (NumpyTtSvd(), WhitenedSvd(), TtAls())
    )
    assert als < 0.9 * min(plain, whitened)
    assert whitened < 1.02 * plain  # plain TT-SVD is among what it chooses from


@pytest.mark.parametrize("shape", [TTShape((30, 1), (1, 30), (1, 6, 1)), TTShape((6, 5), (5, 6), (1, 6, 1))], ids=str)
def test_a_moment_held_as_rows_is_as_good(shape):
    rows, weight = inputs(600, 30), noise(30, 30).astype(np.float32)
    total = MomentSum(30, matrix_side=1)
    total.add(rows[:480])
    total.hold_out(rows[480:])
    moment, judge = total.moment(), moment_of(rows, held_out=inputs(1200, 30)[600:])
    assert moment.second is None
    errors = [
        held_out_error(judge, weight, to_matrix(decomposer.decompose(weight, shape, known)))
        for decomposer in (WhitenedSvd(), TtAls())
        for known in (moment, moment_of(rows[:480], held_out=rows[480:]))
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)
    assert errors[2] < 1.1 * errors[3]


def test_work_is_bounded():
    """The last sweep begins before the operations run out, also where a ridge is chosen; fewer rows cost less."""
    shape, weight = TTShape((6, 5), (5, 6), (1, 6, 1)), noise(30, 30)
    moment = moment_of(inputs(600, 30)[:480], held_out=inputs(600, 30)[480:])
    metric, start = metric_of(moment, 0.01), whitened_tt_svd(weight, shape, moment, 0.01, seed=0)
    once, often = (fit(weight, metric, start, sweeps=9, tolerance=0, work=work) for work in (0.0, np.inf))
    assert (len(once.objectives), len(often.objectives)) == (1 + 2, 1 + 2 * 9)
    assert often.work == pytest.approx(9 * once.work)
    assert 0 < once.work < 2 * 13 * metric.work(30)
    whole, _ = TtAls().fit(weight, shape, moment)
    less, _ = TtAls(most_work=2.5 * once.work).fit(weight, shape, moment)
    assert less.work == pytest.approx(2 * once.work) and less.work < whole.work
    assert less.objectives[-1] < less.objectives[0]
    many = MomentSum(30, matrix_side=1)
    many.add(inputs(600, 30))
    few = [TtAls(most_work=2.5 * once.work).fit(weight, shape, many.moment())[0].work]
    few_rows = TtAls(most_work=2.5 * once.work, product_work=50 * 4 * weight.size)
    few.append(few_rows.fit(weight, shape, many.moment())[0].work)
    assert few[1] < few[0]


def test_few_rows_choose_a_larger_ridge_than_many():
    # 12 rows of 30 inputs: trusting them wholly would fit their noise.
    shape, weight = TTShape((6, 5), (5, 6), (1, 8, 1)), noise(30, 30).astype(np.float32)
    rows = noise(400, 30, seed=7) @ (np.eye(30) + 0.3 * noise(30, 30, seed=8))
    judge = moment_of(rows, held_out=noise(400, 30, seed=9) @ (np.eye(30) + 0.3 * noise(30, 30, seed=8)))
    few = moment_of(rows[:10], held_out=rows[10:14])
    chosen = to_matrix(TtAls().decompose(weight, shape, few))
    trusting = to_matrix(TtAls(ridge=1e-5).decompose(weight, shape, few))
    assert held_out_error(judge, weight, chosen) < 0.8 * held_out_error(judge, weight, trusting)
    assert np.linalg.norm(chosen) < 1.5 * np.linalg.norm(weight)


def test_a_fit_that_a_few_rows_mislead_is_given_up_for_its_start():
    """Independent inputs and 8 rows of them in the fit: no ridge makes sweeps worth while, whitening is."""
    shape, weight = TTShape((16, 8), (20, 20), (1, 4, 1)), noise(128, 400).astype(np.float32)
    rows = noise(700, 400, seed=7) / np.sqrt(1 + np.arange(400) / 4)
    known = MomentSum(400, matrix_side=1, max_rows=8)
    known.add(rows[:100])
    known.hold_out(rows[100:200])
    judge = moment_of(rows[:2], held_out=rows[200:])
    als, trusting, whitened = (
        held_out_error(judge, weight, to_matrix(decomposer.decompose(weight, shape, known.moment())))
        for decomposer in (TtAls(), TtAls(ridge=1e-2), WhitenedSvd())
    )
    assert als < 1.02 * whitened
    assert trusting > 1.1 * whitened
    fitted, _ = TtAls().fit(weight, shape, known.moment())
    assert len(fitted.objectives) == 1 and fitted.work > 0


@pytest.mark.parametrize(
    ("rank", "rows"), [(5, [0, 16, 32, 33, 49, 65]), (6, [0, 8, 16, 24, 32, 33, 41, 49, 57, 65]), (8, range(66))]
)
def test_a_slice_of_the_outputs_has_no_rank_at_its_cap(rank, rows):
    shape = TTShape((2, 33), (4, 2), (1, rank, 1))
    weight = np.arange(66.0 * 8).reshape(66, 8)
    part, part_shape = slice_of_outputs(weight, shape)
    assert part_shape == TTShape((2, len(rows) // 2), (4, 2), shape.ranks)
    np.testing.assert_array_equal(part, weight[list(rows)])


def test_rows_that_mislead_are_not_followed():
    # The moment saw three inputs alive; the rows held out are of all thirty alike, as plain TT-SVD supposes.
    shape, weight = TTShape((6, 5), (5, 6), (1, 8, 1)), noise(30, 30).astype(np.float32)
    misled = moment_of(noise(50, 30, seed=7) * (np.arange(30) < 3), held_out=noise(900, 30, seed=8))
    np.testing.assert_array_equal(
        to_matrix(WhitenedSvd().decompose(weight, shape, misled)), to_matrix(NumpyTtSvd().decompose(weight, shape))
    )


@pytest.mark.parametrize("shape", [TTShape((30, 1), (1, 30), (1, 8, 1)), TTShape((6, 5), (5, 6), (1, 8, 1))], ids=str)
@pytest.mark.parametrize("decomposer", [WhitenedSvd(ridge=1e-2), TtAls(ridge=1e-2)], ids=["whitened", "als"])
def test_the_final_fit_uses_the_rows_that_were_held_out_too(decomposer, shape):
    weight, rows = noise(30, 30).astype(np.float32), inputs(60, 30)
    split, whole, part = moment_of(rows[:30], held_out=rows[30:]), moment_of(rows), moment_of(rows[:30])
    ours, wanted, other = (to_matrix(decomposer.decompose(weight, shape, m)) for m in (split, whole, part))
    # Sweeps that start elsewhere may end in another minimum, as good a one.
    metric = metric_of(whole, 1e-2)
    assert metric.squared(weight - ours) == pytest.approx(metric.squared(weight - wanted), rel=0.05)
    assert np.abs(wanted - other).max() > 1e-2 and np.abs(ours - other).max() > 1e-2


@pytest.mark.parametrize("shape", [TTShape((30, 1), (1, 30), (1, 8, 1)), TTShape((6, 5), (5, 6), (1, 8, 1))], ids=str)
@pytest.mark.parametrize("decomposer", [WhitenedSvd(), TtAls()], ids=["whitened", "als"])
def test_a_trial_has_not_seen_the_rows_held_out(decomposer, shape):
    weight, rows = noise(30, 30).astype(np.float32), inputs(60, 30)
    seen, other = (moment_of(rows[:40], held_out=held) for held in (rows[40:], rows[40:][:, ::-1]))
    first, second = (decomposer.trial(weight, shape, m) for m in (seen, replace(other, held_out=seen.held_out)))
    np.testing.assert_array_equal(to_matrix(first.cores), to_matrix(second.cores))
    alone = type(decomposer)(ridge=first.ridge).trial(weight, shape, moment_of(rows[:40]))
    metric = metric_of(moment_of(rows[:40]), first.ridge)
    ours, wanted = (metric.squared(weight - to_matrix(trial.cores)) for trial in (first, alone))
    assert ours == pytest.approx(wanted, rel=0.05)


def test_als_starts_from_the_better_of_plain_and_whitened():
    shape, weight = TTShape((6, 5), (5, 6), (1, 8, 1)), noise(30, 30)
    for moment in (moment_of(inputs(90, 30)), moment_of(noise(900, 30))):
        metric = metric_of(moment, 1e-2)
        known = [whitened_tt_svd(weight, shape, moment, ridge, seed=0) for ridge in (np.inf, 1e-2)]
        objectives = [metric.squared(weight - matrix_of(cores)) for cores in known]
        assert TtAls(ridge=1e-2, sweeps=0).fit(weight, shape, moment)[0].objectives == (pytest.approx(min(objectives)),)
        assert max(objectives) > 1.0001 * min(objectives)


def test_a_kronecker_second_moment_is_whitened_exactly_in_any_shape():
    left, right = inputs(60, 4, seed=3), inputs(60, 5, seed=5)
    second = np.kron(left.T @ left, right.T @ right)
    root = np.linalg.cholesky(second + 1e-9 * np.trace(second) * np.eye(20))
    moment = moment_of(np.sqrt(20) * root.T)  # C = S S^T
    weight, shape = noise(24, 20), TTShape((6, 4), (4, 5), (1, 7, 1))
    unfolded = (weight @ root).reshape(6, 4, 4, 5).transpose(0, 2, 1, 3).reshape(24, 20)
    # Any S' = S Q with Q a Kronecker product of rotations has the same unfolding spectrum.
    optimum = np.linalg.norm(np.linalg.svd(unfolded, compute_uv=False)[7:])
    cores = whitened_tt_svd(weight, shape, moment, 1e-8, seed=0)
    assert np.linalg.norm((weight - matrix_of(cores)) @ root) == pytest.approx(optimum, rel=1e-3)


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("decomposer", [WhitenedSvd, TtAls])
def test_a_ridge_is_positive(decomposer, ridge):
    with pytest.raises(ValueError, match="above 0"):
        decomposer(ridge=ridge)
