"""Where arrays of data come from: an .npz file, a folder of .npy files, or a function of the user's.

    calib.npz          its arrays
    folder/            one array per .npy file, by its name
    module:function    called without arguments; what it returns or yields are batches, joined along axis 0: a mapping
                       of names to arrays, a pair (x, y), or x alone

Owns reading and its refusals; what the arrays have to be is `data`'s and `targets`' business.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from lzma import LZMAError
from pathlib import Path
from struct import error as StructError
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import DataError

Arrays = dict[str, NDArray[Any]]

MOST_SAMPLES = 100_000
"""Samples that are taken of a function, which may yield for ever."""

_BYTES = (BadZipFile, ZlibError, LZMAError, StructError, EOFError)
"""What zipfile and its decompressors raise for wrong bytes."""

_HEADER = (ValueError, SyntaxError, TokenError, TypeError, OverflowError)
"""What numpy raises for a header that it cannot parse, which is Python's syntax, or for one that makes no sense."""

_REFUSED = (NotImplementedError, RuntimeError, KeyError)
"""An unknown compression, a password, a member that is listed and missing."""

_USERS_OWN = (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError, OSError, AssertionError)
"""What a function of the user's may raise by its own fault."""


def read_arrays(source: Path) -> tuple[Arrays, str]:
    """The arrays of `source` by name, and the sha256 of them all. Raises DataError naming the source."""
    if is_function(source):
        arrays = _yielded(source)
        return arrays, _sha256((name, array.tobytes()) for name, array in arrays.items())
    if not source.exists():
        raise DataError(f"{source}: no such file; check the path of the data")
    if source.is_dir():
        files = sorted(source.glob("*.npy"))
        if not files:
            raise DataError(f"{source}: the folder holds no .npy files; wanted is one per model input, and y.npy")
        arrays = {file.stem: _read_npy(file) for file in files}
        return arrays, _sha256((file.stem, file.read_bytes()) for file in files)
    arrays = _read_npz(source)
    return arrays, sha256(source.read_bytes()).hexdigest()


def is_function(source: Path) -> bool:
    """Whether `source` names a function, as module:function does, and no file."""
    module, _, function = str(source).partition(":")
    dotted = all(part.isidentifier() for part in module.split("."))
    return dotted and function.isidentifier() and not source.exists()


def load_function(spec: str) -> Callable[..., Any]:
    """The function module:function; the module may lie in the current folder. Raises DataError."""
    module, _, name = spec.partition(":")
    # An installed command has its own folder in front of the path, not the user's.
    sys.path.insert(0, str(Path.cwd()))
    try:
        with naming(spec):
            function = getattr(import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise DataError(f"{spec}: cannot be loaded: {error}; check the module's name and where it lies") from error
    finally:
        sys.path.pop(0)
    if not callable(function):
        raise DataError(f"{spec}: is not a function")
    return function  # type: ignore[no-any-return]


@contextmanager
def naming(spec: str) -> Iterator[None]:
    """Turn what a user's own code raises into one line that names it."""
    try:
        yield
    except DataError:
        raise
    except _USERS_OWN as error:
        raise DataError(f"{spec}: raised {type(error).__name__}: {' '.join(str(error).split())}") from error


def _sha256(parts: Iterable[tuple[str, bytes]]) -> str:
    digest = sha256()
    for name, content in parts:
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _yielded(source: Path) -> Arrays:
    batches: list[Arrays] = []
    samples = 0
    with naming(str(source)):
        made = load_function(str(source))()
        # These three are one batch with all data; anything else is iterated for batches.
        for batch in [made] if isinstance(made, Mapping | np.ndarray | tuple) else made:
            batches.append(_named(batch))
            samples += len(next(iter(batches[-1].values()), ()))
            if samples >= MOST_SAMPLES:
                break
        if not batches:
            raise DataError(f"{source}: yields no batches")
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _named(batch: Any) -> Arrays:
    if isinstance(batch, Mapping):
        named = dict(batch)
    elif isinstance(batch, tuple):
        named = dict(zip(("x", "y"), batch, strict=True))
    else:
        named = {"x": batch}
    return {str(name): np.asarray(array) for name, array in named.items()}


def _read_npy(path: Path) -> NDArray[Any]:
    with _reading(path, ".npy file; write it with numpy.save"), path.open("rb") as stream:
        # An array of Python objects is a pickle inside, and a pickle can run code when it is opened.
        array = np.load(stream, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: is not a single array; write it with numpy.save")
    return array


def _read_npz(path: Path) -> Arrays:
    # numpy forgets to close a file that turns out not to be a zip archive: open it here.
    with _reading(path, ".npz file, or is damaged; write it with numpy.savez"), path.open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path}: is a single .npy array; save x and y together with numpy.savez")
        with archive:
            return {key: archive[key] for key in archive.files}


@contextmanager
def _reading(path: Path, wanted: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise DataError(
            f"{path}: claims more data than there is memory; give fewer samples, or write it again if it is small"
        ) from error
    except (*_BYTES, *_HEADER, *_REFUSED) as error:
        # numpy's words for an array of pickled objects; it has no exception of its own for it.
        if "Object arrays" in str(error):
            raise DataError(
                f"{path}: holds pickled Python objects, which could run code; refused: save plain numeric arrays"
            ) from error
        raise DataError(f"{path}: is not a valid {wanted}") from error
