"""Apply choices to a model: decompose the weights of chosen layers and put their chains into the graph.

Owns the step from `schema.Candidate`s to a rewritten model, and the weight error it costs. The same choices,
seed and weights give the same model, so a plan can be made again from its record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from lrf_dse.models.model import Model
from lrf_dse.models.rewrite import KEPT, Replacement, rewrite
from lrf_dse.schema import Candidate, TTShape
from lrf_dse.tt.contraction import Cores, to_matrix
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.svd import get_decomposer

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class LayerCores:
    """The cores of one layer, the squared Frobenius error they make, and the squared norm of W."""

    cores: Cores
    squared_error: float
    squared_norm: float

    @property
    def relative_error(self) -> float:
        """||W - TT|| / ||W||; 0 for a layer of zeros."""
        return sqrt(self.squared_error / self.squared_norm) if self.squared_norm else 0.0


class Compressor:
    """Decomposes layers of one model, each (layer, shape, decomposer) once: finalists share most of their choices.

    `moments` are the statistics of the layers' inputs by layer name (`lrf_dse.models.calibrate`), for decomposers that
    need them.
    """

    def __init__(self, model: Model, *, seed: int, moments: Mapping[str, Moment] | None = None) -> None:
        self.model = model
        self.seed = seed
        self.moments: Mapping[str, Moment] = {} if moments is None else moments
        self._known: dict[tuple[str, TTShape, str], LayerCores] = {}

    def cores(self, candidate: Candidate) -> LayerCores:
        """The cores of a candidate that has a TT shape.

        Raises UsageError for a data-aware decomposer of a layer without a moment.
        """
        if candidate.tt_shape is None:
            raise ValueError(f"layer {candidate.layer.name} stays dense: it has no cores")
        key = (candidate.layer.name, candidate.tt_shape, candidate.decomposer)
        if key not in self._known:
            weight, _ = self.model.weights(candidate.layer.name)
            moment = self.moments.get(candidate.layer.name)
            cores = get_decomposer(candidate.decomposer, seed=self.seed).decompose(weight, candidate.tt_shape, moment)
            error = np.linalg.norm(weight - to_matrix(cores)) ** 2
            self._known[key] = LayerCores(cores, float(error), float(np.linalg.norm(weight) ** 2))
        return self._known[key]

    def squared_norm(self, layer_name: str) -> float:
        """||W||^2 of a layer."""
        return float(np.linalg.norm(self.model.weights(layer_name)[0]) ** 2)

    def apply(self, choices: Iterable[Candidate]) -> onnx.ModelProto:
        """The model with every choice in the place of its layer; dense layers get the layout that compiles best.

        A layer that no choice names is dense. The reference is made in the same way: it must be the strongest.
        """
        chosen = {choice.layer.name: choice for choice in choices if not choice.is_dense}
        replacements: dict[str, Replacement] = {
            name: Replacement(self.cores(choice).cores, choice.order) for name, choice in chosen.items()
        }
        stored_out_in = [name for name, site in self.model.sites.items() if not site.transposed]
        return rewrite(self.model, dict.fromkeys(stored_out_in, KEPT) | replacements)
