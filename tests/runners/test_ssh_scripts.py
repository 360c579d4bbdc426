"""The scripts for the board, run here by the shells there are: what they leave behind, and how they are quoted."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.runners import ssh_scripts
from lrf_dse.runners.ssh_scripts import CHECK, PUBLISH, UPLOAD, remote_command

SCRIPTS = {name: text for name, text in vars(ssh_scripts).items() if name.isupper() and not name.startswith("_")}
SHELLS = ["sh", "bash"]


def sh(shell: str, script: str, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    command = [shell, "-c", script, "begin", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=30, check=False)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert out.startswith("begin\n")
    return done.returncode, out.removeprefix("begin\n"), err


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


WHOLE = archive({"files/a b": b"x" * 30_000, "sums": b"", "complete": b""})


@pytest.mark.parametrize("shell", SHELLS)
def test_an_upload_makes_a_folder(shell: str, tmp_path: Path) -> None:
    assert sh(shell, UPLOAD, f"{tmp_path}/d", "n", stdin=WHOLE)[:2] == (0, "done\n")
    assert (tmp_path / "d/n/files/a b").read_bytes() == b"x" * 30_000
    assert (tmp_path / "d/n/out").is_dir()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("cut", [0, 512, 10_000, 512 + 30_208, 512 * 2 + 30_208])
def test_an_upload_that_is_cut_anywhere_leaves_nothing(shell: str, cut: int, tmp_path: Path) -> None:
    code, said, _ = sh(shell, UPLOAD, str(tmp_path), "n", stdin=WHOLE[:cut])
    assert (code, said) == (70, "")
    assert not list(tmp_path.iterdir())


def test_sums_are_compared(tmp_path: Path) -> None:
    good = subprocess.run(["sha256sum", "a"], input=b"", cwd=_with(tmp_path, "a"), capture_output=True, check=True)
    (tmp_path / "n" / "sums").write_bytes(good.stdout)
    assert sh("sh", CHECK, str(tmp_path), "n")[0] == 0
    (tmp_path / "n" / "files" / "a").write_text("changed")
    code, _, said = sh("sh", CHECK, str(tmp_path), "n")
    assert code == 70 and "a: FAILED" in said


def _with(folder: Path, name: str) -> Path:
    files = folder / "n" / "files"
    files.mkdir(parents=True)
    (files / name).write_text("text")
    return files


@pytest.mark.parametrize("shell", SHELLS)
def test_a_bundle_takes_the_place_of_an_older_one(shell: str, tmp_path: Path) -> None:
    _with(tmp_path, "new")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").touch()
    assert sh(shell, PUBLISH, str(tmp_path), "n", "./bundle")[0] == 0
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["new"]


def test_an_older_bundle_stays_if_the_new_one_cannot_be_moved(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").touch()
    assert sh("sh", PUBLISH, str(tmp_path), "n", "./bundle")[0] == 70
    assert (tmp_path / "bundle" / "old").exists()


WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)


@given(words=st.lists(WORDS, min_size=1))
def test_every_word_reaches_the_script_as_it_is(words: list[str]) -> None:
    command = remote_command('printf "%s;" "$@"', "begin", words)
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=30)
    assert done.stdout.decode() == "".join(f"{word};" for word in words)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_are_text_that_every_login_shell_takes(name: str) -> None:
    """In single quotes fish reads backslashes, and csh ends of lines."""
    assert len(SCRIPTS) >= 6
    assert not set(SCRIPTS[name]) & set("\\\n")
    for shell in SHELLS:
        subprocess.run([shell, "-n", "-c", SCRIPTS[name]], check=True, timeout=30)
