"""Which kernels `benchmarks/kernels.py` compares: the rows of a set, by rule or from a TOML file.

Owns the set only: it measures nothing. A kernel is a TT layer y = W x without bias or activation.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from math import log
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

PAPER_RANKS = ((2, 8), (2, 16), (3, 8), (3, 16), (4, 8))
"""(d, uniform rank), each at the most balanced aligned shape; the low-rank pair comes beside them."""

LOW_RANK = 32
PAPER_BATCH, PAPER_BATCH_LAYERS = 16, 3
"""The last layers of the set are measured with this batch as well."""

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
    def kind(self) -> str:
        """What rows are alike in: low rank or a number of cores, and the batch."""
        form = "low rank" if self.shape.is_low_rank else f"d={self.shape.d}"
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


def layer_cases(in_features: int, out_features: int, batch: int = 1) -> Iterator[KernelCase]:
    """The six rows of one layer: balanced shapes of 2 to 4 cores, ranks capped, and the low-rank pair."""
    for d, rank in PAPER_RANKS:
        yield KernelCase(_uniform(*balanced_dims(out_features, in_features, d), rank), batch)
    yield KernelCase(_uniform(*low_rank_dims(out_features, in_features), LOW_RANK), batch)


def _paper() -> Iterator[KernelCase]:
    for in_features, out_features in PAPER_LAYERS:
        yield from layer_cases(in_features, out_features)
    for in_features, out_features in PAPER_LAYERS[-PAPER_BATCH_LAYERS:]:
        yield from layer_cases(in_features, out_features, PAPER_BATCH)


def _quick() -> Iterator[KernelCase]:
    """Two rows of one small layer: a balanced shape and the low-rank pair."""
    rows = tuple(layer_cases(784, 300))
    yield rows[0]
    yield rows[-1]


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
