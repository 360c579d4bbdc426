"""Exact integer counts of one layer: parameters, FLOPs (2 per multiply-add), and the stages of a contraction.

Everything else that speaks of parameters or FLOPs takes them from here. The formulas stand in docs/glossary.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from lrf_dse.schema import Candidate, FcLayer, Order, Storage, TTShape
from lrf_dse.tt.grid import GROUP

FP32_BYTES, FP16_BYTES = 4, 2


@dataclass(frozen=True)
class StageCount:
    """One stage S'[l] = A S[l] of a contraction: A [rows, k], S [batches, k, columns], for every l < batches.

    A block-diagonal factor has `blocks` of A, each for a part of the state of its own: S [batches, blocks, k, columns].
    """

    batches: int
    rows: int
    k: int
    columns: int
    blocks: int = 1

    @property
    def flops(self) -> int:
        """2 per multiply-add."""
        return 2 * self.batches * self.blocks * self.rows * self.k * self.columns

    @property
    def weight_bytes(self) -> int:
        """Bytes of A in fp32, of all blocks."""
        return matrix_bytes(self.blocks * self.rows, self.k)

    @property
    def state_in_bytes(self) -> int:
        """Bytes of S."""
        return FP32_BYTES * self.batches * self.blocks * self.k * self.columns

    @property
    def state_out_bytes(self) -> int:
        """Bytes of S'."""
        return FP32_BYTES * self.batches * self.blocks * self.rows * self.columns

    @property
    def bytes_moved(self) -> int:
        """Bytes of A, S and S', each once."""
        return self.weight_bytes + self.state_in_bytes + self.state_out_bytes


def matrix_bytes(rows: int, k: int, storage: Storage = "fp32") -> int:
    """Bytes of a stage's matrix A [rows, k] with its scales (`lrf_dse.tt.grid`).

    >>> [matrix_bytes(10, 70, storage) for storage in ("fp32", "fp16", "int8", "int4")]
    [2800, 1400, 740, 410]
    """
    # A code for each element, and a fp32 scale for each row.
    if storage == "int8":
        return rows * (k + FP32_BYTES)
    # Two codes to a byte (an odd one takes a byte of its own), and a fp16 scale for each group.
    if storage == "int4":
        return rows * (-(-k // 2) + FP16_BYTES * -(-k // GROUP))
    return rows * k * (FP32_BYTES if storage == "fp32" else FP16_BYTES)


def stored_bytes(candidate: Candidate) -> int:
    """Bytes of a layer's weights as they are stored, the scales and the bias, which stays in fp32, included."""
    layer, shape, order = candidate.layer, candidate.tt_shape, candidate.order
    stages = (dense_stage(layer),) if shape is None else stage_counts(shape, order, batch=layer.batch)
    bias = FP32_BYTES * layer.out_features * layer.has_bias
    return bias + sum(matrix_bytes(stage.blocks * stage.rows, stage.k, candidate.storage) for stage in stages)


def parameters(shape: TTShape, *, bias: bool = False) -> int:
    """sum_k r_{k-1} m_k n_k r_k, plus M for a bias.

    >>> parameters(TTShape((20, 15), (28, 28), (1, 8, 1)), bias=True)
    8140
    """
    return sum(prod(core) for core in shape.core_shapes) + (shape.out_features if bias else 0)


def flops(shape: TTShape, order: Order = "last_first", *, batch: int = 1, bias: bool = False) -> int:
    """FLOPs of `batch` rows through the cores in `order`, plus M per row for a bias.

    Last first: 2 sum_k r_{k-1} r_k prod_{t<=k} n_t prod_{t>=k} m_t; first first: with m and n exchanged.

    >>> flops(TTShape((20, 15), (28, 28), (1, 8, 1)))
    322560
    """
    per_row = sum(stage.flops for stage in stage_counts(shape, order, batch=1))
    return batch * (per_row + (shape.out_features if bias else 0))


def stage_counts(shape: TTShape, order: Order = "last_first", *, batch: int = 1) -> tuple[StageCount, ...]:
    """The stages of the transpose-free contraction, in the order they are executed; of Monarch R, then L."""
    m, n, d = shape.out_dims, shape.in_dims, shape.d
    if shape.is_monarch:
        return tuple(StageCount(batch, rows, k, 1, blocks) for blocks, rows, k, _ in reversed(shape.core_shapes))
    stages = []
    for k, (left, m_k, n_k, right) in enumerate(shape.core_shapes):
        if order == "last_first":
            # [L, K, D] of the transpose-free contraction: L = batch n_1..n_{k-1}, K = n_k r_k, D = m_{k+1}..m_d.
            stages.append(StageCount(batch * prod(n[:k]), left * m_k, n_k * right, prod(m[k + 1 : d])))
        else:
            stages.append(StageCount(batch * prod(m[:k]), m_k * right, left * n_k, prod(n[k + 1 : d])))
    return tuple(stages if order == "first_first" else reversed(stages))


def dense_parameters(layer: FcLayer) -> int:
    """M N, plus M for a bias."""
    return layer.out_features * (layer.in_features + layer.has_bias)


def dense_flops(layer: FcLayer) -> int:
    """FLOPs of the layer's `batch` rows: 2 M N a row, plus M for a bias."""
    return layer.batch * layer.out_features * (2 * layer.in_features + layer.has_bias)


def dense_stage(layer: FcLayer) -> StageCount:
    """The dense layer as the one stage it is, A = W [out, in]: each element of W is read once for all rows."""
    return StageCount(1, layer.out_features, layer.in_features, layer.batch)


@dataclass(frozen=True)
class LayerCount:
    """A candidate in numbers: parameters, FLOPs of one inference, bytes if every stage moves its operands once."""

    params: int
    flops: int
    bytes_moved: int


def layer_count(candidate: Candidate) -> LayerCount:
    """The counts of a candidate in its own order, bias included."""
    layer, shape = candidate.layer, candidate.tt_shape
    stages = (dense_stage(layer),) if shape is None else stage_counts(shape, candidate.order, batch=layer.batch)
    # Weights count as they are stored, states in fp32.
    moved = stored_bytes(candidate) + sum(stage.bytes_moved - stage.weight_bytes for stage in stages)
    if shape is None:
        return LayerCount(dense_parameters(layer), dense_flops(layer), moved)
    work = flops(shape, candidate.order, batch=layer.batch, bias=layer.has_bias)
    return LayerCount(parameters(shape, bias=layer.has_bias), work, moved)
