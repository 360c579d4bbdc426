"""A TT layer as a chain of Reshape and MatMul steps with constants: no transpose, no broadcast weight.

Monarch matrices alone move axes, between their two factors. Owns the choice of the form of each stage
(docs/glossary.md). It knows shapes and arrays, no ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lrf_dse.schema import Order, TTShape
from lrf_dse.tt.contraction import Core, shape_of, stage_matrices, stage_matrix


@dataclass(frozen=True)
class Step:
    """One node: Reshape to `constant` (int64), or MatMul with the float32 `constant` on the side named by `form`.

    `form` is "right" for state x constant, "left" for constant x state. `shape` is the shape that comes out. Transpose
    has the axes as `constant`. A matrix [rows, K] of several `blocks` is read as [blocks, rows of a block, K].
    """

    op: Literal["Reshape", "MatMul", "Transpose"]
    form: Literal["left", "right"]
    constant: NDArray[Any]
    shape: tuple[int, ...]
    blocks: int = 1

    @property
    def view(self) -> tuple[int, ...]:
        """The shape as which the constant of a MatMul is read."""
        rows, k = self.constant.shape
        return (rows, k) if self.blocks == 1 else (self.blocks, rows // self.blocks, k)


def reshape_step(shape: Sequence[int]) -> Step:
    """The step that gives the state `shape`."""
    return Step("Reshape", "right", np.array(shape, np.int64), tuple(shape))


def chain(
    cores: Sequence[Core], order: Order, *, in_shape: tuple[int, ...], out_shape: tuple[int, ...], columns: int = 1
) -> tuple[Step, ...]:
    """The steps that take x of `in_shape`, row-major [batch, N, columns], to y of `out_shape`, [batch, M, columns].

    With one column x is rows of N, and y = x W^T. More are the pixels of an image, or those of a matrix on the right of
    W: they lie innermost in every state, so that nothing has to be transposed. Stage k is S'[l] = A_k S[l] with S
    [L, K, D]. It is written [L, K] x A_k^T where D = 1, A_k x [K, D] where L = 1, and as a batched MatMul only between:
    compilers turn a broadcast batched MatMul into gathers. A Reshape stands only where the shape changes, so plain low
    rank on rows [L, N] is two MatMuls. Raises ValueError if the cores do not fit each other or the shapes.
    """
    tt = shape_of(cores)
    batch = prod(in_shape) // (tt.in_features * columns)
    sizes = (batch * tt.in_features * columns, batch * tt.out_features * columns)
    if (prod(in_shape), prod(out_shape)) != sizes:
        raise ValueError(f"TT shape {tt} does not take {in_shape} to {out_shape}")
    if tt.is_monarch:
        return _monarch(cores, tt, in_shape=in_shape, out_shape=out_shape, batch=batch)
    steps: list[Step] = []
    shape = in_shape
    indices = range(tt.d) if order == "first_first" else range(tt.d - 1, -1, -1)
    for k, matrix in zip(indices, stage_matrices(cores, order), strict=True):
        # The state at stage k has the modes before k in front and those after k behind: with the first core first the
        # outputs that are made already and the inputs that are left, with the last core first the other way round.
        before, after = (tt.out_dims, tt.in_dims) if order == "first_first" else (tt.in_dims, tt.out_dims)
        stage = _stage(matrix, batch * prod(before[:k]), columns * prod(after[k + 1 :]), shape)
        steps += stage
        shape = stage[-1].shape
    return (*steps, reshape_step(out_shape)) if shape != out_shape else tuple(steps)


def _stage(matrix: Core, outer: int, columns: int, shape: tuple[int, ...]) -> list[Step]:
    """One stage: A [R, K] applied to every one of the `outer` slices [K, columns] of a state of `shape`."""
    rows, inner = matrix.shape
    # IREE 3.13 turns MatMul(A, S [L, K, 1]) into a generic operation with gathers, and compiles S [L, K] x A^T as a
    # plain matrix product.
    if columns == 1:
        wanted: tuple[int, ...] = (outer, inner)
        step = Step("MatMul", "right", np.ascontiguousarray(matrix.T), (outer, rows))
    elif outer == 1:
        wanted = (inner, columns)
        step = Step("MatMul", "left", matrix, (rows, columns))
    else:
        wanted = (outer, inner, columns)
        step = Step("MatMul", "left", matrix, (outer, rows, columns))
    return [step] if shape == wanted else [reshape_step(wanted), step]


def _monarch(
    cores: Sequence[Core], shape: TTShape, *, in_shape: tuple[int, ...], out_shape: tuple[int, ...], batch: int
) -> tuple[Step, ...]:
    """R on the state [n_1, n_2, D], then L on [m_1, n_1 r, D]: rows of x, where there are several, go to the end."""
    (m1, m2), (n1, n2), r = shape.out_dims, shape.in_dims, shape.ranks[1]
    left, right = (stage_matrix(core, "last_first") for core in cores)
    columns = prod(in_shape) // shape.in_features
    made = _Chain(in_shape)
    if batch > 1:
        made.reshape((batch, n1 * n2, columns // batch)).transpose((1, 0, 2))
    made.reshape((n1, n2, columns)).multiply(right, n1)
    if min(m1, n1) > 1:
        made.reshape((n1, m1, r, columns)).transpose((1, 0, 2, 3))
    made.reshape((m1, n1 * r, columns)).multiply(left, m1)
    if batch > 1:
        made.reshape((m1 * m2, batch, columns // batch)).transpose((1, 0, 2))
    return tuple(made.reshape(out_shape).steps)


class _Chain:
    """Steps from a state of some shape on; blocks of one are left out of shapes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.steps: list[Step] = []
        self._shape = shape

    def reshape(self, shape: tuple[int, ...]) -> _Chain:
        if shape != self._shape:
            self._add(reshape_step(shape))
        return self

    def transpose(self, axes: tuple[int, ...]) -> _Chain:
        self._add(Step("Transpose", "right", np.array(axes, np.int64), tuple(self._shape[axis] for axis in axes)))
        return self

    def multiply(self, matrix: Core, blocks: int) -> _Chain:
        """Every block of the state [blocks, K, D] by its own of the matrix [blocks rows, K]."""
        if blocks == 1:
            self.reshape(self._shape[1:])
        rows = len(matrix) // blocks
        shape = (*self._shape[:-2], rows, self._shape[-1])
        self._add(Step("MatMul", "left", matrix, shape, blocks))
        return self

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self._shape = step.shape
