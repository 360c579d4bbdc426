"""Kernels that threads share give the same bits for any number of threads, and stay within their buffers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from codegen.kernels import job_of

from lrf_dse.codegen import Activation, KernelSpec, default_schedule
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Measurement, TTShape
from lrf_dse.target import load_target

SHAPE = TTShape((11, 8, 5), (3, 7, 13), (1, 9, 6, 1))
THREADS = (1, 2, 4, 8)
SPECS = (
    KernelSpec(SHAPE, 440, 273, 3, has_bias=True, activation=Activation(0.0, None)),
    KernelSpec(None, 97, 61, 1, has_bias=True),
)


@pytest.mark.parametrize("target_name", ["spacemit-k1", "starfive-jh7110"])
def test_the_number_of_threads_changes_no_bit(target_name: str, tmp_path: Path) -> None:
    target = load_target(target_name)
    kernels = []
    for spec in SPECS:
        # One schedule for all: another one may sum up in another order. Threads do not run in slices.
        schedule = default_schedule(replace(spec, threads=2), target)
        kernels += [(replace(spec, threads=threads), schedule) for threads in THREADS]
    job = job_of(kernels, target, tmp_path, guarded=True, same_operands=True)
    outputs = []
    for pool in THREADS:
        result = QemuRunner().run(replace(job, threads=pool, work=tmp_path / str(pool)))
        assert isinstance(result, Measurement), result
        outputs.append([(tmp_path / str(pool) / f"output{i}.bin").read_bytes() for i in range(len(kernels))])
    assert outputs.count(outputs[0]) == len(THREADS)
    for first in range(0, len(kernels), len(THREADS)):
        assert len(set(outputs[0][first : first + len(THREADS)])) == 1
