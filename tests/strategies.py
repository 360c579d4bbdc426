"""Hypothesis strategies for the core values, shared by the whole suite."""

from math import prod

import numpy as np
from hypothesis import strategies as st

from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.tt.moment import moment_of
from lrf_dse.tt.shapes import rank_caps

orders = st.sampled_from(["last_first", "first_first"])


@st.composite
def tt_shapes(draw, *, min_d=2, max_d=4, max_dim=4, max_features=256, full_rank=False, feasible=True):
    """TT shapes, unit modes included. `feasible` ranks can all be filled by a decomposition."""
    d = draw(st.integers(min_d, max_d))
    out_dims = draw(st.lists(st.integers(1, max_dim), min_size=d, max_size=d).filter(lambda v: prod(v) <= max_features))
    in_dims = draw(st.lists(st.integers(1, max_dim), min_size=d, max_size=d).filter(lambda v: prod(v) <= max_features))
    ranks = [1]
    for k, cap in enumerate(rank_caps(out_dims, in_dims)):
        reachable = min(cap, ranks[k] * out_dims[k] * in_dims[k])
        if full_rank:
            ranks.append(reachable)
        else:
            ranks.append(draw(st.integers(1, reachable if feasible else 5)))
    return TTShape(tuple(out_dims), tuple(in_dims), (*ranks, 1))


@st.composite
def weights(draw, out_features, in_features):
    """Float32 matrices [out, in]: noise, of low rank, decaying, all zero, tiny or huge."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    noise = rng.standard_normal((out_features, in_features))
    kind = draw(st.sampled_from(["noise", "low rank", "decaying", "zero", "tiny", "huge"]))
    if kind == "low rank":
        noise = np.outer(noise[:, 0], noise[0])
    elif kind == "decaying":
        noise *= 0.5 ** np.arange(in_features).clip(max=60)
    scale = {"zero": 0.0, "tiny": 1e-30, "huge": 1e15}.get(kind, 1.0)
    return (noise * scale).astype(np.float32)


@st.composite
def cores(draw, shape):
    """Random float32 cores of `shape`."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return [rng.standard_normal(core).astype(np.float32) for core in shape.core_shapes]


@st.composite
def moments(draw, in_features):
    """Moments of layer inputs: plenty of rows or fewer than inputs, correlated, constant, partly or wholly zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    samples, held = draw(st.sampled_from([1, 3, 4 * in_features])), draw(st.sampled_from([0, 1, 12]))
    rows = rng.standard_normal((samples + held, in_features))
    kind = draw(st.sampled_from(["noise", "low rank", "positive", "dead inputs", "constant", "zero", "tiny", "huge"]))
    if kind == "low rank":
        rows = np.outer(rows[:, 0], rows[0])
    elif kind == "positive":
        rows = np.maximum(rows + 1.0, 0.0)
    elif kind == "dead inputs":
        rows[:, ::2] = 0.0
    elif kind == "constant":
        rows = np.repeat(rows[:1], len(rows), axis=0)
    rows *= {"zero": 0.0, "tiny": 1e-20, "huge": 1e15}.get(kind, 1.0)
    return moment_of(rows[:samples], held_out=rows[samples:])


@st.composite
def fc_layers(draw, *, max_features=64, max_batch=5):
    """FC layers, primes and ones included."""
    size = st.integers(1, max_features)
    return FcLayer("fc", draw(size), draw(size), draw(st.integers(1, max_batch)), draw(st.booleans()))


@st.composite
def candidates(draw):
    """Dense and TT candidates of small layers."""
    shape = draw(st.none() | tt_shapes(feasible=False))
    batch, bias = draw(st.integers(1, 5)), draw(st.booleans())
    if shape is None:
        return dense_candidate(draw(fc_layers()))
    layer = FcLayer("fc", shape.in_features, shape.out_features, batch, bias)
    return Candidate(layer, shape, order=draw(orders), threads=draw(st.integers(1, 4)))
