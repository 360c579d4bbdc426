"""Damage to the files that hold weights, models, and what is cached: never taken for what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from damage.conftest import Rewrite
from damage.damages import AGAIN, HARMLESS, HEALED, REFUSED, SILENT, Tally, damage, seeded
from explored import open_run, tiny_model

from lrf_dse.builders.cache import cached
from lrf_dse.models.model import to_onnx
from lrf_dse.models.reader import read_model
from lrf_dse.models.stored import PlanWeights, find_weights, save_weights, to_bytes
from lrf_dse.pipeline.golden import GOLDEN_FILE, keep_golden
from lrf_dse.schema import Failure
from lrf_dse.tune.records import FileRecords

OfPath = Callable[[Path], Rewrite]


def same(first: PlanWeights, second: PlanWeights) -> bool:
    return to_bytes(first) == to_bytes(second)


def test_damaged_weights(mine: Path, count: int, tally: Tally, rewrite: OfPath) -> None:
    folder = mine / "run" / "weights"
    files = {path.stem: path.read_bytes() for path in folder.iterdir()}
    kept = {key: find_weights(folder / f"{key}.npz", key) for key in files}
    for source in seeded(count, seed=2):
        key = source.choice(sorted(files))
        path, original = folder / f"{key}.npz", kept[key]
        assert original is not None
        kind, left = damage(files[key], {k: v for k, v in files.items() if k != key}, source)
        rewrite(path)(left)

        def judge(path: Path = path, key: str = key, original: PlanWeights = original) -> str:
            found = find_weights(path, key)
            if found is not None:
                return HARMLESS if same(found, original) else SILENT
            save_weights(path, original, key)  # what `explore` does with weights that are not whole
            return AGAIN if path.read_bytes() == files[key] else SILENT

        tally.add(kind, judge)
        rewrite(path)(files[key])
    assert tally.by_outcome()[AGAIN] > 0.9 * count


def test_a_damaged_copy_of_the_model(mine: Path, count: int, tally: Tally, rewrite: OfPath) -> None:
    path = mine / "run" / "model.onnx"
    whole, count = path.read_bytes(), count // 4
    other = onnx.load(mine / "tiny.onnx")
    other.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.zeros((32, 64), np.float32), other.graph.initializer[0].name)
    )
    for source in seeded(count, seed=3):
        kind, left = damage(whole, {"another model": other.SerializeToString()}, source)
        rewrite(path)(left)

        def judge() -> str:
            run = open_run(mine / "run")
            model = run.model()
            if to_onnx(model).SerializeToString() != whole or path.read_bytes() != whole:
                return SILENT
            return HEALED if run.notes else HARMLESS

        tally.add(kind, judge)
        rewrite(path)(whole)
    assert tally.by_outcome()[HEALED] > 0.9 * count


def test_damaged_golden_inputs(mine: Path, tmp_path: Path, count: int, tally: Tally, rewrite: OfPath) -> None:
    path, run = mine / "run" / GOLDEN_FILE, open_run(mine / "run")
    whole, cases, count = path.read_bytes(), run.golden(), count // 4
    keep_golden(tmp_path / "other", read_model(tiny_model(tmp_path, seed=1)), None, seed=0)
    for source in seeded(count, seed=10):
        kind, left = damage(whole, {"another run's": (tmp_path / "other" / GOLDEN_FILE).read_bytes()}, source)
        rewrite(path)(left)

        def judge() -> str:
            return HARMLESS if np.array_equal(run.golden(), cases) else SILENT  # else it names the command

        tally.add(kind, judge)
        rewrite(path)(whole)
    assert tally.by_outcome()[REFUSED] > 0.9 * count


def test_damaged_kernel_records(tmp_path: Path, count: int, tally: Tally, rewrite: OfPath) -> None:
    records = FileRecords(tmp_path)
    outcomes = {f"kernel-{n:024x}": Failure("verify", f"reason {n}") for n in range(8)}
    for key, outcome in outcomes.items():
        records.put(key, outcome)
    files = {key: (tmp_path / f"{key}.json").read_bytes() for key in outcomes}
    for source in seeded(count, seed=4):
        key = source.choice(sorted(files))
        kind, left = damage(files[key], {k: v for k, v in files.items() if k != key}, source)
        rewrite(tmp_path / f"{key}.json")(left)

        def judge(key: str = key) -> str:
            found = records.get(key)
            if found is not None:
                return HARMLESS if found == outcomes[key] else SILENT
            records.put(key, outcomes[key])
            return AGAIN if records.get(key) == outcomes[key] else SILENT

        tally.add(kind, judge)
        rewrite(tmp_path / f"{key}.json")(files[key])
    assert tally.by_outcome()[AGAIN] > 0.9 * count


def test_damaged_objects_of_the_cache(tmp_path: Path, count: int, tally: Tally, rewrite: OfPath) -> None:
    contents = {f"{name}.o": bytes(range(256)) * 20 + name.encode() for name in ("main", "check", "pool")}
    made: list[str] = []

    def make(fresh: Path) -> None:
        made.append(fresh.name)
        fresh.write_bytes(contents[fresh.name])

    paths = {name: cached(tmp_path / "key" / name, make) for name in contents}
    files = {name: path.read_bytes() for name, path in paths.items()}
    made.clear()
    for source in seeded(count, seed=5):
        name = source.choice(sorted(files))
        kind, left = damage(files[name], {k: v for k, v in files.items() if k != name}, source)
        rewrite(paths[name])(left)

        def judge(name: str = name) -> str:
            made.clear()
            cached(paths[name], make)
            if paths[name].read_bytes() != files[name]:
                return SILENT
            return AGAIN if made else HARMLESS

        tally.add(kind, judge)
    assert tally.by_outcome()[AGAIN] > 0.9 * count
