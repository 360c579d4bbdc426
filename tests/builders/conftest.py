"""Fixtures for everything that is built: a target, and a folder to build in."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.zoo import fully_connected

from lrf_dse.builders.program import BuiltProgram, build_with_iree
from lrf_dse.target import Target, load_target


@pytest.fixture(scope="session")
def k1() -> Target:
    return load_target("spacemit-k1")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def fully_connected_program(k1: Target, tmp_path_factory: pytest.TempPathFactory) -> BuiltProgram:
    """One FC layer for spacemit-k1, built once: tests read and run it, and change nothing."""
    return build_with_iree(fully_connected(), k1, tmp_path_factory.mktemp("fully_connected"))
