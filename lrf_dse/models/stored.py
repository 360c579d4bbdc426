"""The weights of a plan as bytes: what it needs to be made again with no data and no decomposer.

An .npz of plain arrays: the layers' names, "<k>.core<i>", "<k>.weight" and "<k>.bias_shift" of the k-th of them, and
"value.<name>" of every other constant that training changed. For a layer in few bits the codes of its factors are
"<k>.int8<i>" (or another storage), their scales "<k>.scales<i>". It is kept as a sealed file: one that is damaged, or
of another plan, is none.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lrf_dse.models.rewrite import Replacement
from lrf_dse.schema import Storage
from lrf_dse.sealed import read_sealed, write_sealed
from lrf_dse.tt.grid import Stored


@dataclass(frozen=True, eq=False)
class PlanWeights:
    """What takes the place of layers, and the other constants of the rewritten model that changed, by name."""

    replacements: Mapping[str, Replacement]
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def to_bytes(weights: PlanWeights) -> bytes:
    """The weights as an .npz; layers that stay as they are take no space."""
    replacements = weights.replacements
    # numpy makes each key a file name inside the .npz, and the name of a layer may hold any character: layers are
    # numbered.
    arrays: dict[str, NDArray[Any]] = {"names": np.array(list(replacements), str)}
    arrays |= {f"value.{name}": value for name, value in weights.values.items()}
    arrays["orders"] = np.array([replacement.order for replacement in replacements.values()], str)
    for k, replacement in enumerate(replacements.values()):
        for i, core in enumerate(replacement.cores or ()):
            arrays[f"{k}.core{i}"] = core
        for i, stored in enumerate(replacement.stored or ()):
            arrays[f"{k}.{stored.storage}{i}"] = stored.codes
            if stored.scales is not None:
                arrays[f"{k}.scales{i}"] = stored.scales
        for name in ("weight", "bias_shift"):
            array = getattr(replacement, name)
            if array is not None:
                arrays[f"{k}.{name}"] = array
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def save_weights(path: Path, weights: PlanWeights, key: str) -> None:
    """Write the weights of `key`, whole or not at all. Raises StoreError."""
    write_sealed(path, to_bytes(weights), key)


def find_weights(path: Path, key: str) -> PlanWeights | None:
    """The weights of `key` that `save_weights` wrote; None where the file is missing, damaged or of another key."""
    content = read_sealed(path, key)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    layers = zip(arrays["names"].tolist(), arrays["orders"].tolist(), strict=True)
    replacements = {name: _replacement(arrays, k, order) for k, (name, order) in enumerate(layers)}
    marked = {name: value for name, value in arrays.items() if name.startswith("value.")}
    return PlanWeights(replacements, {name.removeprefix("value."): value for name, value in marked.items()})


def _replacement(arrays: Mapping[str, NDArray[Any]], k: int, order: Any) -> Replacement:
    cores: list[NDArray[Any]] = []
    while f"{k}.core{len(cores)}" in arrays:
        cores.append(arrays[f"{k}.core{len(cores)}"])
    stored = list(_stored(arrays, k))
    weight, shift = arrays.get(f"{k}.weight"), arrays.get(f"{k}.bias_shift")
    return Replacement(cores or None, order, weight, shift, stored=stored or None)


def _stored(arrays: Mapping[str, NDArray[Any]], k: int) -> Iterator[Stored]:
    """What is stored for the factors of one layer in few bits; nothing for a layer in fp32."""
    for i in count():
        # The storage is a part of the key, because the factors of one layer may differ in it.
        storage = next((name for name in get_args(Storage) if f"{k}.{name}{i}" in arrays), None)
        if storage is None:
            return
        yield Stored(storage, arrays[f"{k}.{storage}{i}"], arrays.get(f"{k}.scales{i}"))
