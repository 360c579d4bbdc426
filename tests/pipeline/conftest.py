"""The tiny exploration, for both targets."""

from __future__ import annotations

from pathlib import Path

import pytest
from explored import finished, mine, tiny, tiny_run

__all__ = ["finished", "mine", "tiny"]


@pytest.fixture(scope="session", params=["spacemit-k1", "qemu-rv64gcv"])
def of_each_target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished exploration for each target; not to be changed."""
    return tiny_run(tmp_path_factory, request.param)
