"""The state of a training run between two epochs, as one .npz file that is replaced atomically."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.finetune.graph import Constants
from lrf_dse.sealed import read_sealed, write_sealed

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """`digest` is of everything that was trained with; `epochs` are (number, loss, score) rows; `best` are weights."""

    digest: str
    training: dict[str, Array]
    best: Constants
    epochs: tuple[tuple[int, float, float], ...]


def save_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write `state` so that a reader sees it whole or not at all. Raises StoreError."""
    # An .npz holds arrays alone, so that the table of epochs is a text in an array.
    facts = json.dumps({"epochs": state.epochs})
    arrays: dict[str, Any] = {f"training/{name}": value for name, value in state.training.items()}
    arrays |= {f"best/{name}": value for name, value in state.best.values.items()}
    arrays |= {f"scales/{name}": value for name, value in state.best.scales.items()}
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array(facts), **arrays)
    # The digest is the key of the seal: the file of another training is as good as none.
    write_sealed(path, buffer.getvalue(), state.digest)


def load_checkpoint(path: Path, digest: str) -> Checkpoint | None:
    """The state in `path`; None if there is none, it is damaged, or it is of another training run."""
    content = read_sealed(path, digest)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    facts = json.loads(str(arrays.pop("facts")))
    return Checkpoint(
        digest,
        _of("training/", arrays),
        Constants(_of("best/", arrays), _of("scales/", arrays)),
        tuple((int(number), float(loss), float(score)) for number, loss, score in facts["epochs"]),
    )


def _of(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
