"""What the examples' networks were trained on, as their own scripts make it: disjoint from what judges them."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from lrf_dse.models.data import Dataset

EXAMPLES = Path(__file__).parents[2] / "examples"
SEED = 0


@cache
def script(name: str) -> ModuleType:
    """The module that trained an example: it knows how training data is made."""
    spec = importlib.util.spec_from_file_location(f"{name}_train", EXAMPLES / name / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def training_data(name: str, like: Dataset) -> Dataset:
    """The 8,000 digits that the network was trained on, as its own script makes them."""
    module = script(name)
    if name == "inpaint":
        images = module.load_digits(module.DIGITS)[: module.TRAIN]
        x, y = module.damaged(images, np.random.default_rng(SEED)), images.reshape(len(images), -1)
    else:
        path = EXAMPLES / "lenet300" / "mnist10k.npz"
        images, labels = module.load_digits(path)
        x = module.patches(images) if name == "patches" else images.reshape(len(images), -1)
        x, y = x[: module.TRAIN], labels[: module.TRAIN]
    (key,) = like.x
    digest = hashlib.sha256()
    for array in (x, y):
        digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return Dataset(EXAMPLES / name / "train.py", {key: x}, y, digest.hexdigest(), metric=like.metric)
