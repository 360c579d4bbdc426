"""A bundle of the tiny exploration: whole, true to its manifest, and running as its README says."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from explored import SIZES, command, copy_of, open_run, tiny_data, tiny_model, tiny_run
from numpy.typing import NDArray

from lrf_dse.builders.elf import R_RISCV_RELATIVE, parse_elf, read_elf
from lrf_dse.deploy.board import read_bundle
from lrf_dse.deploy.bundle import BundleRequest
from lrf_dse.deploy.instructions import bundle_readme
from lrf_dse.errors import UsageError
from lrf_dse.models.data import Dataset, load_data, split
from lrf_dse.models.evaluate import first_output, outputs, run_once
from lrf_dse.models.reader import read_model
from lrf_dse.runners.job import Job
from lrf_dse.runners.runner import runner_for
from lrf_dse.schema import Failure, Measurement, Plan
from lrf_dse.store import Store
from lrf_dse.target import load_target

FILES = {"model.onnx", "model.vmfb", "model-riscv64", "manifest.json", "SHA256SUMS", "README", "golden"}
QEMU = ["qemu-riscv64", "-cpu"]


@dataclass(frozen=True)
class Bundle:
    """An exported bundle with what the run says of its plan."""

    folder: Path
    plan: Plan
    manifest: Mapping[str, Any]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished exploration for spacemit-k1; not to be changed."""
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="session", params=["spacemit-k1", "qemu-rv64gcv"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of a compressed plan, exported by the command with a relative -o; not to be changed."""
    run = tiny_run(tmp_path_factory, request.param) / "run"
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    compressed = next(plan for plan in open_run(run).info.plans if not plan.is_dense)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        done = command("export", run, "--pick", compressed.id, "-o", "bundle", "--json")
    assert (done.code, done.err) == (0, "")
    return Bundle(folder, compressed, json.loads(done.out))


def qemu(folder: Path, *words: str | Path, cpu: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program under plain QEMU, without our plugin."""
    chip = cpu or load_target(json.loads((folder / "manifest.json").read_text())["target"]["name"]).qemu.cpu
    line = [*QEMU, chip, *map(str, words)]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def ort(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """onnxruntime's answer for one inference."""
    (y,) = run_once(model, [x])
    return np.asarray(y, np.float32)


def assert_close(got: NDArray[np.float32], want: NDArray[np.float32]) -> None:
    """Within 1e-4 of max |y|."""
    assert np.abs(want).max() > 0
    assert np.abs(got.reshape(want.shape) - want).max() <= 1e-4 * np.abs(want).max()


def top1(model: onnx.ModelProto, data: Dataset) -> float:
    """Percent of labels at the largest score: by numpy, not by the tool's own metric."""
    assert data.y is not None
    return 100 * float(np.mean(first_output(model, data).argmax(axis=1) == data.y))


def image_in(module: bytes) -> bytes:
    """The one ELF file inside a .vmfb, to the end of its section headers, which lld writes last."""
    starts = [found.start() for found in re.finditer(b"\x7fELF\x02\x01", module)]
    assert len(starts) == 1
    data = module[starts[0] :]
    (section_table,) = struct.unpack_from("<Q", data, 40)
    entry_size, count = struct.unpack_from("<HH", data, 58)
    return data[: section_table + entry_size * count]


def test_files_and_manifest(bundle: Bundle) -> None:
    assert {path.name for path in bundle.folder.iterdir()} == FILES, "and no scratch folder"
    manifest = json.loads((bundle.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest == bundle.manifest
    assert set(manifest["files"]) == FILES - {"manifest.json", "SHA256SUMS", "README", "golden"} | {
        "golden/input0.bin",
        "golden/output0.bin",
    }
    for name, facts in manifest["files"].items():
        content = (bundle.folder / name).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    listed = {name for name in FILES if (bundle.folder / name).is_file()} - {"manifest.json", "SHA256SUMS"}
    sums = (bundle.folder / "SHA256SUMS").read_text()
    assert {line.split("  ")[1] for line in sums.splitlines()} == listed | {"golden/input0.bin", "golden/output0.bin"}
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=bundle.folder, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    target = load_target(manifest["target"]["name"])
    assert (manifest["target"]["isa"], manifest["target"]["vlen_bits"]) == (target.isa.march, target.isa.vlen_bits)
    assert manifest["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, SIZES[0]]}]
    assert manifest["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, SIZES[-1]]}]
    versions = manifest["tool_versions"]
    assert versions.keys() == {"iree", "zig", "host", "lrf-dse", "onnxruntime"}
    assert {name: versions[name] for name in ("lrf-dse", "onnxruntime")} == {
        name: importlib.metadata.version(name) for name in ("lrf-dse", "onnxruntime")
    }


def test_the_manifest_says_what_the_run_said(bundle: Bundle) -> None:
    plan, manifest = bundle.plan, bundle.manifest
    assert manifest["plan"] == plan.id
    assert manifest["choices"] == {choice.layer.name: choice.label for choice in plan.choices}
    assert (manifest["flash_bytes"], manifest["ram_bytes"]) == (plan.flash_bytes, plan.ram_bytes)
    latency = manifest["latency"]
    assert latency == {
        "cycles": plan.cycles,
        "source": plan.latency_source,
        "instructions": plan.instructions,
    }
    assert manifest["accuracy"]["validation"] == plan.accuracy
    assert manifest["accuracy"]["test"] == plan.test_accuracy
    verified = manifest["verified"]
    assert 0 <= verified["max_rel_error"] < 1e-4
    assert (verified["inputs"], verified["of"]) == (4, "samples of the data")


def test_model_onnx_is_valid_and_as_accurate_as_it_says(bundle: Bundle, finished: Path) -> None:
    proto = onnx.load(bundle.folder / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    dense = onnx.load(finished / "tiny.onnx")
    weights = [sum(tensor.ByteSize() for tensor in each.graph.initializer) for each in (proto, dense)]
    assert weights[0] < weights[1], "it is compressed"
    x = np.fromfile(bundle.folder / "golden/input0.bin", "<f4").reshape(1, -1)
    want = np.fromfile(bundle.folder / "golden/output0.bin", "<f4").reshape(1, -1)
    np.testing.assert_array_equal(ort(proto, x), want)
    np.testing.assert_array_equal(x, np.load(finished / "tiny.npz")["x"][:1])
    parts = split(load_data(finished / "tiny.npz", read_model(finished / "tiny.onnx")), 0)
    assert top1(proto, parts["validation"]) == pytest.approx(bundle.plan.accuracy)
    assert top1(proto, parts["test"]) == pytest.approx(bundle.plan.test_accuracy)


def test_the_readme_s_own_commands_give_onnxruntime_s_answer(bundle: Bundle, tmp_path: Path) -> None:
    """Those that run the program; copying it to a board and logging in there are left out."""
    board = tmp_path / "board"
    shutil.copytree(bundle.folder, board)
    text = (board / "README").read_text(encoding="utf-8")
    commands = re.findall(r"\./model-riscv64 [^'\n]+", text)
    assert len(commands) == 2
    for line in commands:
        done = qemu(board, *shlex.split(line))
        assert (done.returncode, done.stderr) == (0, "")
    x = np.fromfile(board / "golden/input0.bin", "<f4").reshape(1, -1)
    assert_close(np.fromfile(board / "output0.bin", "<f4"), ort(onnx.load(board / "model.onnx"), x))
    assert f"top1 {bundle.plan.accuracy:.2f} % on " in text
    assert str(bundle.manifest["target"]["vlen_bits"]) in text


def test_the_readme_says_what_its_figure_is(bundle: Bundle) -> None:
    """A small error is no percentage, and is not rounded away."""
    error = {"metric": "mse", "unit": "", "validation": 0.012345, "test": 0.5}
    samples = {"validation_samples": 30, "test_samples": 40}
    drop = {"test_drop_points": 25.0, "drop_unit": "% of the dense model's"}
    text = bundle_readme(bundle.manifest | {"accuracy": error | samples | drop})
    assert "Expected accuracy: mse 0.01235 on 30 validation samples, 0.5 on 40 test samples\n" in text
    assert "(drop from the dense model on the latter: 25.00 % of the dense model's)." in text


@pytest.mark.parametrize("tolerance", [1e-4, 1e-2])
def test_the_readme_names_the_limit_of_its_own_program(bundle: Bundle, tolerance: float) -> None:
    """Wider where layers compute in half precision."""
    text = bundle_readme(bundle.manifest | {"tolerance": tolerance})
    assert f"--check allows {tolerance:.0e}, else exit code 5.\n" in text


def test_the_readme_s_check_can_fail(bundle: Bundle, tmp_path: Path) -> None:
    expected = np.fromfile(bundle.folder / "golden/output0.bin", "<f4")
    expected[3] += 3e-4 * np.abs(expected).max()
    expected.tofile(tmp_path / "wrong.bin")
    done = qemu(bundle.folder, "./model-riscv64", "--check", "golden/input0.bin", tmp_path / "wrong.bin")
    assert done.returncode == 5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_expected_value_that_is_not_finite_is_wrong(bundle: Bundle, tmp_path: Path, value: float) -> None:
    expected = np.fromfile(bundle.folder / "golden/output0.bin", "<f4")
    for filled in (np.where(np.arange(expected.size) == 3, value, expected), np.full_like(expected, value)):
        filled.astype("<f4").tofile(tmp_path / "odd.bin")
        done = qemu(bundle.folder, "./model-riscv64", "--check", "golden/input0.bin", tmp_path / "odd.bin")
        assert (done.returncode, done.stdout.split(":")[0]) == (5, "WRONG")


CHECK = ("./model-riscv64", "--check", "golden/input0.bin", "golden/output0.bin")


@pytest.mark.parametrize("name", sorted(FILES - {"golden"} | {"golden/input0.bin", "golden/output0.bin"}))
def test_the_check_covers_every_file_of_the_bundle(bundle: Bundle, tmp_path: Path, name: str) -> None:
    mine = shutil.copytree(bundle.folder, tmp_path / "bundle")
    cpu = load_target(bundle.manifest["target"]["name"]).qemu.cpu
    whole = (mine / name).read_bytes()
    changed = bytearray(whole)
    changed[-10] ^= 4  # of the program: behind its segments, where only a digest sees it
    short = [] if name == "model-riscv64" else [whole[:-1], whole[: len(whole) // 2], b""]
    for damaged in (bytes(changed), *short):
        (mine / name).write_bytes(damaged)
        done = qemu(mine, *CHECK, cpu=cpu)
        assert (done.returncode, done.stdout) == (4, ""), damaged[:99]
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert f"{name} " in done.stderr and "the bundle is damaged" in done.stderr
        with pytest.raises(UsageError, match=rf"{name}: "):
            read_bundle(mine)
    if name != "model-riscv64":
        (mine / name).unlink()
        done = qemu(mine, *CHECK, cpu=cpu)
        assert (done.returncode, f"{name} cannot be read" in done.stderr) == (4, True)
    (mine / name).write_bytes(whole)
    assert qemu(mine, *CHECK, cpu=cpu).returncode == 0
    assert read_bundle(mine).facts.plan == "p1"


def test_files_of_another_bundle_are_not_this_one_s(bundle: Bundle, finished: Path, tmp_path: Path) -> None:
    mine, other = shutil.copytree(bundle.folder, tmp_path / "bundle"), tmp_path / "other"
    assert command("export", finished / "run", "--pick", "dense", "-o", other).code == 0
    cpu = load_target(bundle.manifest["target"]["name"]).qemu.cpu
    (mine / "SHA256SUMS").write_bytes((mine / "golden" / "output0.bin").read_bytes())  # the manifest has its digest
    assert qemu(mine, *CHECK, cpu=cpu).returncode == 4
    shutil.copyfile(bundle.folder / "SHA256SUMS", mine / "SHA256SUMS")
    for names in (["manifest.json"], ["SHA256SUMS"], ["model.vmfb"], ["model.onnx", "README"]):
        for name in names:
            shutil.copyfile(other / name, mine / name)
        assert qemu(mine, *CHECK, cpu=cpu).returncode == 4
        with pytest.raises(UsageError, match="export the bundle again"):
            read_bundle(mine)
        for name in names:
            shutil.copyfile(bundle.folder / name, mine / name)


def test_the_program_is_right_on_other_inputs(bundle: Bundle, tmp_path: Path) -> None:
    proto = onnx.load(bundle.folder / "model.onnx")
    random = np.random.default_rng(5)
    cases = [np.zeros((1, SIZES[0])), 1e3 * random.normal(size=(1, SIZES[0])), np.eye(1, SIZES[0], 63)]
    for case in cases:
        x = case.astype("<f4")
        x.tofile(tmp_path / "in.bin")
        done = qemu(bundle.folder, "./model-riscv64", tmp_path / "in.bin", tmp_path / "out.bin")
        assert (done.returncode, done.stderr) == (0, "")
        assert_close(np.fromfile(tmp_path / "out.bin", "<f4"), ort(proto, x))


def test_program_and_module_hold_the_same_kernel_image(bundle: Bundle) -> None:
    image = image_in((bundle.folder / "model.vmfb").read_bytes())
    assert image in (bundle.folder / "model-riscv64").read_bytes()
    elf = parse_elf(image)
    assert elf.machine == 243
    assert set(elf.relocation_types) <= {R_RISCV_RELATIVE}
    assert elf.relocation_types, "a table of functions needs some"
    assert elf.undefined_symbols == ()
    program = read_elf(bundle.folder / "model-riscv64")
    assert (program.undefined_symbols, program.relocation_types) == ((), ()), "static"
    assert program.flash_bytes == bundle.manifest["flash_bytes"]


@pytest.mark.parametrize(
    "cpu",
    ["rv64,v=true,vlen=128,elen=64,vext_spec=v1.0", "rv64"],
    ids=["VLEN 128", "no vector unit"],
)
def test_short_vectors_are_refused(bundle: Bundle, tmp_path: Path, cpu: str) -> None:
    done = qemu(bundle.folder, "./model-riscv64", "golden/input0.bin", tmp_path / "out.bin", cpu=cpu)
    has_bits = 128 if "vlen=128" in cpu else 0
    if has_bits >= bundle.manifest["target"]["vlen_bits"]:
        assert done.returncode == 0
        return
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert str(bundle.manifest["target"]["vlen_bits"]) in done.stderr and f" {has_bits}" in done.stderr
    assert not (tmp_path / "out.bin").exists()


@pytest.mark.parametrize("change", ["short", "long", "empty", "missing", "no output", "unwritable"])
def test_wrong_files_are_refused(bundle: Bundle, tmp_path: Path, change: str) -> None:
    data = (bundle.folder / "golden/input0.bin").read_bytes()
    content = {"short": data[:-1], "long": data + b"\0", "empty": b""}.get(change, data)
    (tmp_path / "in.bin").write_bytes(content)
    source = tmp_path / ("none.bin" if change == "missing" else "in.bin")
    out = tmp_path / ("none/out.bin" if change == "unwritable" else "out.bin")
    done = qemu(bundle.folder, "./model-riscv64", source, *([] if change == "no output" else [out]))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    named = {"no output": "1 inputs, 1 outputs", "unwritable": str(out)}.get(change, str(source))
    assert named in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("pick", ["fastest", "smallest", "least-ram", "most-accurate", "knee", "dense", "p2", None])
def test_every_pick_ships_the_plan_it_names(
    finished: Path, tmp_path: Path, pick: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[BundleRequest] = []

    def remember(request: BundleRequest, out: Path) -> dict[str, Any]:
        asked.append(request)
        return {"plan": request.plan.id}

    monkeypatch.setattr("lrf_dse.pipeline.export.write_bundle", remember)
    options = [] if pick is None else ["--pick", pick]
    done = command("export", finished / "run", *options, "-o", tmp_path / "bundle", "--json")
    assert (done.code, done.err) == (0, "")
    run = open_run(finished / "run")
    (request,) = asked
    assert request.plan == run.plan(pick)
    validation = split(load_data(finished / "tiny.npz", read_model(finished / "tiny.onnx")), 0)["validation"]
    assert top1(request.model, validation) == pytest.approx(request.plan.accuracy)


def test_an_unknown_pick_names_the_known_ones(finished: Path, tmp_path: Path) -> None:
    done = command("export", finished / "run", "--pick", "p99", "-o", tmp_path / "bundle")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: unknown pick 'p99'") and done.err.count("\n") == 1
    assert "fastest, smallest, least-ram" in done.err and "dense, p1" in done.err
    assert not (tmp_path / "bundle").exists()


def test_exporting_again_replaces_the_whole_bundle(bundle: Bundle, finished: Path, tmp_path: Path) -> None:
    mine = tmp_path / "bundle"
    shutil.copytree(bundle.folder, mine)
    (mine / "golden" / "input7.bin").write_bytes(b"of another model")
    (mine / ".building-killed").mkdir()
    (mine / "notes.txt").write_text("the user's own")
    done = command("export", finished / "run", "--pick", "dense", "-o", mine)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("plan dense (fc0: dense, fc1: dense)\n")
    assert done.out.endswith(f"bundle: {mine}\n")
    assert {path.name for path in mine.iterdir()} == FILES | {"notes.txt"}
    assert {path.name for path in (mine / "golden").iterdir()} == {"input0.bin", "output0.bin"}
    manifest = json.loads((mine / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["plan"] == "dense"
    for name, facts in manifest["files"].items():
        assert hashlib.sha256((mine / name).read_bytes()).hexdigest() == facts["sha256"]
    assert manifest["files"]["model.onnx"] != bundle.manifest["files"]["model.onnx"]


@pytest.mark.parametrize("wrong", [1, 3])
def test_a_plan_that_fails_on_any_golden_input_leaves_the_old_bundle_alone(
    bundle: Bundle, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    runs: list[Job] = []

    class Broken:
        def run(self, job: Job) -> Measurement | Failure:
            runs.append(job)
            return runner_for(None).run(job) if len(runs) < wrong else Failure("verify", "output 0 differs")

    mine = tmp_path / "bundle"
    shutil.copytree(bundle.folder, mine)
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    monkeypatch.setattr("lrf_dse.deploy.bundle.runner_for", lambda _: Broken())
    done = command("export", finished / "run", "--pick", "p1", "-o", mine)
    assert (done.code, done.out) == (2, "")
    said = f"on golden input {wrong} it fails at stage verify: output 0 differs"
    assert done.err == f"error: plan p1 is not shipped: {said}\n"
    assert len({job.inputs[0].tobytes() for job in runs}) == wrong
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before


def test_an_export_that_breaks_off_is_no_bundle_until_it_is_repeated(
    bundle: Bundle, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "bundle"
    shutil.copytree(bundle.folder, mine)
    move = Path.replace

    def break_off(source: Path, target: Path) -> Path:
        if target == mine / "model.vmfb":
            raise OSError(5, "Input/output error")
        return move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", break_off)
        done = command("export", finished / "run", "--pick", "dense", "-o", mine)
    assert (done.code, done.out) == (2, "")
    assert f"{mine}: cannot write the bundle: Input/output error" in done.err and done.err.count("\n") == 1
    assert not (mine / "manifest.json").exists(), "no manifest speaks of files of two plans"
    assert command("export", finished / "run", "--pick", "dense", "-o", mine).code == 0
    assert {path.name for path in mine.iterdir()} == FILES


def test_other_files_are_not_overwritten(mine: Path) -> None:
    """The run's own folder has a model.onnx: exporting over it would be the end of the run."""
    before = (mine / "run" / "model.onnx").read_bytes()
    done = command("export", mine / "run", "--pick", "p1", "-o", mine / "run")
    assert (done.code, done.out) == (2, "")
    assert str(mine / "run") in done.err and "choose another -o" in done.err and done.err.count("\n") == 1
    assert (mine / "run" / "model.onnx").read_bytes() == before


@pytest.mark.parametrize("where", ["tiny.npz", "tiny.npz/below", "/proc/lrf-dse"])
def test_a_folder_that_cannot_be_written(mine: Path, where: str) -> None:
    out = mine / where
    done = command("export", mine / "run", "--pick", "p1", "-o", out)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {out}: cannot write the bundle: ") and done.err.count("\n") == 1
    assert "choose another -o" in done.err


def test_the_run_s_model_is_taken_again_from_the_original(mine: Path) -> None:
    copy = mine / "run" / "model.onnx"
    whole = copy.read_bytes()
    proto = onnx.load(copy)
    weights = bytearray(proto.graph.initializer[0].raw_data)
    weights[2] ^= 64
    proto.graph.initializer[0].raw_data = bytes(weights)
    for damaged in (proto.SerializeToString(), whole[:-7], None):
        copy.unlink() if damaged is None else copy.write_bytes(damaged)
        done = command("export", mine / "run", "--pick", "p1", "-o", mine / "bundle", "--json")
        assert done.code == 0
        assert "model.onnx: was not the model that was explored; taken again from" in done.err
        assert done.err.startswith("warning: ") and done.err.count("\n") == 1
        assert copy.read_bytes() == whole
    assert read_bundle(mine / "bundle").facts.plan == "p1"


def test_a_model_that_is_not_the_run_s_is_not_shipped(tmp_path: Path, finished: Path) -> None:
    """Neither the copy nor the original is what was judged: one line, and putting the model back heals it."""
    mine = copy_of(finished, tmp_path)
    with Store(mine / "run") as store:
        facts = store.get("run")
        assert facts is not None
        store.put("run", "run", facts | {"model_path": str(mine / "tiny.onnx")})
    original = (mine / "tiny.onnx").read_bytes()
    (mine / "run" / "model.onnx").write_bytes(b"")
    tiny_model(mine, seed=1)
    done = command("export", mine / "run", "-o", mine / "bundle")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"{mine / 'run' / 'model.onnx'}: not the model that was explored" in done.err
    assert facts["model_sha256"] in done.err and not (mine / "bundle").exists()
    (mine / "tiny.onnx").write_bytes(original)
    assert command("export", mine / "run", "-o", mine / "bundle").code == 0


def test_a_folder_of_the_user_is_not_made_a_bundle(finished: Path, tmp_path: Path) -> None:
    """manifest.json is a common name."""
    for name in ("manifest.json", "notes.txt", "SHA256SUMS"):
        out = tmp_path / name.lower()
        out.mkdir()
        (out / name).write_text("{}")
        done = command("export", finished / "run", "--pick", "p1", "-o", out)
        assert (done.code, done.out) == (2, "")
        assert f"{out}: holds {name} and is no bundle; choose another -o" in done.err
        assert [path.name for path in out.iterdir()] == [name]


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished exploration that may be changed."""
    return copy_of(finished, tmp_path)


def test_a_batch_goes_through_to_the_program(tmp_path: Path) -> None:
    """A model of dynamic batch, explored for two rows without data: the bundle takes two rows."""
    tiny_model(tmp_path, batch="N")
    arguments = ["explore", tmp_path / "tiny.onnx", "--target", "spacemit-k1", "--batch", 2, "--quiet"]
    few = ["--top", 1, "--tune", 1, "--bits", "fp32"]
    assert command(*arguments, *few, "-o", tmp_path / "run").code == 0
    done = command("export", tmp_path / "run", "--pick", "p1", "--json")
    assert (done.code, done.err) == (0, "")
    manifest = json.loads(done.out)
    assert manifest["inputs"][0]["shape"] == [2, SIZES[0]]
    assert manifest["accuracy"] == {}
    folder = tmp_path / "run" / "bundle"
    assert "unknown" in (folder / "README").read_text(encoding="utf-8")
    assert qemu(folder, "./model-riscv64", "golden/input0.bin", tmp_path / "out.bin").returncode == 0
    x = np.fromfile(folder / "golden/input0.bin", "<f4").reshape(2, -1)
    proto = onnx.load(folder / "model.onnx")
    assert_close(np.fromfile(tmp_path / "out.bin", "<f4"), ort(proto, x))
    data = tiny_data(tmp_path)
    with np.load(data) as arrays:
        assert outputs(proto, {"x": arrays["x"]})["y"].shape == (len(arrays["x"]), SIZES[-1])


def test_model_onnx_runs_on_this_machine_by_the_stock_iree_runtime(bundle: Bundle, tmp_path: Path) -> None:
    from iree import compiler, runtime

    importer = [sys.executable, "-m", "iree.compiler.tools.import_onnx", str(bundle.folder / "model.onnx")]
    subprocess.run([*importer, "-o", "model.mlir"], cwd=tmp_path, check=True, timeout=120)
    module = compiler.tools.compile_file(
        str(tmp_path / "model.mlir"),
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=host"],
    )
    config = runtime.Config("local-sync")
    context = runtime.SystemContext(config=config)
    context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, module))
    proto = onnx.load(bundle.folder / "model.onnx")
    entry = context.modules["module"][proto.graph.name]
    x = np.random.default_rng(11).normal(size=(1, SIZES[0])).astype(np.float32)
    assert_close(np.asarray(entry(x).to_host()), ort(proto, x))
