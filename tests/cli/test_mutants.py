"""Broken model files through the command line and on to a judged model: refused in one line or right, no traceback.

`mutants` makes them from sound models. A few hundred here; thousands in `make soak`.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from explored import Done, command
from models.graphs import values
from mutants import mutant

from lrf_dse.cost.narrowing import Narrowing
from lrf_dse.cost.prune import prune
from lrf_dse.errors import LrfDseError
from lrf_dse.models.compress import Compressor
from lrf_dse.models.data import load_data, split
from lrf_dse.models.model import Model, TensorSpec, sample_shape
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.evaluation import Evaluation
from lrf_dse.pipeline.weights import Weights
from lrf_dse.store import Store
from lrf_dse.target import load_target
from lrf_dse.tt.spectra import layer_spectra

LIMIT_S = 60
"""No small model takes a second; beyond this it hangs, and every thread's stack is printed."""

BLOCK = 100
FOUND = (141, 245, 293, 716, 904, 1636, 1797, 2010, 3046, 7437)
"""Mutants that once ended in a traceback."""


@contextmanager
def no_hang() -> Iterator[None]:
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def layers(data: bytes, folder: Path) -> Done:
    """`lrf-dse layers` of a file with these bytes: done, or refused in one line."""
    path = folder / "mutant.onnx"
    path.write_bytes(data)
    with no_hang():
        done = command("layers", path)
    if done.code:
        assert (done.code, done.out) == (2, ""), done
        assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
        assert all(letter.isprintable() for letter in done.err.rstrip("\n")), done.err
    return done


def _samples(spec: TensorSpec, read: Model, count: int) -> np.ndarray:
    shape, dtype = (count, *sample_shape(spec, read.batch)), np.dtype(spec.dtype)
    return values(*shape).astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype)


def judged(path: Path, folder: Path) -> bool:
    """Whether an accepted model came through the first steps of an exploration: spaces, fits, a judged low-rank model.

    What it may be refused for is an LrfDseError. Anything else is a traceback for the user.
    """
    try:
        read = read_model(path)
        count = 40 * (read.batch or 1)
        arrays = {spec.name: _samples(spec, read, count) for spec in read.inputs}
        if sum(array.nbytes for array in arrays.values()) > 1 << 28:
            return False
        np.savez(folder / "data.npz", **({"x": arrays.popitem()[1]} if len(arrays) == 1 else arrays))
        parts = split(load_data(folder / "data.npz", read), 0)
        compressor = Compressor(read, seed=0, calibration=parts.pop("calibration"))
        target = load_target("spacemit-k1")
        with Store(folder / "run") as store:
            judged = Accuracies(Evaluation(Weights(compressor, folder / "run"), parts), store)
            judged.check_dense()
            choices = []
            for layer in read.fc_layers:
                spectra = layer_spectra(read.weights(layer.name)[0], seed=0)
                space = prune(
                    layer, spectra, target, Narrowing(1, depths=(2, 3), without=("whole vectors", "worth it"))
                )
                choices.append(space.survivors[0].candidate if space.survivors else space.dense.candidate)
            judged.accuracy(choices, "validation")
    except LrfDseError:
        return False
    return True


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once(seed: int, tmp_path: Path) -> None:
    through(range(seed, seed + 1), tmp_path)


def through(seeds: range, folder: Path) -> tuple[int, int]:
    """How many of the mutants were accepted, and how many of those judged."""
    accepted = came_through = 0
    for seed in seeds:
        if layers(mutant(seed), folder).code == 0:
            accepted += 1
            with no_hang():
                (folder / str(seed)).mkdir()
                came_through += judged(folder / "mutant.onnx", folder / str(seed))
    return accepted, came_through


def test_a_sample_of_mutants(tmp_path: Path) -> None:
    accepted, came_through = through(range(200), tmp_path)
    assert 5 <= accepted <= 150
    assert came_through >= 3


@pytest.mark.soak
@pytest.mark.parametrize("block", range(10_000 // BLOCK))
def test_many_mutants(block: int, tmp_path: Path) -> None:
    through(range(block * BLOCK, (block + 1) * BLOCK), tmp_path)
