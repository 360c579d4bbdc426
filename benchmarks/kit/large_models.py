"""Options of large models, as selection sees them: sizes and operations counted, losses made up.

A layer in plain low rank at evenly spaced ranks, or as one matrix, in every storage. It takes its operations at 8 a
cycle. What it loses falls with its rank and grows with a sensitivity of its own, drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lrf_dse.cost.counts import layer_count, stored_bytes
from lrf_dse.plan.options import LayerOption
from lrf_dse.schema import Candidate, FcLayer, Storage, TTShape, dense_candidate
from lrf_dse.tt.shapes import low_rank_dims

STORAGES: tuple[Storage, ...] = ("fp32", "fp16", "int8", "int4")
GRID_LOSS = {"fp32": 0.0, "fp16": 1e-4, "int8": 2e-3, "int4": 4e-2}
OPERATIONS_PER_CYCLE = 8.0

VGG16 = ((25088, 4096), (4096, 4096), (4096, 1000))
BERT_BASE = ((768, 768),) * 48 + ((768, 3072),) * 12 + ((3072, 768),) * 12
"""Inputs and outputs of the FC layers: of 12 blocks, query, key, value and output, and the two of the feed-forward."""


def layers_of(sizes: tuple[tuple[int, int], ...], ranks: int, *, seed: int = 0) -> list[list[LayerOption]]:
    """Options of layers of these sizes, at so many ranks; the dense one comes first."""
    rng = np.random.default_rng(seed)
    return [
        list(_options(FcLayer(f"fc{k}", inputs, outputs, 1, True), ranks, float(rng.lognormal(-2.0, 1.0)), rng))
        for k, (inputs, outputs) in enumerate(sizes)
    ]


def _options(layer: FcLayer, ranks: int, sensitivity: float, rng: np.random.Generator) -> Iterator[LayerOption]:
    most = layer.in_features * layer.out_features // (layer.in_features + layer.out_features)
    dims = low_rank_dims(layer.out_features, layer.in_features)
    shapes = [None, *(TTShape(*dims, (1, int(r), 1)) for r in np.linspace(most / ranks, most, ranks))]
    for shape in shapes:
        kept = 1.0 if shape is None else shape.ranks[1] / most
        tail = 0.0 if shape is None else 0.3 * (1 / kept - 1) ** 0.7 * float(rng.lognormal(0.0, 0.1))
        for storage in STORAGES:
            whole = dense_candidate(layer, "rvv")
            candidate = Candidate(layer, shape, kernel="rvv", storage=storage) if shape or storage != "fp32" else whole
            yield LayerOption(
                candidate,
                layer_count(candidate).flops / OPERATIONS_PER_CYCLE,
                float(stored_bytes(candidate)),
                4.0 * (layer.in_features + layer.out_features),
                sensitivity * (tail + GRID_LOSS[storage]),
            )
