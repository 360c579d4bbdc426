"""Files that hold files: limits, and nothing outside them. A file is data of others until it was looked at."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from lrf_dse.errors import ModelError

MOST_MEMBERS = 100_000
MOST_BYTES = 4 << 30
"""Most bytes of an archive or a folder, unpacked: twice what a model may have."""

MOST_RATIO = 200
"""The largest ratio of unpacked to packed bytes in a large member: weights do not shrink like that, a bomb does."""

LARGE_BYTES = 64 << 20
"""Unpacked bytes from which a member is large."""


def check_archive(path: Path) -> None:
    """Refuse an archive that is damaged, unpacks to too much, or names files outside itself. Raises ModelError."""
    try:
        with ZipFile(path) as archive:
            # The directory at the end of the archive alone is read: nothing is unpacked here.
            members = archive.infolist()
    except (BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path}: is not a valid archive ({error}); save or copy it again") from error
    if len(members) > MOST_MEMBERS or sum(member.file_size for member in members) > MOST_BYTES:
        raise ModelError(f"{path}: unpacks to more than {MOST_BYTES >> 30} GB or {MOST_MEMBERS} files; refused")
    for member in members:
        parts = Path(member.filename).parts
        if member.filename.startswith(("/", "\\")) or ".." in parts or "\0" in member.filename:
            raise ModelError(f"{path}: names {member.filename[:80]!r}, which is outside the archive; refused")
        if member.file_size > LARGE_BYTES and member.file_size > MOST_RATIO * max(member.compress_size, 1):
            raise ModelError(f"{path}: {member.filename[:80]!r} unpacks to {member.file_size >> 20} MB; refused")


def check_keras(path: Path) -> None:
    """`check_archive`, and the weights in it are those of the file itself. Raises ModelError."""
    check_archive(path)
    with ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".h5"):
                with archive.open(name) as stream:
                    check_hdf5(path, stream)


def check_hdf5(path: Path, stream: IO[bytes] | None = None) -> None:
    """Refuse an HDF5 file that is damaged or that takes data from other files. Raises ModelError."""
    import h5py

    try:
        with h5py.File(path if stream is None else stream, "r") as file:
            _check_group(path, file, 0)
    except (OSError, KeyError, RuntimeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not a valid HDF5 file ({' '.join(str(error).split())})") from error


_DEEPEST = 64


def _check_group(path: Path, group: Any, depth: int) -> None:
    import h5py

    if depth > _DEEPEST:
        raise ModelError(f"{path}: has groups in groups, more than {_DEEPEST} deep; refused")
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise ModelError(f"{path}: {name!r} lies in another file, {link.filename!r}; refused")
        # A soft link names a place in the same file, which is visited under its own name.
        if isinstance(link, h5py.SoftLink):
            continue
        item = group[name]
        if isinstance(item, h5py.Group):
            _check_group(path, item, depth + 1)
        # HDF5 has three ways to take data from other files: external links, external storage and virtual data sets.
        elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            raise ModelError(f"{path}: {name!r} takes its data from another file; refused")


def check_folder(path: Path) -> None:
    """Refuse a folder with a link out of it, or with too much in it. Raises ModelError."""
    whole, total = path.resolve(), 0
    for file in path.rglob("*"):
        if not file.resolve().is_relative_to(whole):
            raise ModelError(f"{path}: {file.name!r} is a link out of the folder; refused")
        total += file.stat().st_size if file.is_file() else 0
    if total > MOST_BYTES:
        raise ModelError(f"{path}: holds more than {MOST_BYTES >> 30} GB; refused")
