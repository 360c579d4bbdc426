"""Golden inputs: what programs are verified on. Samples where there is data, kept in the run folder for exports."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from lrf_dse.jsonform import content_key
from lrf_dse.models.data import Dataset
from lrf_dse.models.model import Model
from lrf_dse.runners.job import Array
from lrf_dse.sealed import read_sealed, write_sealed

GOLDEN_FILE = "golden.npz"
GOLDEN_CASES = 4
"""Inferences that an export is verified on: weights that are wrong for one input in ten show on three of ten runs."""

Case = tuple[Array, ...]
"""Whole input tensors of one inference, in the model's order."""


def golden_cases(model: Model, data: Dataset | None, *, seed: int, count: int = GOLDEN_CASES) -> tuple[Case, ...]:
    """The inputs of `count` inferences: samples that spread over the data, the first one first, or random ones."""
    random = np.random.default_rng(seed)
    # Spread over the file: neighbouring samples may be alike.
    starts = [0] * count if data is None else [k * data.samples // count for k in range(count)]
    return tuple(_case(model, data, random, start) for start in starts)


def _case(model: Model, data: Dataset | None, random: np.random.Generator, start: int) -> Case:
    tensors: list[Array] = []
    for spec in model.inputs:
        if data is not None:
            samples = data.x[spec.name]
            # The samples that follow, from the beginning again at the end: a batch is full whatever the number of
            # samples.
            following = np.roll(samples, -start, axis=0)[: spec.shape[0]] if model.batch is not None else samples
            tensors.append(samples[start] if model.batch is None else np.resize(following, spec.shape))
        elif np.issubdtype(np.dtype(spec.dtype), np.floating):
            tensors.append(random.standard_normal(spec.shape).astype(spec.dtype))
        else:
            tensors.append(np.zeros(spec.shape, spec.dtype))  # an index or a mask: 0 is always in range
    return tuple(tensors)


def golden_key(model_sha256: str, data_sha256: str | None, *, seed: int) -> str:
    """Key of the golden inputs of an exploration: the cases are of its data, or random where it has none."""
    return content_key("golden", model=model_sha256, data=data_sha256, seed=seed, cases=GOLDEN_CASES)


def keep_golden(folder: Path, model: Model, data: Dataset | None, *, seed: int) -> None:
    """Write the golden inputs of an exploration into its run folder."""
    arrays: dict[str, Any] = {
        f"{case}.{index}": tensor
        for case, tensors in enumerate(golden_cases(model, data, seed=seed))
        for index, tensor in enumerate(tensors)
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    key = golden_key(model.sha256, None if data is None else data.sha256, seed=seed)
    write_sealed(folder / GOLDEN_FILE, buffer.getvalue(), key)


def kept_golden(folder: Path, key: str, *, inputs: int) -> tuple[Case, ...] | None:
    """The golden inputs of the run with that key, for a model of so many `inputs`; None where they are not whole."""
    content = read_sealed(folder / GOLDEN_FILE, key)
    if content is None:
        return None
    # allow_pickle=False: a run folder may come from someone else, and a pickle runs code.
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        cases = range(len(archive.files) // inputs)
        return tuple(tuple(archive[f"{case}.{i}"] for i in range(inputs)) for case in cases)
