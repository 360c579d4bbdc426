"""QEMU plugins are built from toolchain/plugin/ on first use and kept in the cache under a content key.

The module owns the build and the table of instruction classes (toolchain/plugin/classes.def). It runs no plugin.
"""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from lrf_dse.builders.cache import cache_dir, cached
from lrf_dse.builders.zig import zig_cc, zig_version
from lrf_dse.resources import data_dir
from lrf_dse.sealed import sources_digest

UNKNOWN_CLASS = "unknown"

# -mcpu=baseline: a cache folder may be shared by machines, so not this machine's own instruction set.
_FLAGS = (
    "-mcpu=baseline",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-shared",
    "-s",
)
# classes.def is C text for the preprocessor; this pattern reads the same table, one line for each class.
_CLASS_LINE = re.compile(r'^LRF_CLASS\((\w+), "(.*)"\)$', re.MULTILINE)


@functools.cache
def instruction_classes() -> Mapping[str, str]:
    """Class name -> what it holds, in the order of the table; the last one is `unknown`."""
    table = data_dir("toolchain") / "plugin" / "classes.def"
    return dict(_CLASS_LINE.findall(table.read_text(encoding="utf-8")))


def plugin_key(name: str = "count", *, toolchain: Path | None = None) -> str:
    """Content key of the plugin `name`: its sources, the compiler, its flags and the host."""
    return sources_digest(_sources(name, toolchain or data_dir("toolchain")), zig_version(), _host(), *_FLAGS)


def plugin_path(name: str = "count", *, toolchain: Path | None = None) -> Path:
    """The shared object of the plugin `name`, built now if the cache does not hold it.

    The file name carries the content key: a changed source never meets an old plugin. Raises BuildError, ToolError.
    """
    toolchain = toolchain or data_dir("toolchain")
    units = [str(unit.resolve()) for unit in _units(name, toolchain)]

    def build(fresh: Path) -> None:
        zig_cc(["-target", _host(), *_FLAGS, *units, "-o", str(fresh)], cwd=fresh.parent)

    return cached(cache_dir() / "plugins" / f"{name}-{plugin_key(name, toolchain=toolchain)}.so", build)


def _units(name: str, toolchain: Path) -> list[Path]:
    """The C files of the plugin `name`: NAME.c and every NAME_*.c."""
    folder = toolchain / "plugin"
    return [folder / f"{name}.c", *sorted(folder.glob(f"{name}_*.c"))]


def _sources(name: str, toolchain: Path) -> list[Path]:
    """Every file that the plugin `name` is made of: its C files and whatever they may include."""
    folder = toolchain / "plugin"
    # Headers of the other plugin are among them: a plugin is rather built once too often than found stale.
    shared = sorted([*folder.glob("*.h"), *folder.glob("*.def"), toolchain / "host" / "region.h"])
    return [*_units(name, toolchain), *shared]


def _host() -> str:
    """This machine as zig names it; QEMU packages are built for glibc."""
    return f"{platform.machine()}-linux-gnu"
