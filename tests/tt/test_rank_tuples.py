from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_dse.tt.rank_tuples import cheapest_ranks, weighted_cost


def brute_force(tails, sizes, choices, cost, energy):
    """The least cost of all tuples that are allowed, with the tuples that have it."""
    found = {}
    for ranks in product(*(some.tolist() for some in choices)):
        full = (1, *ranks, 1)
        neighbours = list(zip(full, full[1:], sizes, strict=False))
        allowed = all(right <= left * size and left <= right * size for left, right, size in neighbours)
        if allowed and sum(tail[r] for tail, r in zip(tails, ranks, strict=True)) <= energy:
            found[ranks] = sum(float(cost(k, np.array(a), np.array(b))) for k, (a, b, _) in enumerate(neighbours))
    least = min(found.values(), default=None)
    return least, {ranks for ranks, value in found.items() if value == least}


@st.composite
def problems(draw):
    cuts = draw(st.integers(1, 4))
    sizes = [draw(st.integers(2, 9)) for _ in range(cuts + 1)]
    most = 9 if cuts < 4 else 5
    tails = []
    for _ in range(cuts):
        falls = draw(st.lists(st.integers(0, 50), min_size=most, max_size=most))
        tails.append(np.cumsum([*sorted(falls), 0][::-1])[::-1] / 256)  # binary fractions: no sum is rounded
    choices = [np.arange(1, most + 1)[:: draw(st.integers(1, 2))] for _ in range(cuts)]
    return tails, sizes, choices, draw(st.integers(0, 600)) / 256


def in_vectors(weights):
    """A cost that rises in steps of four, as kernels with four lanes have it."""

    def cost(core, left, right):
        return np.asarray(-(-left // 4) * 4.0 * right * weights[core] + 3.0)

    return cost


@settings(deadline=None, max_examples=150)
@given(problems(), st.lists(st.integers(1, 20), min_size=5, max_size=5), st.sampled_from([weighted_cost, in_vectors]))
def test_the_cheapest_tuple_by_brute_force(problem, weights, kind):
    tails, sizes, choices, energy = problem
    cost = kind(weights)
    least, best = brute_force(tails, sizes, choices, cost, energy)
    found = cheapest_ranks(tails, sizes, choices, cost, energy=energy)
    if least is None:
        assert found is None
    else:
        assert found in best
        energies = {ranks: sum(tail[r] for tail, r in zip(tails, ranks, strict=True)) for ranks in best}
        assert energies[found] == min(energies.values())


@pytest.mark.parametrize("cuts", [2, 3, 4, 5])
def test_hundreds_of_ranks_at_every_cut(cuts):
    """Tails of a trained layer's kind: the tuple keeps the error, costs less than one rank for all, and is quick."""
    tails = [
        np.concatenate([np.cumsum((1 / np.arange(1, 257) ** (1 + k / 4))[::-1])[::-1], [0.0]]) for k in range(cuts)
    ]
    tails = [tail / tail[0] for tail in tails]
    sizes = [256, *[8] * (cuts - 1), 256]
    choices = [np.arange(1, 257)] * cuts
    cost, energy = weighted_cost(sizes), 0.3
    found = cheapest_ranks(tails, sizes, choices, cost, energy=energy)
    uniform = next(r for r in range(1, 257) if sum(tail[r] for tail in tails) <= energy)

    def total(ranks):
        full = (1, *ranks, 1)
        return sum(float(cost(k, np.array(a), np.array(b))) for k, (a, b) in enumerate(pairwise(full)))

    assert sum(tail[r] for tail, r in zip(tails, found, strict=True)) <= energy
    assert total(found) < total((uniform,) * cuts)
    for k in range(cuts):  # no single rank can be one less
        less = tuple(r - (i == k) for i, r in enumerate(found))
        assert min(less) == 0 or sum(tail[r] for tail, r in zip(tails, less, strict=True)) > energy
