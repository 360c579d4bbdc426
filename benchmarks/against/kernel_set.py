"""Which kernels `benchmarks/kernels.py` compares: the rows of a set, by rule or from a TOML file.

Owns the set only: it measures nothing. A kernel is a TT layer y = W x without bias or activation.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from math import log, prod
from pathlib import Path
from typing import Any

from lrf_dse.errors import UsageError
from lrf_dse.schema import FcLayer, TTShape
from lrf_dse.tt.shapes import Dims, aligned_dims, low_rank_dims, uniform_rank_cap

PAPER_LAYERS = (
    (784, 300),
    (400, 120),
    (512, 512),
    (2048, 1000),
    (4096, 1000),
    (4096, 4096),
    (9216, 4096),
    (25088, 4096),
    (768, 3072),
    (3072, 768),
    (1024, 4096),
)
"""(in, out): LeNet-300-100, LeNet-5, small ResNet, ResNet and Xception, AlexNet and VGG, BERT and GPT-2 medium."""

TRAINS = ((2, 8), (2, 16), (3, 8), (3, 16), (4, 8))
"""(d, uniform rank), each at the most balanced aligned shape."""

LOW_RANKS = (8, 24, 32)
"""Ranks of the low-rank pair; 24 fills three vectors of eight lanes, which no register group does."""

BATCH, BATCH_LAYERS, BATCH_TRAINS = 16, 3, ((2, 8), (3, 8), (4, 8))
"""The last layers of the set are measured with this batch as well."""

TINY = ((100, 10, 4), (64, 32, 4), (128, 10, 2))
"""(in, out, rank) of low-rank pairs that take less than the dispatch of a kernel costs elsewhere."""

PUBLISHED = TTShape((20, 15), (2, 392), (1, 3, 1))
"""The TT layer of LeNet-300-100 whose sizes the paper gives: 784x300, rank 3."""

TINY_PARAMETERS = 512

SETS = ("paper", "quick")
_KEYS = {"in", "out", "out_dims", "in_dims", "ranks", "batch"}


@dataclass(frozen=True)
class KernelCase:
    """One row of the benchmark: a TT shape and the rows of x that it takes at a time."""

    shape: TTShape
    batch: int = 1

    @property
    def layer(self) -> FcLayer:
        """The FC layer that the shape stands for."""
        return FcLayer("layer", self.shape.in_features, self.shape.out_features, self.batch, has_bias=False)

    @property
    def layer_name(self) -> str:
        """The sizes in x out, as the table shows it."""
        return f"{self.shape.in_features}x{self.shape.out_features}"

    @property
    def is_tiny(self) -> bool:
        """Whether it has fewer parameters than any layer that is worth compressing for its size alone."""
        return sum(prod(core) for core in self.shape.core_shapes) < TINY_PARAMETERS

    @property
    def kind(self) -> str:
        """What rows are alike in: tiny, low rank or a number of cores, and the batch."""
        form = "tiny" if self.is_tiny else "low rank" if self.shape.is_low_rank else f"d={self.shape.d}"
        return form + (f" batch {self.batch}" if self.batch > 1 else "")

    @property
    def name(self) -> str:
        """Short and unique within the set by rule."""
        inner = self.shape.ranks[1:-1]
        kind = "low rank" if self.shape.is_low_rank else f"d={self.shape.d}"
        rank = f"r{inner[0]}" if len(set(inner)) == 1 else "r" + ",".join(map(str, inner))
        return f"{self.layer_name} {kind} {rank}" + (f" batch {self.batch}" if self.batch > 1 else "")


def kernel_set(name: str) -> tuple[KernelCase, ...]:
    """The set "paper" or "quick", or the one in the file `name`. Raises UsageError in one line."""
    if name == "paper":
        return tuple(_paper())
    if name == "quick":
        return tuple(_quick())
    if not name.endswith(".toml") and not Path(name).is_file():
        raise UsageError(f"unknown kernel set {name!r}: use one of {', '.join(SETS)}, or a path to a .toml file")
    return read_kernel_set(Path(name))


def balanced_dims(out_features: int, in_features: int, d: int) -> tuple[Dims, Dims]:
    """The most balanced aligned dims: the least sum of squared log factors around the d-th roots of M and N.

    Raises UsageError if the layer has no aligned shape with so many factors >= 2.

    >>> balanced_dims(300, 784, 2)
    ((20, 15), (28, 28))
    """

    def spread(dims: tuple[Dims, Dims]) -> float:
        return sum((log(f) - log(n) / d) ** 2 for n, part in zip(sizes, dims, strict=True) for f in part)

    sizes = (out_features, in_features)
    found = min(aligned_dims(*sizes, d), key=spread, default=None)
    if found is None:
        raise UsageError(f"layer {in_features}x{out_features} has no TT shape of {d} factors >= 2")
    return found


def _paper() -> Iterator[KernelCase]:
    """About 30 rows, chosen before any of them was measured: nothing here depends on a figure.

    Every layer has one train and one low-rank pair at batch 1. Down the list of layers the trains go round TRAINS and
    the pairs go round LOW_RANKS, so that every kind meets small and large layers. The last BATCH_LAYERS layers have a
    train of 2, 3 and 4 cores and a pair of each rank at BATCH as well. Three TINY layers and the PUBLISHED one end the
    set. No two rows are the same program (a test compares their cheapest contractions).
    """
    for number, (in_features, out_features) in enumerate(PAPER_LAYERS):
        yield train_case(in_features, out_features, *TRAINS[number % len(TRAINS)])
        yield low_rank_case(in_features, out_features, LOW_RANKS[number % len(LOW_RANKS)])
    batched = zip(PAPER_LAYERS[-BATCH_LAYERS:], BATCH_TRAINS, LOW_RANKS, strict=True)
    for (in_features, out_features), train, rank in batched:
        yield train_case(in_features, out_features, *train, batch=BATCH)
        yield low_rank_case(in_features, out_features, rank, batch=BATCH)
    for in_features, out_features, rank in TINY:
        yield low_rank_case(in_features, out_features, rank)
    yield KernelCase(PUBLISHED)


def train_case(in_features: int, out_features: int, d: int, rank: int, batch: int = 1) -> KernelCase:
    """The balanced shape of `d` cores of a layer, its rank capped."""
    return KernelCase(_uniform(*balanced_dims(out_features, in_features, d), rank), batch)


def low_rank_case(in_features: int, out_features: int, rank: int, batch: int = 1) -> KernelCase:
    """The low-rank pair of a layer, its rank capped."""
    return KernelCase(_uniform(*low_rank_dims(out_features, in_features), rank), batch)


def _quick() -> Iterator[KernelCase]:
    """Two rows of one small layer: a balanced shape and the low-rank pair."""
    yield train_case(784, 300, 2, 8)
    yield low_rank_case(784, 300, 8)


def _uniform(out_dims: Dims, in_dims: Dims, rank: int) -> TTShape:
    capped = uniform_rank_cap(out_dims, in_dims, rank)
    return TTShape(out_dims, in_dims, (1, *[capped] * (len(out_dims) - 1), 1))


def read_kernel_set(path: Path) -> tuple[KernelCase, ...]:
    """The [[kernel]] tables of a TOML file. Raises UsageError that names the file, the table and the key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path}: not a readable TOML file: {error}") from error
    tables = data.get("kernel")
    if set(data) != {"kernel"} or not isinstance(tables, list) or not tables:
        raise UsageError(f"{path}: holds {', '.join(data) or 'nothing'}; a kernel set is one or more [[kernel]] tables")
    return tuple(_read_case(table, f"{path}: kernel {number}") for number, table in enumerate(tables, start=1))


def _read_case(table: Any, where: str) -> KernelCase:
    if not isinstance(table, dict):
        raise UsageError(f"{where}: must be a [[kernel]] table")
    if strangers := set(table) - _KEYS:
        raise UsageError(f"{where}: unknown key {min(strangers)!r}: use {', '.join(sorted(_KEYS))}")
    if missing := _KEYS - {"batch"} - set(table):
        raise UsageError(f"{where}: key {min(missing)!r} is missing")
    sizes = {key: _positive(table.get(key, 1), f"{where}: key {key!r}") for key in ("in", "out", "batch")}
    dims = {key: _positives(table[key], f"{where}: key {key!r}") for key in ("out_dims", "in_dims", "ranks")}
    ranks = dims["ranks"]
    if len(ranks) == len(dims["out_dims"]) - 1:  # the inner ones are enough
        ranks = (1, *ranks, 1)
    try:
        shape = TTShape(dims["out_dims"], dims["in_dims"], ranks)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    for key, features in (("in", shape.in_features), ("out", shape.out_features)):
        if features != sizes[key]:
            raise UsageError(f"{where}: {key}_dims multiply to {features}, but {key} is {sizes[key]}")
    return KernelCase(shape, sizes["batch"])


def _positive(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{where} must be a whole number >= 1, got {value!r}")
    return value


def _positives(values: Any, where: str) -> tuple[int, ...]:
    if not isinstance(values, list):
        raise UsageError(f"{where} must be a list of whole numbers, got {values!r}")
    return tuple(_positive(value, where) for value in values)
