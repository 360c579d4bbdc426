"""The decomposers: W and a TT shape to cores. Their Protocol, and the registry of all of them.

Every decomposer returns cores of exactly the shape it was asked for.

    tt_svd     TT-SVD in numpy: the least weight error, fast (`numpy_svd`)
    t3f        the same by the t3f library: the reference, slow (`t3f_svd`)
    whitened   SVD of W C^1/2, C the second moment of the layer's inputs (`data_aware`)
    als        TT-ALS: the least output error on calibration data (`data_aware`, `als`, `als_core`)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lrf_dse.errors import UsageError
from lrf_dse.schema import TTShape
from lrf_dse.tt.contraction import Core, Cores
from lrf_dse.tt.data_aware import Trial, TtAls, WhitenedSvd
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.numpy_svd import NumpyTtSvd
from lrf_dse.tt.t3f_svd import T3fTtSvd


class Decomposer(Protocol):
    """W [out, in] to TT cores."""

    def decompose(self, weight: Core, shape: TTShape, moment: Moment | None = None) -> Cores:
        """The cores [r_{k-1}, m_k, n_k, r_k], float32, of W in `shape`.

        `moment` describes the layer's inputs. A decomposer that needs it raises UsageError where it is None; the others
        do not look at it.
        """
        ...


class DataAware(Decomposer, Protocol):
    """A decomposer that fits twice: a trial that rows held out may judge, and what ships, on all rows."""

    def trial(self, weight: Core, shape: TTShape, moment: Moment) -> Trial:
        """The fit of W [out, in] to the rows that are not held out."""
        ...

    def refit(self, weight: Core, shape: TTShape, moment: Moment, trial: Trial) -> Cores:
        """The cores of W [out, in] on all rows, by what `trial` chose."""
        ...


def get_decomposer(name: str, *, seed: int = 0) -> Decomposer:
    """The decomposer `name`. Raises UsageError, which lists the valid names."""
    if name not in DECOMPOSERS:
        raise UsageError(f"unknown decomposer {name!r}: use one of {', '.join(sorted(DECOMPOSERS))}")
    return DECOMPOSERS[name](seed)


DATA_AWARE: dict[str, type[WhitenedSvd] | type[TtAls]] = {"whitened": WhitenedSvd, "als": TtAls}
"""The decomposers that need calibration data, by name; made from a seed, and a ridge where it is known."""

DECOMPOSERS: dict[str, Callable[[int], Decomposer]] = {"tt_svd": NumpyTtSvd, "t3f": T3fTtSvd, **DATA_AWARE}
"""Name to decomposer, made from a seed."""
