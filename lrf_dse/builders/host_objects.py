"""The fixed part of every program, toolchain/host/, compiled once: objects in the cache under a content key.

A program differs from the next one in its generated part only; compiling the rest anew took most of a link.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lrf_dse.builders.zig import cache_dir, zig_cc, zig_version
from lrf_dse.errors import ToolError
from lrf_dse.resources import data_dir


def host_dir() -> Path:
    """The folder of the host's sources and headers."""
    return data_dir("toolchain") / "host"


def host_objects(sources: Sequence[str], flags: Sequence[str]) -> list[Path]:
    """The objects of `sources`, named in toolchain/host/, compiled with `flags`; built now where the cache lacks them.

    A finished object is renamed into place: two processes may build at once. Raises BuildError, ToolError.
    """
    folder = cache_dir() / "host" / _key(flags)
    built = [folder / Path(source).with_suffix(".o").name for source in sources]
    missing = [(source, path) for source, path in zip(sources, built, strict=True) if not path.is_file()]
    if not missing:
        return built
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            for source, path in missing:
                fresh = Path(scratch) / path.name
                zig_cc([*flags, "-c", str(host_dir() / source), "-o", str(fresh)], cwd=Path(scratch))
                fresh.replace(path)
    except OSError as error:
        raise ToolError(f"cannot write objects to {folder}: {error.strerror}; set LRF_DSE_CACHE") from error
    return built


def _key(flags: Sequence[str]) -> str:
    """A hash of the compiler, its flags, and every file that an object is made of."""
    digest = hashlib.sha256("\n".join((zig_version(), *flags)).encode())
    for path in sorted(host_dir().glob("*.[ch]")):
        digest.update(f"\n{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
