"""What a user installs: the wheel made from the sdist works outside the checkout, and every dependency is pinned."""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What must not be loaded for --help: each costs more than the whole answer may take.
SLOW = "tensorflow t3f onnxruntime onnx onnx_ir iree.compiler pandas matplotlib plotly scipy numpy jinja2"


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, run without the checkout on Python's path."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist as a package index would, with the pinned build tools of this environment."""
    out = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out, cwd=ROOT)
    (sdist,) = out.glob("*.tar.gz")
    # By tar: Debian 12's Python 3.11.2 has no extraction filters yet, and later ones warn where none is given.
    (out / "unpacked").mkdir()
    run("tar", "-xzf", sdist, "-C", out / "unpacked", cwd=out)
    (source,) = (out / "unpacked").iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new venv, away from the checkout, with the wheel and (by a .pth file) the dependencies of this environment.

    A .pth file adds the other site-packages behind the venv's own, and does not read that folder's .pth files: the
    editable install of the checkout stays out.
    """
    folder = tmp_path_factory.mktemp("away") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "-qq", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def test_the_wheel_carries_the_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(metadata_name).decode()
    folders = {"targets": "targets", "toolchain": "toolchain", "lrf_dse": None}
    for folder, data in folders.items():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        files = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
        assert files
        assert {f"lrf_dse/_data/{name}" if data else name for name in files} <= names
    assert {name.partition("/")[0] for name in names} == {"lrf_dse", metadata_name.partition("/")[0]}
    assert not [name for name in names if "__pycache__" in name]
    assert "lrf_dse/py.typed" in names
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata


def test_the_installed_package_reads_its_own_data(installed: Path, tmp_path: Path) -> None:
    code = (
        "import json, lrf_dse; from lrf_dse.resources import data_dir; from lrf_dse.target import load_target;"
        "print(json.dumps([lrf_dse.__file__, str(data_dir('targets')), str(data_dir('toolchain')),"
        " load_target('spacemit-k1').name]))"
    )
    *places, target = json.loads(run(installed / "bin" / "python", "-c", code, cwd=tmp_path))
    assert target == "spacemit-k1"
    assert [place for place in places if not Path(place).is_relative_to(installed)] == []


def test_the_installed_command_works(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "lrf-dse"
    text = run(command, "--help", cwd=tmp_path)
    assert [name for name in ("explore", "export", "layers", "report", "targets", "doctor") if name not in text] == []
    listed = json.dumps(json.loads(run(command, "targets", "--json", cwd=tmp_path)))
    for target in (ROOT / "targets").glob("*.toml"):
        assert f'"{target.stem}"' in listed


def test_help_is_quick(installed: Path, tmp_path: Path) -> None:
    """Under 0.3 s: the best of five, in CPU time so that a busy machine does not count."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(installed / "bin" / "lrf-dse", "--help", cwd=tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.3


def test_help_loads_nothing_slow(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from lrf_dse.cli import main; sys.argv = ['lrf-dse', '--help']\n"
        "try: main()\n"
        f"finally: print('loaded', [name for name in {SLOW!r}.split() if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [installed / "bin" / "python", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "loaded []"


def pins() -> dict[str, str]:
    """Canonical name to version, from constraints.txt; any other form of line is an error."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def closure(requirements: list[str], seen: set[tuple[str, str]]) -> Iterator[str]:
    """Canonical names of all that `requirements` bring in here, by the metadata of what is installed."""
    for text in requirements:
        requirement = Requirement(text)
        for extra in {"", *requirement.extras}:
            name = canonicalize_name(requirement.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            yield name
            needed = [Requirement(need) for need in importlib.metadata.requires(name) or []]
            wanted = [str(need) for need in needed if need.marker is None or need.marker.evaluate({"extra": extra})]
            yield from closure(wanted, seen)


def everything_asked() -> list[str]:
    """The requirements of the project and of all its extras."""
    extras = PROJECT["optional-dependencies"].values()
    return [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]


def test_every_dependency_is_pinned_to_what_is_installed() -> None:
    asked = [*everything_asked(), "pip", "setuptools", "wheel"]
    # An index may have torch for GPUs alone, under the same version: it brings libraries that nothing here calls.
    needed = {name for name in closure(asked, set()) if not name.startswith(("cuda-", "nvidia-", "triton"))}
    assert len(needed) > 50
    # A build for one kind of processor has its name behind a plus sign.
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in needed}
    assert {name: pins().get(name) for name in needed} == installed
    assert pins().keys() - needed == set(), "pinned, but nothing needs it"


def test_no_dependency_is_pinned_outside_constraints() -> None:
    assert [text for text in everything_asked() if "==" in text or ">=" not in text] == []
