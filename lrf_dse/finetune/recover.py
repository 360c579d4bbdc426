"""From the trained constants of a rewritten model back to the cores of its layers, so that any kernel can take them.

A rewritten graph holds cores as permuted matrices. Which element went where is asked of the rewriting itself, by giving
it cores that count; so this knows nothing of the forms that stages are written in. Factors in few bits come back as
codes and scales in the same way: the scale of an element went where the element went.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.models.compress import replaced
from lrf_dse.models.model import Model
from lrf_dse.models.rewrite import Replacement
from lrf_dse.models.values import constants
from lrf_dse.tt.contraction import stage_matrix
from lrf_dse.tt.grid import GROUP, Stored, codes_of, to_half

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]

_DIGIT_BITS = 20
"""Positions are counted in digits that float32 holds exactly."""


def recover(
    model: Model,
    replacements: Mapping[str, Replacement],
    trained: onnx.ModelProto,
    scales: Mapping[str, Array] = MappingProxyType({}),
) -> tuple[dict[str, Replacement], dict[str, Array]]:
    """The replacements with trained cores and weights, and the other trained constants by name.

    `trained` is `replaced(model, replacements)` with other values, and `replaced` with both results is `trained` again.
    `scales` are, for a constant that lies on a grid of int8 or int4, those of its elements, in its shape.
    """
    before, after = constants(replaced(model, replacements)), constants(trained)
    # What is left of this set after the loops below was trained and is no matrix of a layer: biases, norms, embeddings.
    changed = {name for name, value in after.items() if not np.array_equal(value, before[name])}
    found: dict[str, Replacement] = {}
    for layer, replacement in _written(replacements).items():
        shapes = shapes_of(model, layer, replacement)
        flat, steps = (np.zeros(sum(prod(shape) for shape in shapes), np.float32) for _ in range(2))
        for name, positions in positions_of(model, replacements, layer, before).items():
            flat[positions] = after[name]
            steps[positions] = scales.get(name, 0.0)
            changed.discard(name)
        found[layer] = _holding(replacement, _parts(flat, shapes))
        if replacement.stored is not None:
            stored = _stored_again(replacement.stored, _parts(flat, shapes), _parts(steps, shapes))
            found[layer] = replace(found[layer], stored=stored)
    for layer, (names, weight) in _kept(model, found, after).items():
        if changed.intersection(names):
            found[layer] = replace(replacements.get(layer, Replacement()), weight=weight)
            changed -= names
    return found, {name: after[name] for name in sorted(changed)}


def _written(replacements: Mapping[str, Replacement]) -> dict[str, Replacement]:
    """The layers whose matrix `replaced` writes anew; what others hold is a constant like any other."""
    return {name: made for name, made in replacements.items() if made.cores is not None or made.weight is not None}


def _kept(
    model: Model, written: Mapping[str, Replacement], after: Mapping[str, Array]
) -> dict[str, tuple[set[str], Array]]:
    """The constants that hold the matrices of the other layers, and what they hold now."""
    found = {}
    for layer, site in model.sites.items():
        if layer not in written:
            names = {str(use.node.inputs[use.weight_at].name) for use in site.uses}  # type: ignore[union-attr]
            first = site.uses[0]
            found[layer] = (names, first.read(after[str(first.node.inputs[first.weight_at].name)]))  # type: ignore[union-attr]
    return found


def shapes_of(model: Model, layer: str, replacement: Replacement) -> list[tuple[int, ...]]:
    """The shapes of what takes the place of `layer`: of its cores, or of its one weight [out, in]."""
    if replacement.cores is not None:
        return [core.shape for core in replacement.cores]
    site = model.site(layer).layer
    return [(site.out_features, site.in_features)]


def _holding(replacement: Replacement, parts: list[Array]) -> Replacement:
    """The same replacement with these cores, or this weight."""
    if replacement.cores is not None:
        return replace(replacement, cores=parts)
    return replace(replacement, weight=parts[0])


def _parts(flat: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    ends = np.cumsum([prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def positions_of(
    model: Model, replacements: Mapping[str, Replacement], layer: str, before: Mapping[str, Array]
) -> dict[str, NDArray[np.int64]]:
    """For every constant that holds elements of `layer`: which of its cores' elements, counted through, lies where.

    `before` are the constants of `replaced(model, replacements)`.
    """
    replacement = replacements[layer]
    shapes = shapes_of(model, layer, replacement)
    count = np.arange(sum(prod(shape) for shape in shapes), dtype=np.int64)
    found: dict[str, NDArray[np.int64]] = {}
    # float32 holds whole numbers up to 2^24; two digits of 20 bits count 2^40 elements.
    for shift in (0, _DIGIT_BITS):
        # One more than the digit: no constant is all zeros, and none of the layer's is as it was.
        digits = ((count >> shift) % (1 << _DIGIT_BITS) + 1).astype(np.float32)
        marked = constants(replaced(model, dict(replacements) | {layer: _holding(replacement, _parts(digits, shapes))}))
        for name, value in marked.items():
            if not np.array_equal(value, before[name]):
                found[name] = found.get(name, 0) + ((value.astype(np.int64) - 1) << shift)
    return found


def _stored_again(before: Sequence[Stored], values: Sequence[Array], scales: Sequence[Array]) -> tuple[Stored, ...]:
    """What is stored for cores, or one weight [out, in], whose `values` lie on grids of the storages of `before`.

    `scales` has the shapes of `values`: the scale of each element, of no meaning for fp16.
    """
    found = []
    for one, core, wide in zip(before, values, scales, strict=True):
        matrix, steps = (stage_matrix(a, "last_first") if a.ndim == 4 else a for a in (core, wide))
        if one.scales is None:
            found.append(Stored(one.storage, to_half(matrix)))
        else:
            # All elements of a group, or of a row for int8, have one scale: the first stands for it.
            own = steps[:, :: GROUP if one.storage == "int4" else matrix.shape[1]].astype(one.scales.dtype)
            found.append(Stored(one.storage, codes_of(matrix, steps, one.storage), own))
    return tuple(found)
