"""Deploying a bundle to a real sshd on loopback whose board runs riscv64 programs through QEMU."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from runners.boards import NAME, BundleOf, X, seal_bundle
from runners.loopback import Sshd

from lrf_dse.deploy.board import deploy, read_bundle
from lrf_dse.errors import RunError, StoreError, UsageError
from lrf_dse.jsonform import from_json
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.schema import Measurement
from lrf_dse.store import Store
from lrf_dse.target import load_target

QUICK = RepeatPolicy(min_repeats=4, max_repeats=8, spread=9.0, time_limit_s=5.0, warm_up_s=0.0)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_is_put_in_place_and_the_figures_come_back(sshd: Sshd, bundle_of: BundleOf) -> None:
    folder = bundle_of()
    sent = contents(folder)
    done = deploy(folder, sshd.board(), policy=QUICK, now=NOON)
    assert (done.host, done.date, done.path) == ("board", "2026-11-21T12:00:00Z", f"{sshd.home}/d/{NAME}")
    assert contents(sshd.home / "d" / NAME) == sent
    assert (sshd.home / "d" / NAME / "model-riscv64").stat().st_mode & 0o111
    assert [path.name for path in (sshd.home / "d").iterdir()] == [NAME], "nothing else is left"
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["boards"]["board"]["2026-11-21T12:00:00Z"]
    assert entry["median_s"] == done.measurement.seconds == done.figures.median_s > 0
    assert entry["source"] == "board seconds, board (programs run by qemu-riscv64)"
    assert {name for name in contents(folder) if name != "manifest.json"} == sent.keys() - {"manifest.json"}
    before = json.loads(sent["manifest.json"])
    assert before.keys() == manifest.keys() - {"boards"}
    assert all(before[key] == manifest[key] for key in before.keys() - {"seal"})
    assert read_bundle(folder).facts.boards == manifest["boards"], "sealed again"


def test_a_second_deployment_takes_the_place_of_the_first(sshd: Sshd, bundle_of: BundleOf) -> None:
    folder = bundle_of()
    deploy(folder, sshd.board(), name="here", policy=QUICK, now=NOON)
    stale = sshd.home / "d" / "here" / "stale"
    stale.touch()
    deploy(folder, sshd.board(), name="here", policy=QUICK, now=NOON.replace(hour=13))
    assert not stale.exists()
    assert [path.name for path in (sshd.home / "d").iterdir()] == ["here"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["boards"]["board"]) == ["2026-11-21T12:00:00Z", "2026-11-21T13:00:00Z"]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("wrong", "stage verify: output 0: element 2 is 8.5, expected 8"),
        ("crashes", "stage run: killed by SIGSEGV"),
    ],
)
def test_a_bundle_that_fails_there_leaves_the_older_one(
    case: str, reason: str, sshd: Sshd, bundle_of: BundleOf
) -> None:
    older = sshd.home / "d" / "x"
    older.mkdir(parents=True)
    (older / "old").touch()
    folder = bundle_of(case)
    before = contents(folder)
    with pytest.raises(RunError, match=f"board board: the bundle fails there at {reason}.*nothing was put in place"):
        deploy(folder, sshd.board(), name="x", policy=QUICK)
    assert sshd.leftovers() == ["d", "old", "x"]
    assert contents(folder) == before


def test_a_board_of_another_kind_is_refused_before_anything_is_sent(sshd: Sshd, bundle_of: BundleOf) -> None:
    prefix = ("qemu-riscv64", "-cpu", load_target("qemu-rv64gcv").qemu.cpu)
    with pytest.raises(RunError, match="board board: its vector registers have 128 bits, the program needs 256"):
        deploy(bundle_of(), sshd.board(runner_prefix=prefix), policy=QUICK)
    assert sshd.leftovers() == ["d"]


def test_a_board_that_is_away(own_sshd: Sshd, bundle_of: BundleOf) -> None:
    own_sshd.stop()
    with pytest.raises(RunError, match="board board: cannot be reached: .*Connection refused"):
        deploy(bundle_of(), own_sshd.board(), policy=QUICK)


def test_what_arrives_damaged_is_seen_by_its_sum(own_sshd: Sshd, bundle_of: BundleOf) -> None:
    """A tar there that adds a line to a file stands for it."""
    tools = own_sshd.folder / "tools"
    tools.mkdir()
    lines = [
        "#!/bin/sh",
        '/bin/tar "$@" || exit',
        "for last; do :; done",
        '[ -f "$last/files/model.onnx" ] && echo x >>"$last/files/model.onnx"',
        "exit 0",
    ]
    (tools / "tar").write_text("\n".join(lines) + "\n")
    (tools / "tar").chmod(0o755)
    own_sshd.stop()
    own_sshd.start(f'ForceCommand PATH="{tools}:$PATH"; export PATH; eval "$SSH_ORIGINAL_COMMAND"')
    with pytest.raises(RunError, match="sha256sum: WARNING: 1 computed checksum did NOT match"):
        deploy(bundle_of(), own_sshd.board(), policy=QUICK)
    assert own_sshd.leftovers() == ["d"]


def test_the_figures_go_into_the_run_that_the_manifest_names(sshd: Sshd, bundle_of: BundleOf) -> None:
    folder = bundle_of(folder="..")
    with Store(folder.parent) as store:
        store.put("other", "timing", 1)
    done = deploy(folder, sshd.board(), policy=QUICK, now=NOON)
    with Store(folder.parent, read_only=True) as store:
        (record,) = store.records("board")
    assert from_json(Measurement, record.value) == done.measurement
    assert record.context == {"plan": "p1", "host": "board", "date": "2026-11-21T12:00:00Z", "path": done.path}


def test_a_run_that_is_gone_or_in_use(sshd: Sshd, bundle_of: BundleOf) -> None:
    folder = bundle_of(folder="..")
    deploy(folder, sshd.board(), policy=QUICK, now=NOON)
    assert not (folder.parent / "records.sqlite").exists(), "a run is never made here"
    with Store(folder.parent), pytest.raises(StoreError, match="in use by another lrf-dse process"):
        deploy(folder, sshd.board(), policy=QUICK, now=NOON.replace(hour=13))
    assert len(json.loads((folder / "manifest.json").read_text())["boards"]["board"]) == 2


def change(folder: Path, **changes: object) -> None:
    """Seal the bundle again with other facts: what another release, or somebody's script, might write."""
    manifest = json.loads((folder / "manifest.json").read_text())
    seal_bundle(folder, {key: value for key, value in manifest.items() if key != "files"} | changes)


def refused(folder: Path, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        read_bundle(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["model-riscv64", "model.onnx", "README", "golden/input1.bin", "golden/output0.bin", "SHA256SUMS"]
)
def test_a_bundle_with_another_file_is_refused_by_name(bundle_of: BundleOf, name: str) -> None:
    folder = bundle_of()
    whole = (folder / name).read_bytes()
    for damaged in (whole[:-1], whole + b"\n", bytes(len(whole)), b""):
        (folder / name).write_bytes(damaged)
        refused(folder, f"{name}: not the (file|list) that")
    (folder / name).unlink()
    refused(folder, f"{name}: No such file")
    (folder / name).write_bytes(whole)
    assert read_bundle(folder).folder == folder


def test_a_manifest_that_is_not_the_exported_one_is_refused(bundle_of: BundleOf, tmp_path: Path) -> None:
    refused(tmp_path / "none", "not an exported bundle: .*manifest.json: No such file")
    folder = bundle_of()
    path = folder / "manifest.json"
    whole = path.read_bytes()
    other = bundle_of("wrong", name="other")
    for damaged in (b"", b"{", b"[]", whole[:-1], whole.replace(b"p1", b"p2"), whole.replace(b"\n}", b"\n }")):
        path.write_bytes(damaged)
        refused(folder, "manifest.json: damaged, or not of a bundle; export the bundle again")
    path.write_bytes((other / "manifest.json").read_bytes())
    refused(folder, "SHA256SUMS: not the list that manifest.json speaks of")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"files": {"../../secret": {"sha256": ""}}}, "lists a file '../../secret' that no bundle has"),
        ({"files": {"a\nb": {"sha256": ""}}}, r"lists a file 'a\\nb' that no bundle has"),
        ({"files": {"model.onnx": {"sha256": "00"}}}, "model.onnx: manifest.json and SHA256SUMS disagree"),
        ({"files": []}, "not a manifest of this release"),
        ({"inputs": 3}, "not a manifest of this release"),
        ({"tolerance": None}, "not a manifest of this release .*tolerance Input should be a valid number"),
        ({"inputs": [{"name": "x", "dtype": "float32", "shape": [4]}] * 5}, "lists no golden/input2.bin|not the float"),
        ({"outputs": [{"name": "y", "dtype": "float32", "shape": [5]}]}, r"output0.bin: not the float32 \[5\]"),
        ({"outputs": [{"name": "y", "dtype": "float32", "shape": [1 << 70]}]}, "output0.bin: not the float32"),
        ({"outputs": [{"name": "y", "dtype": "float32", "shape": [-4]}]}, "manifest.json is damaged"),
        ({"outputs": [{"name": "y", "dtype": "object", "shape": [4]}]}, "manifest.json is damaged"),
        ({"outputs": [{"name": "y", "dtype": "nonsense", "shape": [4]}]}, "manifest.json is damaged"),
        ({"target": {"name": "k", "isa": "x86", "vlen_bits": 0}}, "manifest.json is damaged"),
        ({"target": None}, "not a manifest of this release"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    bundle_of: BundleOf, changes: dict[str, object], reason: str
) -> None:
    folder = bundle_of()
    change(folder, **changes)
    refused(folder, reason)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb"])
def test_a_name_that_is_no_folder_is_refused(name: str, sshd: Sshd, bundle_of: BundleOf) -> None:
    with pytest.raises(UsageError, match="no name for a bundle's folder"):
        deploy(bundle_of(), sshd.board(), name=name)


def test_the_golden_output_is_what_counts(sshd: Sshd, bundle_of: BundleOf) -> None:
    folder = bundle_of()
    (folder / "golden" / "output0.bin").write_bytes((3 * X).tobytes())
    change(folder)
    with pytest.raises(RunError, match="stage verify"):
        deploy(folder, sshd.board(), policy=QUICK)
    assert np.isfinite(read_bundle(folder).outputs[0]).all()
    assert dataclasses.is_dataclass(read_bundle(folder))
