"""The singular spectra of a layer's unfoldings, which bound the TT-SVD error of every shape and rank at once.

||W - TT||_F^2 <= sum over unfoldings of the discarded squared singular values (Oseledets 2011, theorem 2.2). An
unfolding depends only on (prod out_dims[:k], prod in_dims[:k]), so all shapes of a layer share a few dozen spectra.

Unfoldings whose smaller side is above `exact_side` are sketched: the energy of a captured subspace is known exactly,
the total energy too, and what the sketch did not see is bounded from above, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np

from lrf_dse.schema import TTShape
from lrf_dse.tt.orders import divisors
from lrf_dse.tt.shapes import DEPTHS, explored_dims, monarch_blocks
from lrf_dse.tt.subspace import (
    EXACT_SIDE,
    SKETCH_SIZE,
    FloatArray,
    Matrix,
    captured_basis,
    gram,
    short_side_first,
    unfold,
)

MORE_WORK = 1e11
"""Multiply-adds that spectra beyond those of aligned shapes may take: 2 to 3 s on one core."""

MONARCH_SHARE = 0.2
"""Share of `MORE_WORK` that the spectra of blocks may take."""

_EIGENVALUES = 6.0
"""Multiply-adds of a product that take as long as the eigenvalues of a symmetric matrix, for each of side^3."""

Unfolding = tuple[int, int]
"""(prod out_dims[:k], prod in_dims[:k]): the rows of one unfolding."""


@dataclass(frozen=True)
class Spectra:
    """Tail energies of the unfoldings of one W [out_features, in_features].

    `tails[unfolding][r]` bounds the share of ||W||_F^2 that rank r discards, for r = 0..smaller side; 0 throughout
    where W is all zero. `block_tails[m_1, n_1][r]` is what a Monarch matrix of so many blocks and rank r leaves.
    """

    out_features: int
    in_features: int
    tails: Mapping[Unfolding, FloatArray]
    block_tails: Mapping[tuple[int, int], FloatArray] = field(default_factory=dict)


def unfoldings_of(out_dims: Sequence[int], in_dims: Sequence[int]) -> tuple[Unfolding, ...]:
    """The d - 1 unfoldings of a TT shape.

    >>> unfoldings_of((20, 5, 3), (2, 14, 28))
    ((20, 2), (100, 28))
    """
    outs, ins = np.cumprod(out_dims), np.cumprod(in_dims)
    return tuple((int(a), int(b)) for a, b in zip(outs[:-1], ins[:-1], strict=True))


def layer_spectra(
    weight: Matrix,
    *,
    seed: int = 0,
    more_work: float = MORE_WORK,
    exact_side: int = EXACT_SIDE,
    sketch_size: int = SKETCH_SIZE,
) -> Spectra:
    """The spectra of the unfoldings of W [out, in] that are worth their time; see `affordable_unfoldings`."""
    needed = affordable_unfoldings(weight.shape[0], weight.shape[1], more_work)
    found = unfolding_spectra(weight, sorted(needed), seed=seed, exact_side=exact_side, sketch_size=sketch_size)
    return replace(
        found, block_tails=block_tails(weight, affordable_blocks(found.out_features, found.in_features, more_work))
    )


def affordable_unfoldings(out_features: int, in_features: int, more_work: float = MORE_WORK) -> set[Unfolding]:
    """The unfoldings of aligned shapes and of plain low rank, and of all others as many as `more_work` allows.

    Those with the shortest sides come first, as they take the least.
    """
    pairs = out_features, in_features
    needed = {u for dims in explored_dims(*pairs, DEPTHS) for u in unfoldings_of(*dims)}
    others = {(a, b) for a in divisors(out_features) for b in divisors(in_features)} - needed
    # Both ends of a chain: nothing is cut there.
    others -= {(1, 1), pairs}
    for unfolding in sorted(others, key=lambda u: (spectrum_work(*pairs, u), u)):
        more_work -= spectrum_work(*pairs, unfolding)
        if more_work < 0:
            break
        needed.add(unfolding)
    return needed


def spectrum_work(out_features: int, in_features: int, unfolding: Unfolding) -> float:
    """About how many multiply-adds one exact spectrum takes: the products of rows, then the eigenvalues."""
    total, rows = out_features * in_features, unfolding[0] * unfolding[1]
    side = min(rows, total // rows)
    return float(side) * total + _EIGENVALUES * float(side) ** 3


def affordable_blocks(out_features: int, in_features: int, more_work: float = MORE_WORK) -> tuple[tuple[int, int], ...]:
    """The numbers of blocks (m_1, n_1) of Monarch matrices whose spectra `MONARCH_SHARE` of `more_work` allows.

    Those with the smallest blocks come first, as they take the least; none with more parameters than W at rank 1.
    """
    pairs = out_features, in_features
    left, found = MONARCH_SHARE * more_work, []
    small = [
        (m, n) for m, n in monarch_blocks(*pairs) if m * in_features + n * out_features < out_features * in_features
    ]
    for blocks in sorted(small, key=lambda blocks: (_blocks_work(*pairs, blocks), blocks)):
        left -= _blocks_work(*pairs, blocks)
        if left < 0:
            break
        found.append(blocks)
    return tuple(found)


def _blocks_work(out_features: int, in_features: int, blocks: tuple[int, int]) -> float:
    """The same as `spectrum_work`, for all blocks."""
    side = min(out_features // blocks[0], in_features // blocks[1])
    return float(side) * out_features * in_features + _EIGENVALUES * blocks[0] * blocks[1] * float(side) ** 3


def block_tails(weight: Matrix, counts: Iterable[tuple[int, int]]) -> dict[tuple[int, int], FloatArray]:
    """The shares of ||W||_F^2 that Monarch matrices of ranks 0, 1, ... leave of W [out, in], by numbers of blocks.

    Each block keeps its largest singular values: exact, not a bound.
    """
    matrix = np.asarray(weight, dtype=np.float64)
    matrix = np.ldexp(matrix, -int(np.frexp(np.abs(matrix).max())[1]))
    found = {}
    for m1, n1 in counts:
        blocks = matrix.reshape(m1, matrix.shape[0] // m1, n1, -1).transpose(0, 2, 1, 3)
        # The Gram matrix of the shorter side has the same eigenvalues other than 0.
        small = blocks if blocks.shape[2] <= blocks.shape[3] else blocks.swapaxes(2, 3)
        energies = np.maximum(np.linalg.eigvalsh(small @ small.swapaxes(2, 3)), 0.0).sum(axis=(0, 1))  # ascending
        tail = np.concatenate([[0.0], np.cumsum(energies)])[::-1]
        found[m1, n1] = tail / (float(tail[0]) or 1.0)
    return found


def unfolding_spectra(
    weight: Matrix,
    unfoldings: Iterable[Unfolding],
    *,
    seed: int = 0,
    exact_side: int = EXACT_SIDE,
    sketch_size: int = SKETCH_SIZE,
) -> Spectra:
    """The tail energies of these unfoldings of W [out, in].

    Exact (to about 1e-14 of the total energy up to side 1024, 1e-7 above) where the smaller side is at most
    `exact_side`. Larger unfoldings are sketched with `sketch_size` random columns from `seed`: an upper bound for every
    rank, tight for ranks well below `sketch_size`.
    """
    matrix = np.ascontiguousarray(weight, dtype=np.float32)
    # Scaled to about 1, so that neither tiny nor huge weights under- or overflow when squared; a power of two is exact.
    matrix = np.ldexp(matrix, -int(np.frexp(np.abs(matrix).max())[1]))
    total = float(np.einsum("ij,ij->", matrix, matrix, dtype=np.float64))
    tails = {}
    for left_out, left_in in unfoldings:
        small = short_side_first(unfold(matrix, left_out, left_in))
        if total == 0:
            tail = np.zeros(small.shape[0] + 1)
        # A sketch of more than half of the side would save nothing.
        elif small.shape[0] <= exact_side or small.shape[0] <= 2 * sketch_size:
            tail = _exact_tail(small)
        else:
            tail = _sketched_tail(small, total, sketch_size, seed) / total
        tail.setflags(write=False)
        tails[left_out, left_in] = tail
    return Spectra(matrix.shape[0], matrix.shape[1], tails)


def error_bound(spectra: Spectra, shape: TTShape) -> float:
    """A bound on ||W - TT||_F / ||W||_F of the TT-SVD of W in `shape`: 0 at full rank and for W = 0, at most 1.

    At most 1, because every step of TT-SVD is an orthogonal projection. Raises ValueError where the spectra do not
    cover the shape.
    """
    tails = [_tail(spectra, u) for u in unfoldings_of(shape.out_dims, shape.in_dims)]
    if shape.is_monarch:
        tails = [spectra.block_tails[shape.out_dims[0], shape.in_dims[0]]]
    energy = sum(float(tail[min(r, tail.size - 1)]) for tail, r in zip(tails, shape.ranks[1:-1], strict=True))
    return sqrt(min(energy, 1.0))


def _tail(spectra: Spectra, unfolding: Unfolding) -> FloatArray:
    if unfolding not in spectra.tails:
        raise ValueError(f"the spectra have no unfolding {unfolding}: compute them for the shapes that are asked for")
    return spectra.tails[unfolding]


def _exact_tail(small: Matrix) -> FloatArray:
    """Tail shares for r = 0..rows, from the eigenvalues of A A^T; their own sum is the total, so rounding cancels."""
    energies = np.maximum(np.linalg.eigvalsh(gram(small)), 0.0)  # ascending
    tail: FloatArray = np.concatenate([[0.0], np.cumsum(energies)])[::-1]
    return tail / float(tail[0])


def _sketched_tail(small: Matrix, total: float, sketch_size: int, seed: int) -> FloatArray:
    """Upper bounds of the tail energies for r = 0..rows, from a captured subspace of `sketch_size` dimensions.

    With Q orthonormal, sigma_i(Q^T A) <= sigma_i(A): total minus the captured energy of rank r bounds its tail. Beyond
    the sketch, the singular values that remain descend, so rank r leaves at most (rows - r) / (rows - sketch) of them.
    """
    rows = small.shape[0]
    basis = captured_basis(small, sketch_size, seed=seed)
    captured = np.maximum(np.linalg.eigvalsh(gram(basis.T @ small))[::-1], 0.0)
    seen = np.maximum(total - np.concatenate([[0.0], np.cumsum(captured)]), 0.0)
    # What the sketch left, spread as evenly as descending values can be: the largest tail that is possible.
    unseen = seen[-1] * np.arange(rows - sketch_size - 1, -1, -1) / (rows - sketch_size)
    return np.concatenate([seen, unseen])
