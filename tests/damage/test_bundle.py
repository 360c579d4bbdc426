"""Damage to bundles and to what boards answer: refused by name, by the program and by what sends it."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from damage.damages import HARMLESS, REFUSED, SILENT, TAKEN, Tally, damage, seeded
from runners.boards import seal_bundle

from lrf_dse.deploy.board import read_bundle
from lrf_dse.deploy.instructions import bundle_readme
from lrf_dse.deploy.whole import read_manifest
from lrf_dse.errors import LrfDseError
from lrf_dse.runners.answers import Rejected, read_ram_parts
from lrf_dse.runners.board import Board, parse_facts
from lrf_dse.runners.board_timing import read_batch
from lrf_dse.runners.ssh_client import BoardProblem
from lrf_dse.runners.ssh_folder import read_answer
from lrf_dse.target import load_target

CHECK = ("./model-riscv64", "--check", "golden/input0.bin", "golden/output0.bin")
PROGRAM_DAMAGE = 4
"""The exit code of the program for a bundle that is not whole."""


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported / "p1", tmp_path / "bundle")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_damage(bundle: Path, exported: Path, source: random.Random, names: list[str]) -> tuple[str, str]:
    """Damage one file of the bundle, or swap two; its name and what was done."""
    name = source.choice(names)
    path = bundle / name
    others = {"of another bundle": (exported / "dense" / name).read_bytes()}
    others |= {"another file": (bundle / source.choice(names)).read_bytes()}
    whole = path.read_bytes()
    kind, left = damage(whole, {k: v for k, v in others.items() if v != whole}, source)
    path.unlink()
    if left is not None:
        path.write_bytes(left)
        path.chmod(0o755)
    return name, kind


def by_deploy(bundle: Path, name: str, whole: bytes) -> str:
    """What `deploy` does first."""
    try:
        read_bundle(bundle)
    except LrfDseError as error:
        return REFUSED if "\n" not in str(error) and str(bundle) in str(error) else SILENT
    return HARMLESS if (bundle / name).exists() and (bundle / name).read_bytes() == whole else SILENT


def by_program(bundle: Path, name: str, whole: bytes, cpu: str) -> str:
    """What the program says with --check; one whose own file is damaged may not get as far as to say something."""
    line = ["qemu-riscv64", "-cpu", cpu, *CHECK]
    done = subprocess.run(line, cwd=bundle, capture_output=True, text=True, timeout=60, check=False, errors="replace")
    if done.returncode == 0:
        return HARMLESS if (bundle / name).exists() and (bundle / name).read_bytes() == whole else SILENT
    if name == "model-riscv64":
        return REFUSED
    named = done.returncode == PROGRAM_DAMAGE and f"{name} " in done.stderr and done.stderr.count("\n") == 1
    return REFUSED if named else SILENT


def test_damaged_bundles(bundle: Path, exported: Path, count: int, tally: Tally) -> None:
    whole, cpu = files_of(bundle), load_target("spacemit-k1").qemu.cpu
    for source in seeded(count, seed=6):
        name, kind = one_damage(bundle, exported, source, sorted(whole))

        def judge(name: str = name) -> str:
            said = {by_deploy(bundle, name, whole[name]), by_program(bundle, name, whole[name], cpu)}
            return said.pop() if len(said) == 1 else SILENT

        tally.add(f"{kind}, {name.partition('/')[0]}", judge)
        (bundle / name).unlink(missing_ok=True)
        (bundle / name).write_bytes(whole[name])
        (bundle / name).chmod(0o755)
    assert tally.by_outcome()[REFUSED] > 0.9 * count


def test_damaged_manifests(bundle: Path, exported: Path, count: int, tally: Tally) -> None:
    whole = (bundle / "manifest.json").read_bytes()
    for source in seeded(count, seed=7):
        _, kind = one_damage(bundle, exported, source, ["manifest.json"])
        tally.add(kind, lambda: by_deploy(bundle, "manifest.json", whole))
        (bundle / "manifest.json").write_bytes(whole)
    assert tally.by_outcome()[REFUSED] > 0.9 * count


ODD: tuple[Any, ...] = (None, True, -1, 0, 1 << 70, 1e308, "", "x" * 5000, "\x1b[2J\n", [], {}, [[]], {"": {}}, "../..")


def garbled(value: Any, source: random.Random) -> Any:
    """A JSON value with one of its parts removed, or odd."""
    if isinstance(value, dict) and value and source.random() < 0.85:
        key = source.choice(sorted(value))
        if source.random() < 0.15:
            return {name: part for name, part in value.items() if name != key}
        return value | {key: garbled(value[key], source)}
    if isinstance(value, list) and value and source.random() < 0.85:
        at = source.randrange(len(value))
        return [garbled(part, source) if index == at else part for index, part in enumerate(value)]
    return source.choice(ODD)


def test_garbled_manifests_with_a_true_digest(bundle: Path, count: int, tally: Tally) -> None:
    """As another release or a script may write them: read, or refused in one line."""
    manifest, _ = read_manifest(bundle)
    for source in seeded(count, seed=8):
        changed = garbled(manifest, source)
        seal_bundle(bundle, changed if isinstance(changed, dict) else {"manifest": changed})

        def judge() -> str:
            facts = read_bundle(bundle).facts
            bundle_readme(manifest | {"inputs": [vars(port) for port in facts.inputs]})
            return TAKEN

        tally.add("garbled", judge)
    assert tally.by_outcome()[REFUSED] > 0.2 * count


FACTS = """@uname riscv64 6.6.36
@code 0
@probe {"rvv": true, "vlenb": 32, "rdcycle": false}
@cpuinfo processor : 0
isa : rv64imafdcv_zicbom
@status Cpus_allowed_list: 0-7
@meminfo MemAvailable: 3875432 kB
@df /dev/mmcblk0p6 30000000 1200000 28000000 5% /
@tools tar sha256sum taskset
"""
TIMES = {"ns": [210_000, 205_000, 207_000], "cycles": [], "passes": 12, "cold_ns": 40_000, "peak_resident_kb": 812}


def archive_of(output: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("./output0.bin")
        member.size = len(output)
        tar.addfile(member, io.BytesIO(output))
    return buffer.getvalue()


def test_damaged_answers_of_a_board(tmp_path: Path, count: int, tally: Tally) -> None:
    """Whatever a board says is read, or is one line that names the board or the stage."""
    board = Board("user@board")
    answer = b"code 0\nbefore 1600000 41000 0.12\nafter 1600000 42000 0.20\ntar\n" + archive_of(b"\0" * 40)
    for source in seeded(count, seed=9):
        case = source.choice(["facts", "times", "garbled times", "stats", "answer"])
        text = {"facts": FACTS, "answer": ""}.get(case, json.dumps(TIMES)).encode()
        kind, left = damage(answer if case == "answer" else text, {}, source)
        if case == "garbled times":
            left = json.dumps(garbled(TIMES, source)).encode()
        path = tmp_path / "answer.json"
        path.write_bytes(left or b"")

        def judge(case: str = case, left: bytes = left or b"", path: Path = path) -> str:
            try:
                if case == "facts":
                    parse_facts(left.decode(errors="replace"), board)
                elif case == "answer":
                    read_answer(board, left, "", wanted=("output0.bin",), into=tmp_path / "into")
                elif case == "stats":
                    read_ram_parts(path)
                else:
                    read_batch(path)
            except (Rejected, BoardProblem, ValueError) as error:
                return REFUSED if "\n" not in str(error) else SILENT
            return TAKEN

        tally.add(f"{case}, {kind}", judge)
    assert tally.by_outcome()[REFUSED] > 0.3 * count
