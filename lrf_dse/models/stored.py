"""The weights of a plan as bytes: what it needs to be made again with no data and no decomposer.

An .npz of plain arrays: the layers' names, "<k>.core<i>", "<k>.weight" and "<k>.bias_shift" of the k-th of them, and
"value.<name>" of every other constant that training changed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import StoreError
from lrf_dse.models.rewrite import Replacement


@dataclass(frozen=True, eq=False)
class PlanWeights:
    """What takes the place of layers, and the other constants of the rewritten model that changed, by name."""

    replacements: Mapping[str, Replacement]
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def to_bytes(weights: PlanWeights) -> bytes:
    """The weights as an .npz; layers that stay as they are take no space."""
    replacements = weights.replacements
    arrays: dict[str, NDArray[Any]] = {"names": np.array(list(replacements), str)}
    arrays |= {f"value.{name}": value for name, value in weights.values.items()}
    arrays["orders"] = np.array([replacement.order for replacement in replacements.values()], str)
    for k, replacement in enumerate(replacements.values()):
        for i, core in enumerate(replacement.cores or ()):
            arrays[f"{k}.core{i}"] = core
        for name in ("weight", "bias_shift"):
            array = getattr(replacement, name)
            if array is not None:
                arrays[f"{k}.{name}"] = array
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_weights(path: Path) -> PlanWeights:
    """Inverse of `to_bytes`. Raises StoreError for a file that is missing or damaged."""
    try:
        # numpy forgets to close a file that turns out not to be a zip archive: open it here.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        layers = zip(arrays["names"].tolist(), arrays["orders"].tolist(), strict=True)
        replacements = {name: _replacement(arrays, k, order) for k, (name, order) in enumerate(layers)}
    except (OSError, BadZipFile, ValueError, KeyError, EOFError) as error:
        raise StoreError(f"{path}: the weights of a plan cannot be read; run `lrf-dse explore` again") from error
    marked = {key: value for key, value in arrays.items() if key.startswith("value.")}
    return PlanWeights(replacements, {key.removeprefix("value."): value for key, value in marked.items()})


def _replacement(arrays: Mapping[str, NDArray[Any]], k: int, order: Any) -> Replacement:
    cores: list[NDArray[Any]] = []
    while f"{k}.core{len(cores)}" in arrays:
        cores.append(arrays[f"{k}.core{len(cores)}"])
    return Replacement(cores or None, order, arrays.get(f"{k}.weight"), arrays.get(f"{k}.bias_shift"))
