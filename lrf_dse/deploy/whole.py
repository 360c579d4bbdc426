"""Whether a bundle is the one that was exported: its files against SHA256SUMS, and the manifest against itself.

The manifest ends with a digest of the text before it, and holds the digest of SHA256SUMS, which lists every other file.
So one file says all, and what a board adds to it is one rename. The program checks the same with --check
(toolchain/host/bundle.c). Against damage and mix-ups, not against an attacker, who could make all of it anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from lrf_dse.errors import UsageError
from lrf_dse.jsonform import from_json, problem_of
from lrf_dse.sealed import digest_of, write_atomic

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
# The end of the file after the seal: json.dumps with indent=2 closes the text, the object and the line.
_TAIL = '"\n}\n'
_HEX = 64
_AGAIN = "export the bundle again"


@dataclass(frozen=True)
class BundlePort:
    """One input or output of the program."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The size in bytes. Raises ValueError for a type or a shape that no program has."""
        try:
            kind = np.dtype(self.dtype)
        except TypeError as error:
            raise ValueError(f"no element type {self.dtype!r}") from error
        # Floats, integers, unsigned ones and booleans: what the programs read and write as raw values.
        if kind.kind not in "fiub" or any(size < 0 for size in self.shape):
            raise ValueError(f"no port of {self.dtype} {list(self.shape)}")
        count = 1
        for size in self.shape:
            count *= size
        return count * kind.itemsize


@dataclass(frozen=True)
class BundleTarget:
    """What the program needs of a machine."""

    name: str
    isa: str
    vlen_bits: int | None


@dataclass(frozen=True)
class ManifestFacts:
    """The part of a manifest that is read back."""

    plan: str
    target: BundleTarget
    inputs: tuple[BundlePort, ...]
    outputs: tuple[BundlePort, ...]
    files: Mapping[str, Mapping[str, Any]]
    sums: str
    tolerance: float
    run: Mapping[str, Any] = field(default_factory=dict)
    boards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def sums_of(folder: Path, names: Iterable[str]) -> bytes:
    """SHA256SUMS of the files `names` in `folder`, as sha256sum prints it. Raises OSError."""
    return "".join(f"{digest_of((folder / name).read_bytes())}  {name}\n" for name in sorted(names)).encode()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write manifest.json with its digest, whole or not at all. Raises StoreError."""
    facts = {key: value for key, value in manifest.items() if key != "seal"}
    text = json.dumps(facts | {"seal": ""}, indent=2)
    # The digest is of the text up to its own place, so that reading it back needs no JSON.
    head = text.removesuffix(_TAIL.removesuffix("\n"))
    write_atomic(folder / MANIFEST, f"{head}{digest_of(head.encode())}{_TAIL}".encode())


def read_manifest(folder: Path) -> tuple[dict[str, Any], ManifestFacts]:
    """The manifest, as it is and as it is used. Raises UsageError for one that is damaged, OSError where none is."""
    content = (folder / MANIFEST).read_bytes()
    end = len(content) - len(_TAIL)
    sealed = content[end:] == _TAIL.encode() and content[end - _HEX : end] == digest_of(content[: end - _HEX]).encode()
    if not sealed:
        raise UsageError(f"{folder / MANIFEST}: damaged, or not of a bundle; {_AGAIN}")
    try:
        manifest = json.loads(content)
        return manifest, cast(ManifestFacts, from_json(ManifestFacts, manifest))
    except (ValueError, RecursionError) as error:
        said = f"{folder / MANIFEST}: not a manifest of this release"
        raise UsageError(f"{said} ({problem_of(error)}); {_AGAIN}") from error


def require_whole(folder: Path, facts: ManifestFacts) -> tuple[str, ...]:
    """The names of all files but the manifest, each with the digest that is listed. Raises UsageError, OSError."""
    content = (folder / SUMS).read_bytes()
    if digest_of(content) != facts.sums:
        raise UsageError(f"{folder / SUMS}: not the list that {MANIFEST} speaks of; {_AGAIN}")
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in content.decode().splitlines())}
    for name, digest in listed.items():
        if digest_of((folder / _plain(name)).read_bytes()) != digest:
            raise UsageError(f"{folder / name}: not the file that {SUMS} lists; {_AGAIN}")
    # The manifest lists all files but its README and the sums; each must be in the sums with the same digest.
    for name, said in facts.files.items():
        if listed.get(_plain(name)) != said.get("sha256"):
            raise UsageError(f"{folder / name}: {MANIFEST} and {SUMS} disagree; {_AGAIN}")
    return (*listed, SUMS)


def _plain(name: str) -> str:
    """`name` if it stays in the bundle and can stand in a list of sums."""
    path = PurePosixPath(name)
    # sha256sum writes names with a backslash or a line end in an escaped form of its own.
    if path.is_absolute() or ".." in path.parts or str(path) != name or not name.isprintable() or "\\" in name:
        raise UsageError(f"{MANIFEST} lists a file {name!r} that no bundle has")
    return name
