"""Kernels of Monarch matrices: random sizes, storages, batches, schedules and threads, against float64."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from codegen.kernels import ACTIVATIONS, STORAGES, in_half_precision, job_of

from lrf_dse.codegen import KernelSpec, copied_schedule, default_schedule, lower_bound, predicted_cycles, schedules
from lrf_dse.cost.counts import flops, parameters, stage_counts
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Measurement, TTShape
from lrf_dse.target import load_target

BLOCKS = ((1, 3), (4, 1), (2, 2), (3, 5), (4, 7), (2, 16))


def random_spec(rng: random.Random, *, threads: int = 1, few_bits: bool = False) -> KernelSpec:
    """Blocks of any size, one-sided ones too; batches; with `few_bits` each factor in any storage."""
    m1, n1 = rng.choice(BLOCKS)
    m2, n2, rank = rng.choice([1, 3, 8, 17, 40]), rng.choice([2, 5, 8, 33, 70]), rng.choice([1, 2, 3, 8, 20])
    shape = TTShape((m1, m2), (n1, n2), (1, rank, 1), "monarch")
    facts = (m1 * m2, n1 * n2, rng.choice([1, 1, 2, 5]), rng.random() < 0.6, rng.choice(ACTIVATIONS), threads)
    return KernelSpec(shape, *facts, tuple(rng.choice(STORAGES) for _ in range(2)) if few_bits else ())


def verify(job) -> None:
    result = QemuRunner().run(job)
    assert isinstance(result, Measurement), result


def kernels(seed: int, target, count: int, **options):
    rng = random.Random(seed)
    for _ in range(count):
        spec = random_spec(rng, **options)
        yield spec, rng.choice(schedules(spec, target, 12))


@pytest.mark.parametrize(
    ("name", "seed", "few_bits"),
    [
        ("spacemit-k1", 1, False),
        ("spacemit-k1", 2, True),
        ("sifive-x280", 3, False),
        ("qemu-rv64gcv", 4, True),
        ("starfive-jh7110", 5, False),
        ("starfive-jh7110", 6, True),
    ],
)
def test_random_monarch_kernels(name, seed, few_bits, tmp_path) -> None:
    target = load_target(name)
    chosen = list(kernels(seed, target, 14, few_bits=few_bits))
    assert max(spec.batch for spec, _ in chosen) > 1
    verify(job_of(chosen, target, tmp_path, guarded=True))


def test_weights_that_are_widened_at_load(tmp_path) -> None:
    target, rng = load_target("spacemit-k1"), random.Random(9)
    specs = [random_spec(rng, few_bits=True) for _ in range(8)]
    chosen = [(spec, copied_schedule(spec, target)) for spec in specs if spec.few_bits]
    verify(job_of([kernel for kernel in chosen if kernel[1] is not None], target, tmp_path, guarded=True))


def test_half_precision_and_threads(tmp_path) -> None:
    target = in_half_precision(load_target("spacemit-k1"))
    verify(job_of(list(kernels(7, target, 10, few_bits=True, threads=3)), target, tmp_path, guarded=True))


def test_predictions_and_bounds_of_cycles(tmp_path) -> None:
    """The closed form ranks, to a seventh; nothing is faster than the bound."""
    target = load_target("spacemit-k1")
    for m, n, rank in (((4, 75), (4, 196), 8), ((10, 30), (2, 392), 8), ((1, 300), (8, 98), 16)):
        shape = TTShape(m, n, (1, rank, 1), "monarch")
        spec = KernelSpec(shape, 300, 784, has_bias=True)
        schedule = default_schedule(spec, target)
        predicted, bound = predicted_cycles(spec, schedule, target), lower_bound(spec, target)
        folder = tmp_path / str(m[0])
        folder.mkdir()
        measured = QemuRunner().run(job_of([(spec, schedule)], target, folder, guarded=False))
        assert isinstance(measured, Measurement)
        assert measured.cycles and predicted and bound
        assert bound <= measured.cycles
        assert 0.85 <= predicted / measured.cycles <= 1.15


def test_counts_are_those_of_the_blocks() -> None:
    shape = TTShape((4, 5), (3, 7), (1, 2, 1), "monarch")
    right, left = stage_counts(shape, batch=6)
    assert (right.blocks, right.rows, right.k, left.blocks, left.rows, left.k) == (3, 8, 7, 4, 5, 6)
    assert parameters(shape) == 3 * 8 * 7 + 4 * 5 * 6
    # Every weight meets every row of x once.
    assert flops(shape, batch=6) == 2 * 6 * parameters(shape)
    assert (right.state_out_bytes, left.state_in_bytes) == (4 * 6 * 24,) * 2


def test_slices_are_refused() -> None:
    spec = KernelSpec(TTShape((2, 4), (2, 6), (1, 2, 1), "monarch"), 8, 12, batch=2)
    target = load_target("spacemit-k1")
    schedule = replace(default_schedule(spec, target), fused=2, slices=2)
    with pytest.raises(ValueError, match="do not run in slices"):
        predicted_cycles(spec, schedule, target)
    with pytest.raises(ValueError, match="is computed in the order"):
        predicted_cycles(spec, replace(default_schedule(spec, target), order=(0, 1)), target)
    assert np.isfinite(predicted_cycles(spec, default_schedule(spec, target), target))
