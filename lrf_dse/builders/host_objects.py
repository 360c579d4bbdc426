"""The fixed part of every program, toolchain/host/, is compiled once and kept in the cache under a content key.

A program differs from the next one in its generated part only; compiling the rest anew took most of a link.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lrf_dse.builders.cache import cache_dir, cached
from lrf_dse.builders.zig import zig_cc, zig_version
from lrf_dse.resources import data_dir
from lrf_dse.sealed import sources_digest


def host_dir() -> Path:
    """The folder of the host's sources and headers."""
    return data_dir("toolchain") / "host"


def host_objects(sources: Sequence[str], flags: Sequence[str]) -> list[Path]:
    """The objects of `sources`, named in toolchain/host/, compiled with `flags`; built now where the cache lacks them.

    Raises BuildError, ToolError.
    """
    folder = cache_dir() / "host" / _key(flags)

    def compile_into(fresh: Path, source: str) -> None:
        zig_cc([*flags, "-c", str(host_dir() / source), "-o", str(fresh)], cwd=fresh.parent)

    return [
        cached(folder / Path(source).with_suffix(".o").name, partial(compile_into, source=source)) for source in sources
    ]


def _key(flags: Sequence[str]) -> str:
    """A hash of the compiler, its flags, and every file that an object is made of."""
    return sources_digest(sorted(host_dir().glob("*.[ch]")), zig_version(), *flags)
