"""What a kernel computes, independent of how: y = activation(x W^T + b) for one FC layer, as a TT or dense."""

from __future__ import annotations

from dataclasses import dataclass

from lrf_dse.schema import Order, Storage, TTShape

CoreShape = tuple[int, int, int, int]
"""Shape of one core [r, m, n, r'], t3f's axis order. A dense W [M, N] is the one core [1, M, N, 1]."""


@dataclass(frozen=True)
class Activation:
    """min(max(y, low), high); None is no bound. Relu is (0, None), Relu6 (0, 6)."""

    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise ValueError(f"an activation needs low <= high, got {self}")
        # Upper bounds are computed as comparisons of bit patterns (lrf_dse/codegen/microkernel.py), in which a bound
        # below 0 and a NaN cannot be told apart.
        if self.high is not None and not self.high >= 0:
            raise ValueError(f"an upper bound below 0 cannot be computed with a NaN kept, got {self}")


@dataclass(frozen=True)
class KernelSpec:
    """One FC layer to compute: W [out_features, in_features] for `batch` rows of x, on `threads` threads.

    `shape` is None for the dense layer. `storages` says how each core is stored, all as fp32 by default; in few bits
    the matrices of the stages of `order` are. Raises ValueError where sizes do not fit together.
    """

    shape: TTShape | None
    out_features: int
    in_features: int
    batch: int = 1
    has_bias: bool = False
    activation: Activation | None = None
    threads: int = 1
    storages: tuple[Storage, ...] = ()
    order: Order = "last_first"

    def __post_init__(self) -> None:
        if min(self.out_features, self.in_features, self.batch, self.threads) < 1:
            raise ValueError(f"sizes and threads must be >= 1: {self}")
        shape = self.shape
        if shape and (shape.out_features, shape.in_features) != (self.out_features, self.in_features):
            raise ValueError(f"TT shape {shape} does not multiply to [{self.out_features}, {self.in_features}]")
        if self.storages and len(self.storages) != len(self.core_shapes):
            raise ValueError(f"{len(self.core_shapes)} cores need as many storages, got {self.storages}")

    @property
    def core_shapes(self) -> tuple[CoreShape, ...]:
        """Shapes of the weights, first core first."""
        if self.shape is None:
            return ((1, self.out_features, self.in_features, 1),)
        return self.shape.core_shapes

    @property
    def core_storages(self) -> tuple[Storage, ...]:
        """How each core is stored, first core first."""
        return self.storages or tuple("fp32" for _ in self.core_shapes)

    @property
    def few_bits(self) -> bool:
        """Whether a core is stored in less than fp32."""
        return any(storage != "fp32" for storage in self.core_storages)
