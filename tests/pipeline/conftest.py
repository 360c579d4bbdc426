"""The tiny exploration, for both targets."""

from __future__ import annotations

from pathlib import Path

import explored
import pytest


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, holding tiny.onnx and tiny.npz."""
    monkeypatch.chdir(tmp_path)
    explored.tiny_model(tmp_path)
    explored.tiny_data(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished exploration for spacemit-k1; not to be changed."""
    return explored.tiny_run(tmp_path_factory)


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return explored.copy_of(finished, tmp_path)


@pytest.fixture(scope="session", params=["spacemit-k1", "qemu-rv64gcv"])
def of_each_target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished exploration for each target; not to be changed."""
    return explored.tiny_run(tmp_path_factory, request.param)
