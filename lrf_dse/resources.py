"""Where the data that travels with the package lives: in the wheel, or in the checkout beside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: str) -> Path:
    """The folder `name` ("toolchain" or "targets"): package data of an installed wheel, else the checkout's."""
    # The wheel is built with both folders under _data (pyproject.toml); a checkout has them at its root.
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name
