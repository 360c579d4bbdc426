"""Where a run computes: this machine, or the workers of a cluster that have the very tools of this one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lrf_dse.builders.program import tool_versions
from lrf_dse.errors import UsageError
from lrf_dse.farm import Farm, Local
from lrf_dse.runners.qemu import tool_versions as qemu_versions
from lrf_dse.sealed import sources_digest

if TYPE_CHECKING:
    from lrf_dse.farm.cluster import Cluster

_PACKAGES = ("numpy", "scipy", "onnx", "onnxruntime")
"""Packages whose versions decide fits, accuracies and what a program must answer."""


@contextmanager
def opened_farm(scheduler: str | None, *, jobs: int, emulated: bool) -> Iterator[Farm]:
    """The executor of a run's tasks, until the end: `jobs` threads, or the workers of `scheduler`.

    `emulated`: programs run under QEMU, so that workers need it. Raises UsageError without Dask, ClusterError where
    nobody can compute.
    """
    farm = Local(jobs) if scheduler is None else _cluster(scheduler, emulated=emulated)
    try:
        yield farm
    # KeyboardInterrupt too: tasks that wait must not begin once the user has stopped the run.
    except BaseException:
        farm.shutdown(wait=True, cancel_futures=True)
        raise
    farm.shutdown()


def _cluster(scheduler: str, *, emulated: bool) -> Cluster:
    try:
        from lrf_dse.farm.admission import Admission
        from lrf_dse.farm.cluster import Cluster

        ask = partial(machine_versions, emulated=emulated)
        return Cluster(scheduler, Admission(ask, ask()))
    except ModuleNotFoundError as error:
        raise UsageError(f"--scheduler needs {error.name}: pip install 'lrf-dse[cluster]'") from error


def machine_versions(*, emulated: bool) -> dict[str, str]:
    """Whatever of this machine decides a result. Raises ToolError if a tool is missing."""
    package = Path(__file__).parent.parent
    # A release number does not tell two states of a checkout apart.
    sources = sources_digest(sorted(package.rglob("*.py")))
    versions = {"lrf-dse": f"{version('lrf-dse')} ({sources[:12]})", **{name: version(name) for name in _PACKAGES}}
    return versions | tool_versions() | (qemu_versions() if emulated else {}) | {"arithmetic": arithmetic()}


def arithmetic() -> str:
    """A digest of how this machine rounds: of sums in a product, and of a factorisation, in both precisions.

    The same libraries use other instructions on other processors, and sums then differ in the last bits. That is enough
    for another fit of a layer, and so for another record under the same key.
    """
    from scipy.linalg import svdvals
    from threadpoolctl import threadpool_limits

    random, bits = np.random.default_rng(0), hashlib.sha256()
    # One thread: how sums are shared out over threads changes their last bits.
    with threadpool_limits(1, user_api="blas"):
        # Odd sizes, so that the ends of blocks are computed too.
        double = random.standard_normal((67, 131))
        for a in (double, double.astype(np.float32)):
            for found in (a @ a.T, np.linalg.svd(a)[2], svdvals(a), np.exp(a)):
                bits.update(np.ascontiguousarray(found).tobytes())
    return bits.hexdigest()[:12]
