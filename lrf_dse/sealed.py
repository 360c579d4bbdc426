"""Files that are written whole, and files that tell whether they still are.

A sealed file is its content and one more line, the seal: the key that the content is kept under, and its SHA-256.
Formats that know their own length (ELF, zip) are read as before: none looks behind its end. What was truncated,
altered, or swapped with the file of another key is no longer sealed.

Owns how a file reaches the disk. Knows nothing of what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lrf_dse.errors import StoreError

PART_PATTERN = ".*.part"
"""The names of files that were being written when their process was killed."""

_MARK = b'\n{"seal": '
"""How the last line of a sealed file begins; the newline before it ends the content and is no part of it."""


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside it, then renamed over it. Creates the folder. Raises StoreError.

    File and folder are on the disk when this returns, in this order: after a power cut the name never leads to an
    empty file.
    """
    # Beside the file, because a rename is atomic within one file system only; named by thread, because two may write
    # one file at a time.
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot write: {error.strerror}; free space or choose another folder") from error
    finally:
        with suppress(OSError):  # already renamed, or never made
            part.unlink()


def flush_file(path: Path) -> None:
    """Wait until the content of `path` is on the disk. Raises OSError."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_of(content: bytes) -> str:
    """The SHA-256 of `content`, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sources_digest(paths: Iterable[Path], *facts: str) -> str:
    """16 hex digits that change with the name or content of any of these files, with their order, and with `facts`."""
    digest = hashlib.sha256("\n".join(facts).encode())
    for path in paths:
        content = path.read_bytes()
        digest.update(f"\n{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def seal(content: bytes, key: str) -> bytes:
    """`content` with its seal.

    >>> unseal(seal(b"text", "a"), "a"), unseal(seal(b"text", "a"), "b"), unseal(b"text", "a")
    (b'text', None, None)
    """
    return content + _MARK + json.dumps([key, digest_of(content)]).encode() + b"}\n"


def unseal(data: bytes, key: str) -> bytes | None:
    """The content of a sealed file of `key`; None if it is damaged, of another key, or has no seal."""
    # The last mark: the content may hold one itself, as a sealed file within a sealed file does.
    content = data[: data.rfind(_MARK)] if _MARK in data else b""
    return content if seal(content, key) == data else None


def write_sealed(path: Path, content: bytes, key: str) -> None:
    """`write_atomic` of `content` with its seal. Raises StoreError."""
    write_atomic(path, seal(content, key))


def read_sealed(path: Path, key: str) -> bytes | None:
    """The content of the sealed file `path`; None if it cannot be read, is damaged, or is of another key."""
    try:
        return unseal(path.read_bytes(), key)
    except OSError:
        return None
