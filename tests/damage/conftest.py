"""The explored run and its bundle that are damaged, and how many damages a test takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import explored
import pytest
from damage.damages import SILENT, TRACEBACK, Tally

SAMPLE, ALL = 40, 2000


@pytest.fixture(params=[SAMPLE, pytest.param(ALL, marks=pytest.mark.soak)])
def count(request: pytest.FixtureRequest) -> int:
    """How many damages: some in every run, all in `make soak`."""
    return int(request.param)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished exploration for spacemit-k1; not to be changed."""
    return explored.tiny_run(tmp_path_factory)


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return explored.copy_of(finished, tmp_path)


@pytest.fixture(scope="session")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles p1/ and dense/ of it; not to be changed."""
    folder = tmp_path_factory.mktemp("bundles")
    for pick in ("p1", "dense"):
        done = explored.command("export", finished / "run", "--pick", pick, "-o", folder / pick)
        assert done.code == 0, done.err
    return folder


@pytest.fixture
def tally(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[Tally]:
    """Counts damages; at the end none was silent, none a traceback, and the table is printed."""
    found = Tally()
    yield found
    with capsys.disabled():
        sys.stdout.write(f"\n{found.table(request.node.name)}\n")
    ends = found.by_outcome()
    assert (ends[SILENT], ends[TRACEBACK]) == (0, 0), found.faults[:20]


Rewrite = Callable[[bytes | None], None]


@pytest.fixture
def rewrite() -> Callable[[Path], Rewrite]:
    """Of a path: puts a content there, or nothing."""

    def of(path: Path) -> Rewrite:
        def put(content: bytes | None) -> None:
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)

        return put

    return of
