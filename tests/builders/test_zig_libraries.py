"""Zig's own cache: a library in it that is damaged is built again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lrf_dse.builders.zig_libraries import building, remember, require_sound

FILES = {"o/1a/libc.a": b"an archive", "o/1a/crt1.o": b"start", "o/2b/memcpy.o": b"of libc.a", "o/3c/libm.so.6": b"m"}


@pytest.fixture
def zig(tmp_path: Path) -> Path:
    folder = tmp_path / "zig"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_only_what_is_linked_is_remembered(zig: Path) -> None:
    assert not require_sound(zig)
    remember(zig)
    content = (zig.parent / "zig-libraries.json").read_bytes().splitlines()[0]
    assert json.loads(content)[1].keys() == FILES.keys() - {"o/2b/memcpy.o"}
    stamp = (zig.parent / "zig-libraries.json").stat().st_mtime_ns
    remember(zig)
    assert (zig.parent / "zig-libraries.json").stat().st_mtime_ns == stamp, "nothing new"
    assert not require_sound(zig, again=True)


@pytest.mark.parametrize("damaged", [b"an archivf", b"an arch", b"", None])
def test_a_damaged_library_is_dropped_with_all_that_is_linked_to_it(zig: Path, damaged: bytes | None) -> None:
    remember(zig)
    library = zig / "o/1a/libc.a"
    library.unlink() if damaged is None else library.write_bytes(damaged)
    assert require_sound(zig)
    assert list(zig.iterdir()) == [] and sorted(zig.parent.iterdir()) == [zig.parent / ".zig.lock", zig]
    assert not require_sound(zig), "once in a process"
    assert not require_sound(zig, again=True)


def test_what_was_built_since_is_remembered_too(zig: Path) -> None:
    remember(zig)
    (zig / "o/4d").mkdir()
    (zig / "o/4d/libcompiler_rt.a").write_bytes(b"rt")
    remember(zig)
    (zig / "o/4d/libcompiler_rt.a").write_bytes(b"rr")
    assert require_sound(zig, again=True)


def test_what_another_zig_has_taken_away_holds_nothing(zig: Path) -> None:
    (zig / "o/5e").symlink_to(zig / "gone")
    (zig / "o/6f").write_bytes(b"no folder")
    remember(zig)
    content = (zig.parent / "zig-libraries.json").read_bytes().splitlines()[0]
    assert json.loads(content)[1].keys() == FILES.keys() - {"o/2b/memcpy.o"}


def test_half_a_library_of_another_zig_is_not_remembered(zig: Path) -> None:
    with building(zig):
        (zig / "o/1a/libc.a").write_bytes(b"half")
        remember(zig)
    (zig / "o/1a/libc.a").write_bytes(b"the whole archive")
    assert not require_sound(zig), "what was written in place is sound"
    remember(zig)
    assert not require_sound(zig, again=True)
    (zig / "o/1a/libc.a").write_bytes(b"half")
    assert require_sound(zig, again=True), "and remembered once it was whole"


def test_a_cache_in_use_is_removed_only_afterwards(zig: Path) -> None:
    remember(zig)
    (zig / "o/1a/libc.a").write_bytes(b"damaged")
    code = (
        "import sys; from pathlib import Path; from lrf_dse.builders.zig_libraries import require_sound\n"
        "print('looks', flush=True); require_sound(Path(sys.argv[1]))"
    )
    with building(zig):
        other = subprocess.Popen([sys.executable, "-c", code, str(zig)], stdout=subprocess.PIPE)
        assert other.stdout and other.stdout.readline() == b"looks\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.communicate(timeout=1)
        assert (zig / "o/3c/libm.so.6").exists(), "somebody links to it"
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert list(zig.iterdir()) == []


@pytest.mark.soak
def test_a_truncated_libc_is_built_again(tmp_path: Path) -> None:
    """By zig itself: half a minute."""
    code = (
        "import sys; from pathlib import Path; from lrf_dse.builders.zig import zig_cc\n"
        "zig_cc(['-target', 'riscv64-linux-musl', '-mcpu=generic_rv64+m+a+f+d+c', '-static', 'a.c', '-o', 'a'],"
        " cwd=Path(sys.argv[1]))"
    )
    (tmp_path / "a.c").write_text('#include <stdio.h>\nint main(void) { return puts("it runs") < 0; }\n')

    for damage in (None, 1000, None):
        for library in (tmp_path / "cache").glob("zig/o/*/libc.a"):
            if damage is not None:
                os.truncate(library, damage)
        environment = os.environ | {"LRF_DSE_CACHE": str(tmp_path / "cache")}
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True, timeout=600)
        done = subprocess.run(["qemu-riscv64", tmp_path / "a"], capture_output=True, text=True, check=True)
        assert done.stdout == "it runs\n"
