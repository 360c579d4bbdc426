"""Building plugins: once per content, safe for two processes, clear when it cannot be done."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lrf_dse.builders.cache import cache_dir
from lrf_dse.errors import BuildError, ToolError
from lrf_dse.resources import data_dir
from lrf_dse.runners.plugin import instruction_classes, plugin_key, plugin_path


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without plugins that shares zig's own cache: building libc again would take a minute."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (cache_dir() / "zig").mkdir(exist_ok=True)
    (folder / "zig").symlink_to(cache_dir() / "zig")
    monkeypatch.setenv("LRF_DSE_CACHE", str(folder))
    return folder


@pytest.fixture
def toolchain(tmp_path: Path) -> Path:
    """A copy of toolchain/ that a test may change."""
    for room in ("plugin", "host"):
        shutil.copytree(data_dir("toolchain") / room, tmp_path / "toolchain" / room)
    return tmp_path / "toolchain"


def test_class_table_is_read_from_the_c_source() -> None:
    classes = instruction_classes()
    expected = "scalar scalar_memory scalar_float branch vector_config vector_arithmetic vector_memory unknown"
    assert list(classes) == expected.split()
    assert all(classes.values())


def test_a_changed_source_is_built_again(empty_cache: Path, toolchain: Path) -> None:
    first = plugin_path(toolchain=toolchain)
    stamp = first.stat().st_mtime_ns
    assert plugin_path(toolchain=toolchain) == first
    assert first.stat().st_mtime_ns == stamp, "the second call must not build"
    with (toolchain / "plugin" / "decode.h").open("a") as header:
        header.write("/* changed */\n")
    second = plugin_path(toolchain=toolchain)
    assert second != first
    assert sorted((empty_cache / "plugins").iterdir()) == sorted([first, second]), "no scratch may be left"


def test_a_damaged_plugin_is_built_again(empty_cache: Path) -> None:
    path = plugin_path()
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1], whole.replace(b"ELF", b"ELG", 1), b""):
        path.write_bytes(damaged)
        assert plugin_path() == path
        assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["plugin/count.c", "plugin/classes.def", "plugin/qemu_api.h", "host/region.h"])
def test_every_source_is_in_the_key(name: str, toolchain: Path) -> None:
    before = plugin_key(toolchain=toolchain)
    assert before == plugin_key(), "a copy has the same key"
    with (toolchain / name).open("a") as source:
        source.write("\n")
    assert plugin_key(toolchain=toolchain) != before


def test_two_processes_may_build_at_once(empty_cache: Path) -> None:
    code = "from lrf_dse.runners.plugin import plugin_path; print(plugin_path())"
    root = str(Path(sys.modules["lrf_dse.runners.plugin"].__file__ or "").parents[2])
    command = [sys.executable, "-c", code]
    builds = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {build.communicate(timeout=120)[0].strip() for build in builds}
    assert [build.returncode for build in builds] == [0, 0]
    assert [str(path) for path in (empty_cache / "plugins").iterdir()] == list(paths)


def test_a_source_that_does_not_compile_names_the_error(empty_cache: Path, toolchain: Path) -> None:
    (toolchain / "plugin" / "count.c").write_text("int main(void) { return missing; }\n")
    with pytest.raises(BuildError, match="count.c:1:.*missing"):
        plugin_path(toolchain=toolchain)
    assert not list((empty_cache / "plugins").iterdir())


def test_a_cache_that_cannot_be_written_is_a_tool_error(empty_cache: Path) -> None:
    (empty_cache / "plugins").write_text("in the way")
    with pytest.raises(ToolError, match="cannot write .*plugins.*LRF_DSE_CACHE"):
        plugin_path()
