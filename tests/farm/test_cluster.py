"""Tasks on a real scheduler with real workers, which are killed, restarted and refused: nothing is lost or doubled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from farm.clusters import LoopbackCluster, loopback_cluster
from farm.remote import Weights, failing, row_sum, squared, versions

from lrf_dse.errors import ClusterError
from lrf_dse.farm import Local, Shared, Work, stream
from lrf_dse.farm.admission import Admission
from lrf_dse.farm.cluster import Cluster

ADMISSION = Admission(versions, {"compiler": "1.0", "simulator": "7"})
PATIENCE_S = 60.0


@pytest.fixture
def two(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with loopback_cluster(tmp_path / "cluster", workers=2) as cluster:
        yield cluster


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def squares(marks: Path, count: int, seconds: float) -> list[Work[int]]:
    def prepare(number: int) -> Callable[[], tuple[int, str, float]]:
        return lambda: (number, str(marks), seconds)

    return [Work(f"square-{number}", squared, prepare(number)) for number in range(count)]


def connected(cluster: LoopbackCluster) -> Cluster:
    return Cluster(cluster.address, ADMISSION, patience_s=PATIENCE_S)


def times(marks: Path, name: str) -> int:
    path = marks / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


def kept_of(farm: Cluster | Local, tasks: list[Work[int]]) -> list[tuple[str, int]]:
    """What the client keeps of tasks, in the order of keys: a key that came twice would be there twice."""
    kept: list[tuple[str, int]] = []
    stream(farm, tasks, keep=lambda key, value: kept.append((key, value)))
    return sorted(kept)


def test_faults_one_after_the_other(two: LoopbackCluster, marks: Path) -> None:
    """A worker is killed in the middle of a task, another one comes, the scheduler is restarted with new workers."""
    tasks = squares(marks, 12, 0.3)
    farm = connected(two)
    with Local(1) as here:
        expected = kept_of(here, squares(marks.parent / "marks", 12, 0.0))
    for file in marks.iterdir():
        file.unlink()

    def disturb() -> None:
        wait_until(lambda: len(list(marks.glob("*-begun"))) >= 2)
        two.kill_worker("w0")
        two.start_worker("w2")
        wait_until(lambda: len(list(marks.glob("*-done"))) >= 4)
        two.kill_scheduler()
        for name in list(two.workers):
            two.kill_worker(name)
        two.start_scheduler()
        two.start_worker("w3")

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    assert kept_of(farm, tasks) == expected
    disturbing.join()
    assert sum(times(marks, f"{n}-begun") > times(marks, f"{n}-done") for n in range(12)) >= 1, "one was cut short"
    farm.shutdown()


def test_weights_come_once_and_errors_and_refusals_are_told(two: LoopbackCluster, marks: Path) -> None:
    two.start_worker("old", TEST_COMPILER="0.9")
    farm = connected(two)
    wait_until(lambda: len(farm.admitted) == 2 and len(farm.notes) == 1)
    assert farm.notes[0].startswith("worker old (tcp://127.0.0.1:")
    assert farm.notes[0].endswith(") is refused: compiler 0.9 there, 1.0 here")
    values = np.arange(1 << 16, dtype=np.float64).reshape(64, 1024)
    weights = Shared("weights", Weights(values, str(marks)), uses=16)
    rows = [Work(f"row-{row}", row_sum, lambda row=row: (weights, row)) for row in range(16)]  # type: ignore[misc]
    found = stream(farm, rows)
    assert [found[f"row-{row}"] for row in range(16)] == [float(values[row].sum()) for row in range(16)]
    assert times(marks, "arrivals") == 2, "one a worker, none at the one that is refused"
    owned = Work("owned", failing, lambda: (1,), resource="board:k1")
    two.start_worker("owner", "--resources", "board:k1=1")
    assert stream(farm, [owned])["owned"] == 1, "waits for the worker that owns the board"
    with pytest.raises(ValueError, match="three"):
        stream(farm, [Work(f"fail-{n}", failing, lambda n=n: (n,)) for n in range(5)])  # type: ignore[misc]


def test_what_was_begun_is_finished_after_an_interrupt(two: LoopbackCluster, marks: Path) -> None:
    farm = connected(two)
    kept: dict[str, int] = {}

    def interrupt(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(farm, squares(marks, 20, 0.4), keep=kept.__setitem__, finished=interrupt)
    begun = {f"square-{path.name.split('-')[0]}" for path in marks.glob("*-begun")}
    assert kept.keys() <= begun and 2 <= len(begun) <= 8
    assert len(begun - kept.keys()) <= 2, "only what a worker began while it was asked what it had begun"


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="tcp://127.0.0.1:9: no scheduler answers .*`dask scheduler`"):
        Cluster("tcp://127.0.0.1:9", ADMISSION)
    with loopback_cluster(tmp_path / "cluster") as cluster:
        with pytest.raises(ClusterError, match="no worker has come in 1 s; start one with `dask worker tcp"):
            Cluster(cluster.address, ADMISSION, patience_s=1.0)
        cluster.start_worker("old", TEST_COMPILER="0.9")
        with pytest.raises(ClusterError, match=r"no worker may compute: worker old .* compiler 0.9 there, 1.0 here"):
            Cluster(cluster.address, ADMISSION, patience_s=PATIENCE_S)
