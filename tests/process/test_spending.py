"""Processor time is counted once, under what it was spent on, programs' time with that of what they started."""

from __future__ import annotations

import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lrf_dse.jsonform import from_json, to_json
from lrf_dse.process import Limit, run
from lrf_dse.process.spending import REST, Spending, look, spent_on, spent_since, waiting

BUSY_S = 0.25


def work(seconds: float = BUSY_S) -> None:
    """Keep this thread busy for so much processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


def test_a_block_inside_another_counts_for_its_own_purpose() -> None:
    before = look()
    with spent_on("judge"):
        work()
        with spent_on("fit"):
            work()
        work()
    work()
    spent = spent_since(before)
    assert spent.cpu_s["judge"] == pytest.approx(2 * BUSY_S, rel=0.3)
    assert spent.cpu_s["fit"] == pytest.approx(BUSY_S, rel=0.3)
    assert spent.cpu_s[REST] == pytest.approx(BUSY_S, rel=0.3)
    assert spent.total_wall_s >= spent.total_cpu_s * 0.9


def test_threads_count_for_themselves_while_the_main_thread_waits() -> None:
    def task(purpose: str) -> None:
        with spent_on(purpose):
            work()

    before = look()
    with spent_on("search"), waiting(), ThreadPoolExecutor(2) as pool:
        list(pool.map(task, ["compile", "run", "compile"]))
    spent = spent_since(before)
    assert spent.cpu_s["compile"] == pytest.approx(2 * BUSY_S, rel=0.3)
    assert spent.cpu_s["run"] == pytest.approx(BUSY_S, rel=0.3)
    assert spent.cpu_s.get("search", 0.0) < 0.3 * BUSY_S
    assert spent.total_cpu_s == pytest.approx(3 * BUSY_S, rel=0.3)
    assert set(spent.wall_s) >= {"compile", "run"}


def test_programs_count_with_what_they_started() -> None:
    child = f"import time\nwhile time.process_time() < {BUSY_S}: pass"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    before = look()
    with spent_on("compile"):
        run([sys.executable, "-c", parent], name="a compiler", limit=Limit())
    run([sys.executable, "-c", "pass"], name="another", limit=Limit())
    spent = spent_since(before)
    assert spent.cpu_s["compile"] >= BUSY_S
    runs, cpu_s = spent.programs["a compiler"]
    assert runs == 1
    assert cpu_s >= BUSY_S
    assert spent.programs["another"][0] == 1


def test_the_account_is_that_of_the_system() -> None:
    def used() -> float:
        both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        return sum(each.ru_utime + each.ru_stime for each in both)

    at, before = used(), look()
    with spent_on("fit"):
        work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    run([sys.executable, "-c", "pass"], name="a program", limit=Limit())
    assert spent_since(before).total_cpu_s == pytest.approx(used() - at, abs=0.05)


def test_sessions_add_up_and_are_written_down() -> None:
    one = Spending({"fit": 1.0, "run": 2.0}, {"fit": 1.5}, {"zig cc": (2, 0.5)})
    other = Spending({"run": 1.0, "link": 4.0}, {"fit": 0.5}, {"zig cc": (1, 0.25), "iree-compile": (3, 6.0)})
    both = one + other
    assert both == Spending(
        {"fit": 1.0, "run": 3.0, "link": 4.0}, {"fit": 2.0}, {"zig cc": (3, 0.75), "iree-compile": (3, 6.0)}
    )
    assert from_json(Spending, to_json(both)) == both
