"""Data files: what fits is taken as it is, and everything else is one clear line."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models.graphs import matmul_model, model, node, saved, values
from numpy.typing import NDArray
from onnx import TensorProto

from lrf_dse.errors import DataError
from lrf_dse.models.data import JUDGING_SHARES, SHARES, Dataset, few_rows, load_data, split
from lrf_dse.models.metrics import METRICS
from lrf_dse.models.model import Model
from lrf_dse.models.reader import read_model

LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])


@pytest.fixture
def fc(tmp_path: Path) -> Model:
    """x [1, 6] -> y [1, 4]."""
    return read_model(saved(matmul_model(), tmp_path))


def written(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def refusal(path: Path, read: Model) -> str:
    with pytest.raises(DataError) as caught:
        load_data(path, read)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_x_and_y(tmp_path: Path, fc: Model) -> None:
    path = written(tmp_path, x=values(8, 6), y=LABELS)
    data = load_data(path, fc)
    np.testing.assert_array_equal(data.x["x"], values(8, 6))
    assert data.y is not None
    assert data.y.dtype == np.int64
    assert data.y.tolist() == LABELS.tolist()
    assert (data.samples, data.part) == (8, "all")
    assert data.sha256 == load_data(path, fc).sha256
    written(tmp_path, x=values(8, 6, seed=1), y=LABELS)
    assert load_data(path, fc).sha256 != data.sha256


def test_labels_are_optional(tmp_path: Path, fc: Model) -> None:
    assert load_data(written(tmp_path, x=values(8, 6)), fc).y is None


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_floats_become_float32(tmp_path: Path, fc: Model, dtype: Any) -> None:
    x = values(8, 6).astype(dtype)
    data = load_data(written(tmp_path, x=x, y=LABELS), fc)
    np.testing.assert_array_equal(data.x["x"], x.astype(np.float32))


@pytest.mark.parametrize("y", [LABELS.astype(np.uint8), LABELS.astype(np.float32), LABELS[:, None]])
def test_labels_in_other_forms(tmp_path: Path, fc: Model, y: NDArray[Any]) -> None:
    data = load_data(written(tmp_path, x=values(8, 6), y=y), fc)
    assert data.y is not None
    assert data.y.tolist() == LABELS.tolist()


def with_value(value: float) -> NDArray[np.float32]:
    x = values(8, 6)
    x[5, 2] = value
    return x


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "other keys": ({"images": values(8, 6), "labels": LABELS}, ("images, labels", "wanted are x")),
    "an unknown key beside": ({"x": values(8, 6), "y": LABELS, "z": LABELS}, ("x, y, z", "no others")),
    "no arrays": ({}, ("none",)),
    "no x": ({"y": LABELS}, ("wanted are x",)),
    "flat where not": ({"x": values(48)}, ("[48]", "[n, 6]")),
    "too wide": ({"x": values(8, 7)}, ("[8, 7]", "[n, 6]")),
    "images": ({"x": values(8, 2, 3)}, ("[8, 2, 3]", "[n, 6]")),
    "a number": ({"x": np.float32(1)}, ("[]", "[n, 6]")),
    "empty": ({"x": values(0, 6)}, ("no samples",)),
    "empty with labels": ({"x": values(0, 6), "y": LABELS[:0]}, ("no samples",)),
    "bytes": ({"x": np.ones((8, 6), np.uint8)}, ("uint8", "float32", "/ 255")),
    "integers": ({"x": np.ones((8, 6), np.int64)}, ("int64", "float32")),
    "complex": ({"x": np.ones((8, 6), complex)}, ("complex128",)),
    "text": ({"x": np.full((8, 6), "a")}, ("<U1",)),
    "NaN": ({"x": with_value(np.nan)}, ("NaN or Inf in 1 of 8", "sample 5")),
    "Inf": ({"x": with_value(np.inf)}, ("NaN or Inf", "sample 5")),
    "too large for float32": ({"x": values(8, 6).astype(np.float64) * 1e300}, ("NaN or Inf",)),
    "fewer labels": ({"x": values(8, 6), "y": LABELS[:7]}, ("7 labels for 8 samples",)),
    "more labels": ({"x": values(7, 6), "y": LABELS}, ("8 labels for 7 samples",)),
    "label too large": ({"x": values(8, 6), "y": LABELS + 1}, ("label 4 of sample 3", "0 to 3")),
    "label below 0": ({"x": values(8, 6), "y": LABELS - 1}, ("label -1 of sample 0",)),
    "huge unsigned label": ({"x": values(8, 6), "y": LABELS.astype(np.uint64) + 2**63}, ("out of range",)),
    "one class": ({"x": values(8, 6), "y": np.full(8, 2)}, ("all labels are 2",)),
    "one-hot": ({"x": values(8, 6), "y": np.eye(8, 4)}, ("[8, 4]", "argmax")),
    "fractions": ({"x": values(8, 6), "y": LABELS + 0.5}, ("float64", "whole")),
    "NaN label": ({"x": values(8, 6), "y": np.where(LABELS == 1, np.nan, LABELS)}, ("float64", "whole")),
    "text labels": ({"x": values(8, 6), "y": LABELS.astype(str)}, ("whole",)),
    "a label of no shape": ({"x": values(8, 6), "y": np.int64(1)}, ("[]",)),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(tmp_path: Path, fc: Model, case: str) -> None:
    arrays, words = BAD[case]
    message = refusal(written(tmp_path, **arrays), fc)
    for word in words:
        assert word in message


def test_bad_files(tmp_path: Path, fc: Model) -> None:
    path = tmp_path / "data.npz"
    assert "no such file" in refusal(path, fc)
    for content in (b"", b"no zip", b"PK\x03\x04" + bytes(100), b"\x80\x04K\x01."):
        path.write_bytes(content)
        assert "not a valid .npz" in refusal(path, fc)
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    assert "no .npy files" in refusal(folder, fc)
    np.save(tmp_path / "x.npy", values(8, 6))
    assert "single .npy" in refusal(tmp_path / "x.npy", fc)


def test_damage_is_refused(tmp_path: Path, fc: Model) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=values(8, 6), y=LABELS)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in range(0, len(whole) - 1, 11):
        path.write_bytes(whole[:length])
        refusal(path, fc)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(0, len(whole))] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            load_data(path, fc)
        except DataError:
            continue


def npy_with(header: bytes) -> bytes:
    """A .npy file of 48 floats with that header."""
    padded = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + values(8, 6).tobytes()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (8, 6, }", "not a valid .npy file"),  # no such Python
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (8, 06), }", "not a valid .npy file"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (8, 6", "not a valid .npy file"),  # it ends too early
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 60, 6), }", "not a valid .npy file"),
        (
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 100000), }",
            "more data than there is memory",
        ),
    ],
)
def test_headers_that_numpy_cannot_read(tmp_path: Path, fc: Model, header: bytes, words: str) -> None:
    (tmp_path / "x.npy").write_bytes(npy_with(header))
    assert words in refusal(tmp_path, fc)


def test_damage_inside_a_member_of_any_compression(tmp_path: Path, fc: Model) -> None:
    inside = npy_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (8, 6), }")
    path = tmp_path / "data.npz"
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x.npy", inside)
        assert load_data(path, fc).samples == 8
        whole = path.read_bytes()
        for at in range(60, 100):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
            refusal(path, fc)


def test_pickled_arrays_are_refused_and_not_run(tmp_path: Path, fc: Model) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "it_ran",))

    path = written(tmp_path, x=np.array([Trap()], dtype=object))
    assert "pickled" in refusal(path, fc)
    assert not (tmp_path / "it_ran").exists()


def test_the_key_may_be_the_name_of_the_input(tmp_path: Path) -> None:
    proto = model(
        [node("MatMul", ["pixels", "w"], ["y"], "fc")],
        inputs={"pixels": (1, 6)},
        outputs={"y": (1, 4)},
        constants={"w": values(6, 4)},
    )
    read = read_model(saved(proto, tmp_path))
    for key in ("x", "pixels"):
        assert list(load_data(written(tmp_path, **{key: values(8, 6)}), read).x) == ["pixels"]
    assert "wanted are x" in refusal(written(tmp_path, pixel=values(8, 6)), read)
    assert "no others" in refusal(written(tmp_path, x=values(8, 6), pixels=values(8, 6)), read)


def two_inputs(folder: Path, names: tuple[str, str] = ("a", "b")) -> Model:
    proto = model(
        [node("Add", list(names), ["s"]), node("MatMul", ["s", "w"], ["out"], "fc")],
        inputs=dict.fromkeys(names, (2, 6)),
        outputs={"out": (2, 4)},
        constants={"w": values(6, 4)},
    )
    return read_model(saved(proto, folder))


def test_several_inputs(tmp_path: Path) -> None:
    read = two_inputs(tmp_path)
    data = load_data(written(tmp_path, a=values(8, 6), b=values(8, 6), y=LABELS), read)
    assert sorted(data.x) == ["a", "b"]
    assert "wanted are a, b" in refusal(written(tmp_path, x=values(8, 6), y=LABELS), read)
    message = refusal(written(tmp_path, a=values(8, 6), b=values(7, 6)), read)
    assert "'a': 8" in message
    assert "'b': 7" in message


def test_an_input_named_y_among_several_is_refused(tmp_path: Path) -> None:
    read = two_inputs(tmp_path, ("x", "y"))
    assert "'y'" in refusal(written(tmp_path, x=values(8, 6), y=values(8, 6)), read)


def test_integer_inputs(tmp_path: Path) -> None:
    nodes = [node("Gather", ["table", "ids"], ["h"]), node("MatMul", ["h", "w"], ["y"], "fc")]
    proto = model(
        nodes,
        inputs={"ids": (1, 3)},
        outputs={"y": (1, 3, 4)},
        constants={"table": values(5, 6), "w": values(6, 4)},
        input_type=TensorProto.INT32,
    )
    read = read_model(saved(proto, tmp_path))
    data = load_data(written(tmp_path, x=np.array([[0, 1, 2], [2, 3, 4]])), read)
    assert data.x["ids"].dtype == np.int32
    assert "do not fit" in refusal(written(tmp_path, x=np.full((2, 3), 2**40)), read)
    assert "float32" in refusal(written(tmp_path, x=values(2, 3)), read)
    message = refusal(written(tmp_path, x=np.zeros((2, 3), int), y=np.array([0, 1])), read)
    assert "[3, 4]" in message, "no accuracy without one score per class"
    tokens = load_data(written(tmp_path, x=np.zeros((2, 3), int), y=np.array([[0, 3, -1], [2, -1, -1]])), read)
    assert tokens.y is not None and tokens.y.tolist() == [[0, 3, -1], [2, -1, -1]], "padding stays"
    message = refusal(written(tmp_path, x=np.zeros((2, 3), int), y=np.array([[0, 4, -1], [2, -1, -1]])), read)
    assert "label 4 is out of range" in message


def test_a_model_without_a_batch_dimension(tmp_path: Path) -> None:
    read = read_model(saved(matmul_model(in_shape=(6,), out_shape=(4,)), tmp_path))
    assert read.batch is None
    data = load_data(written(tmp_path, x=values(8, 6), y=LABELS), read)
    assert data.samples == 8


def test_few_rows_are_a_warning(tmp_path: Path, fc: Model) -> None:
    (warning,) = few_rows(load_data(written(tmp_path, x=values(5, 6)), fc), fc)
    assert "5 samples" in warning
    assert "fc has 6" in warning
    tokens = read_model(saved(matmul_model(in_shape=(1, 3, 6), out_shape=(1, 3, 4)), tmp_path, "tokens.onnx"))
    data = load_data(written(tmp_path, x=values(2, 3, 6)), tokens)
    assert few_rows(data, tokens) == (), "three rows a sample are six rows"


@pytest.mark.parametrize("shares", [SHARES, JUDGING_SHARES], ids=["whole", "judging"])
def test_split_is_seeded_complete_and_disjoint(tmp_path: Path, fc: Model, shares: dict[str, float]) -> None:
    x = np.arange(540, dtype=np.float32).reshape(90, 6)
    data = load_data(written(tmp_path, x=x, y=np.arange(90) % 4), fc)
    parts = split(data, 1, shares)
    assert {name: part.samples for name, part in parts.items()} == pytest.approx(
        {name: 90 * share for name, share in shares.items()}, abs=3
    )
    assert {name: part.part for name, part in parts.items()} == {name: name for name in shares}
    rows = np.concatenate([part.x["x"][:, 0] for part in parts.values()])
    assert sorted(rows.tolist()) == x[:, 0].tolist()
    for part in parts.values():
        assert part.y is not None
        np.testing.assert_array_equal(part.y, (part.x["x"][:, 0] / 6) % 4)
    again = split(data, 1, shares)["test"]
    np.testing.assert_array_equal(again.x["x"], parts["test"].x["x"])
    assert split(data, 2, shares)["test"].x["x"].tolist() != again.x["x"].tolist()


def test_every_part_has_a_sample(tmp_path: Path, fc: Model) -> None:
    for samples in range(4, 9):
        parts = split(load_data(written(tmp_path, x=values(samples, 6)), fc), 0)
        assert sum(part.samples for part in parts.values()) == samples
        assert min(part.samples for part in parts.values()) >= 1
    with pytest.raises(DataError, match="3 samples cannot be split into calibration, validation, confirmation, test"):
        split(load_data(written(tmp_path, x=values(3, 6)), fc), 0)


def test_groups_stay_whole(tmp_path: Path, fc: Model) -> None:
    names = np.array([f"speaker {k}" for k in np.random.default_rng(0).integers(0, 12, 300)])
    data = load_data(written(tmp_path, x=values(300, 6), y=np.arange(300) % 4, groups=names), fc)
    parts = split(data, 3)
    seen = [set(part.groups.tolist()) for part in parts.values() if part.groups is not None]
    assert sum(map(len, seen)) == len(set[str]().union(*seen)) == 12
    for part in parts.values():
        assert len(set(part.units.tolist())) == len(set(part.groups.tolist()))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.arange(5), "wanted is one whole number or name for each of 8 samples"),
        (np.zeros((8, 2), int), "wanted is one whole number or name"),
        (np.linspace(0, 1, 8), "groups is float64"),
        (np.zeros(8, int), "one group only"),
        (np.arange(8) % 3, "8 samples in 3 groups cannot be split into calibration"),
    ],
)
def test_groups_that_make_no_sense_are_refused(tmp_path: Path, fc: Model, groups: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(load_data(written(tmp_path, x=values(8, 6), groups=groups), fc), 0)


def test_a_folder_of_arrays(tmp_path: Path) -> None:
    read = two_inputs(tmp_path)
    folder = tmp_path / "arrays"
    folder.mkdir()
    for name, array in {"a": values(8, 6), "b": values(8, 6, seed=1), "y": LABELS}.items():
        np.save(folder / f"{name}.npy", array)
    data = load_data(folder, read)
    np.testing.assert_array_equal(data.x["b"], values(8, 6, seed=1))
    assert data.y is not None and data.y.tolist() == LABELS.tolist()
    np.save(folder / "b.npy", values(8, 6, seed=2))
    assert load_data(folder, read).sha256 != data.sha256
    (folder / "a.npy").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"a\.npy: is not a valid \.npy file"):
        load_data(folder, read)


BATCHES = """
import numpy as np
X, Y = np.eye(6, dtype=np.float32), np.arange(6) % 4
def pairs():
    for k in range(3):
        yield X, Y
def for_ever():
    while True:
        yield {"x": np.zeros((30_000, 6), np.float32)}
def whole():
    return X
def broken():
    yield X[99]
def nothing():
    return []
"""


def test_a_function_that_yields_batches(tmp_path: Path, fc: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "batches_of_mine.py").write_text(BATCHES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def loaded(name: str) -> Dataset:
        return load_data(Path(f"batches_of_mine:{name}"), fc)

    data = loaded("pairs")
    assert data.samples == 18 and data.y is not None and data.y.tolist() == [0, 1, 2, 3, 0, 1] * 3
    assert (loaded("whole").samples, loaded("whole").y) == (6, None)
    assert loaded("for_ever").samples == 120_000, "enough is enough"
    assert loaded("whole").sha256 != data.sha256 == loaded("pairs").sha256
    for name, words in {
        "broken": "raised IndexError",
        "nothing": "yields no batches",
        "X": "is not a function",
        "missing": "cannot be loaded",
    }.items():
        with pytest.raises(DataError, match=f"batches_of_mine:{name}: {words}"):
            loaded(name)
    with pytest.raises(DataError, match="no_such_module:f: cannot be loaded"):
        load_data(Path("no_such_module:f"), fc)


@pytest.mark.parametrize(
    ("y", "metric"),
    [(None, "agreement"), (LABELS, "top1"), (values(8, 4, seed=5), "mse")],
)
def test_the_targets_decide_the_metric(tmp_path: Path, fc: Model, y: NDArray[Any] | None, metric: str) -> None:
    data = load_data(written(tmp_path, x=values(8, 6), **({} if y is None else {"y": y})), fc)
    assert data.metric is METRICS[metric]


def test_targets_that_the_metric_cannot_use(tmp_path: Path, fc: Model) -> None:
    path = written(tmp_path, x=values(8, 6), y=values(8, 5))
    with pytest.raises(DataError, match=r"metric mse compares it with the first output, \[4\] per sample"):
        load_data(path, fc, METRICS["mse"])
    with pytest.raises(DataError, match="has no labels y, which metric top1 needs"):
        load_data(written(tmp_path, x=values(8, 6)), fc, METRICS["top1"])
    assert load_data(written(tmp_path, x=values(8, 6), y=LABELS), fc, METRICS["agreement"]).y is not None


ONE = np.array([0, 1] * 4)


@pytest.mark.parametrize("y", [None, ONE, ONE.astype(bool), ONE.astype(np.float64), values(8, 1), ONE[:, None]])
def test_a_single_score_is_compared_as_a_number(tmp_path: Path, y: NDArray[Any] | None) -> None:
    """A wake word, an anomaly, a regression: there is no largest place among one."""
    model = read_model(saved(matmul_model(values(6, 1), out_shape=(1, 1)), tmp_path))
    data = load_data(written(tmp_path, x=values(8, 6), **({} if y is None else {"y": y})), model)
    assert data.metric is METRICS["mse"]
    assert y is None or (data.y is not None and data.y.dtype == np.float32)


@pytest.mark.parametrize(
    ("shape", "metric", "words"),
    [
        ((6, 1), "agreement", "it is one number per sample, and agreement needs at least 2 scores; use mse"),
        ((6, 1), "top1", "it is one number per sample, and top1 needs at least 2 scores; use mse"),
        ((6, 1), "cosine", "it is one number per sample, and cosine needs"),
        ((6, 4), "top5", r"it is \[4\] per sample, and top5 needs at least 6 scores; use mse"),
    ],
)
def test_a_metric_that_says_nothing_of_the_output_is_refused(
    tmp_path: Path, shape: tuple[int, int], metric: str, words: str
) -> None:
    model = read_model(saved(matmul_model(values(*shape), out_shape=(1, shape[1])), tmp_path))
    with pytest.raises(DataError, match=f"metric {metric} does not fit the model's first output 'y': {words}"):
        load_data(written(tmp_path, x=values(8, 6), y=ONE), model, METRICS[metric])


def test_data_that_does_not_judge_needs_no_targets_and_its_own_are_not_looked_at(tmp_path: Path, fc: Model) -> None:
    path = written(tmp_path, x=values(8, 6), y=np.full(3, np.nan))
    assert load_data(path, fc, judges=False).y is None


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((30, 8, 8, 3), r"numpy.transpose\(array, \(0, 3, 1, 2\)\), no reshape"),
        ((3, 8, 8), r"array\[numpy.newaxis\]"),
        ((30, 191), "is it data of another model"),
    ],
)
def test_a_wrong_shape_names_the_transpose_and_never_a_reshape(
    tmp_path: Path, shape: tuple[int, ...], words: str
) -> None:
    nodes = [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["y"], "fc")]
    proto = model(nodes, inputs={"x": (1, 3, 8, 8)}, outputs={"y": (1, 4)}, constants={"w": values(192, 4)})
    path = tmp_path / "data.npz"
    np.savez(path, x=values(*shape))
    with pytest.raises(DataError, match=words) as caught:
        load_data(path, read_model(saved(proto, tmp_path)))
    assert "reshape the array" not in str(caught.value)


def test_rows_of_samples_that_mix_are_no_samples(tmp_path: Path) -> None:
    """Axis 0 is a sequence: a softmax over it mixes its rows."""
    nodes = [node("MatMul", ["x", "w"], ["h"], "fc"), node("Softmax", ["h"], ["y"], axis=0)]
    proto = model(nodes, inputs={"x": (7, 1, 6)}, outputs={"y": (7, 1, 4)}, constants={"w": values(6, 4)})
    path = tmp_path / "data.npz"
    np.savez(path, x=values(147, 1, 6))
    with pytest.raises(DataError, match="one sample is a whole inference, which takes 7 such rows"):
        load_data(path, read_model(saved(proto, tmp_path)))
