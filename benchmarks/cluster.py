"""What a task costs on a cluster, measured on loopback; and from that 1 to 1,000 workers on a large language model.

    .venv/bin/python -m benchmarks.cluster measure      # figures of this machine -> docs/many-machines.json
    .venv/bin/python -m benchmarks.cluster scaling 4    # the same programs on 4 workers
    .venv/bin/python -m benchmarks.cluster simulate     # tables of docs/many-machines.md, docs/many-machines.png

`measure` starts a scheduler and one worker on loopback. `simulate` plays the stages of the layers of a model on any
number of workers: every task waits for the scheduler, which hands out one at a time, then for its weights, which leave
the client one after the other and are copied from worker to worker. Searching whole models is not in it: that is one
evaluation after the other, and no task of a layer.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import log2
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.page import markdown_table, with_section
from lrf_dse.farm import Shared, Work, stream
from lrf_dse.farm.cluster import Cluster
from lrf_dse.models.compress import LayerPart
from lrf_dse.models.layer_fit import get_method, try_layer
from lrf_dse.pipeline.blas import few_blas_threads
from lrf_dse.pipeline.fitting import fitted_there
from lrf_dse.pipeline.timing import Bench, _measure, _Way, layer_program
from lrf_dse.pipeline.workers import opened_farm
from lrf_dse.schema import Candidate, FcLayer, TTShape
from lrf_dse.target import load_target
from lrf_dse.tt.spectra import layer_spectra

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, FIGURES, PLOT = (DOCS / f"many-machines.{kind}" for kind in ("md", "json", "png"))

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
TASKS = 300
SCATTER_BYTES = 32 << 20
FIT_SIZE = 512
RANKS = (8, 16, 24, 32, 40, 48)
LINK_BYTES_PER_S = 1.25e9
"""A network of 10 Gbit/s, as between servers; loopback is faster."""

SHAPES, TIMINGS = 12, 12
"""Shapes fitted of a layer, and programs measured of every size of layer: `--top 8` with half as many of low rank."""


@dataclass(frozen=True)
class LanguageModel:
    """The FC layers of a published architecture: (out, in) and how many there are of them."""

    name: str
    layers: Mapping[tuple[int, int], int]


MODELS = (
    # Touvron et al., Llama 2: Open Foundation and Fine-Tuned Chat Models, 2023: 32 blocks of width 4096 and 11008.
    LanguageModel("Llama 2 7B", {(4096, 4096): 4 * 32, (11008, 4096): 2 * 32, (4096, 11008): 32, (32000, 4096): 1}),
    # The same, 80 blocks of width 8192 and 28672; keys and values have 8 heads of 128.
    LanguageModel(
        "Llama 2 70B",
        {
            (8192, 8192): 2 * 80,
            (1024, 8192): 2 * 80,
            (28672, 8192): 2 * 80,
            (8192, 28672): 80,
            (32000, 8192): 1,
        },
    ),
)


@dataclass(frozen=True)
class Costs:
    """What was measured. Bytes are those of a pickled task without shared values, and of its result."""

    task_s: float
    client_cpu_s: float
    scheduler_cpu_s: float
    worker_start_s: float
    scatter_bytes_per_s: float
    timing_bytes: tuple[int, int]
    fit_bytes: tuple[int, int]
    fit_s: float
    spectra_s: float
    program_s: float


def measured() -> Costs:
    """The costs on this machine, one worker on loopback."""
    from distributed.protocol.pickle import dumps

    with loopback(1) as (address, scheduler):
        begin = time.monotonic()
        with opened_farm(address, jobs=1, emulated=True) as farm:
            start_s = time.monotonic() - begin
            stream(farm, [Work("warm", abs, lambda: (1,))])
            begin, own, theirs = time.monotonic(), _own_cpu_s(), _cpu_s(scheduler)
            stream(farm, [Work(f"none-{n}", abs, lambda n=n: (n,)) for n in range(TASKS)])  # type: ignore[misc]
            task_s, own, theirs = ((now - then) / TASKS for now, then in zip(
                (time.monotonic(), _own_cpu_s(), _cpu_s(scheduler)), (begin, own, theirs), strict=True
            ))  # fmt: skip
            values = np.random.default_rng(0).bytes(SCATTER_BYTES)
            begin = time.monotonic()
            stream(farm, [Work("bytes", len, lambda: (Shared("bytes", values),))])
            scatter = SCATTER_BYTES / (time.monotonic() - begin)
    layer = FcLayer("fc", 128, 64, 1, True)
    candidate = Candidate(layer, TTShape((64, 1), (1, 128), (1, 8, 1)))
    target = load_target("spacemit-k1")
    way = _Way(Bench(target), 1, None, ("iree",), None)
    begin = _own_cpu_s()
    outcome = _measure(way, None, partial(layer_program, candidate, seed=0))
    program_s = _own_cpu_s() - begin
    part = LayerPart("fc", np.ones((64, 128), np.float32), None, None, 0)
    made = fitted_there(part, [], [candidate], False, [layer])
    weight = np.random.default_rng(1).standard_normal((FIT_SIZE, FIT_SIZE)).astype(np.float32)
    low = TTShape((FIT_SIZE, 1), (1, FIT_SIZE), (1, 64, 1))
    with few_blas_threads([layer]):
        begin = _own_cpu_s()
        try_layer(weight, low, get_method("tt_svd"), None, seed=0)
        fit_s = _own_cpu_s() - begin
        begin = _own_cpu_s()
        layer_spectra(weight, seed=0)
        spectra_s = _own_cpu_s() - begin
    return Costs(
        task_s,
        own,
        theirs,
        start_s,
        scatter,
        (len(dumps((_measure, way, None, partial(layer_program, candidate, seed=0)))), len(dumps(outcome))),
        (len(dumps((fitted_there, [], [candidate], False, [layer]))), len(dumps(made))),
        fit_s,
        spectra_s,
        program_s,
    )


def scaling(workers: int) -> dict[str, float]:
    """Seconds on the clock that PROGRAMS programs take on so many workers, and how busy the machine was by others."""
    target = load_target("spacemit-k1")
    way = _Way(Bench(target), 1, None, ("iree",), None)
    candidates = [Candidate(FcLayer("fc", 128, 64, 1, True), TTShape((64, 1), (1, 128), (1, r, 1))) for r in RANKS]
    tasks = [
        Work(f"rank-{n}", _measure, partial(tuple, (way, None, partial(layer_program, one, seed=0))))
        for n, one in enumerate(candidates)
    ]
    with loopback(workers) as (address, _), opened_farm(address, jobs=1, emulated=True) as farm:
        assert isinstance(farm, Cluster)
        while len(farm.admitted) < workers:
            time.sleep(0.1)
        stream(farm, [Work(f"warm-{n}", abs, lambda: (1,)) for n in range(4 * workers)])
        begin = time.monotonic()
        stream(farm, tasks)
        return {"seconds": time.monotonic() - begin, "load": os.getloadavg()[0]}


@contextmanager
def loopback(workers: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler and workers of this machine: the scheduler's address and process."""
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        dask = [sys.executable, "-m", "dask"]
        local = ["--host", "127.0.0.1", "--no-dashboard"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        scheduler = subprocess.Popen([*dask, "scheduler", "--port", address.rpartition(":")[2], *local], **quiet)
        time.sleep(5)
        one = [*dask, "worker", address, "--nthreads", "1", "--no-nanny", *local]
        processes = [*(subprocess.Popen(one, **quiet) for _ in range(workers)), scheduler]
        try:
            yield address, scheduler
        finally:
            for process in processes:
                process.terminate()
                process.wait(timeout=30)


def _own_cpu_s() -> float:
    """Processor seconds of this process and of the programs that it waited for: other work does not lengthen them."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Played:
    """One number of workers: seconds, and the shares of them that scheduler and client's link were busy."""

    workers: int
    seconds: float
    scheduler: float
    link: float
    busy: float


def play(model: LanguageModel, costs: Costs, workers: int) -> Played:
    """The stages of a model's layers on so many workers: spectra, programs of every size of layer, then fits."""
    clock = _Clock(costs, workers)
    layers = [size for size, count in model.layers.items() for _ in range(count)]
    layers.sort(key=lambda size: -size[0] * size[1])
    clock.stage([(_scaled(costs.spectra_s, size), n, _bytes(size)) for n, size in enumerate(layers)])
    clock.stage([(_program_s(costs, size), None, 0) for size in model.layers for _ in range(TIMINGS)])
    clock.stage([(_scaled(costs.fit_s, size), n, _bytes(size)) for n, size in enumerate(layers) for _ in range(SHAPES)])
    whole = clock.now
    return Played(workers, whole, clock.scheduler_busy / whole, clock.link_busy / whole, clock.work / whole / workers)


class _Clock:
    """Workers, a scheduler and the client's link, each with the moment from which it is free."""

    def __init__(self, costs: Costs, workers: int) -> None:
        self.costs, self.workers = costs, workers
        self.now = self.scheduler_busy = self.link_busy = self.work = 0.0
        self.arrived: dict[int, float] = {}
        self.holders: dict[int, set[int]] = {}

    def stage(self, tasks: Sequence[tuple[float, int | None, int]]) -> None:
        """Play (seconds, layer or None, its bytes) until all are done: the next stage waits for that."""
        free = [(self.now, worker) for worker in range(self.workers)]
        scheduler, link, end = self.now, self.now, self.now
        per_task = self.costs.client_cpu_s + self.costs.scheduler_cpu_s
        for seconds, layer, size in tasks:
            at, worker = heapq.heappop(free)
            scheduler = max(scheduler, self.now) + per_task
            self.scheduler_busy += per_task
            begin = max(at, scheduler)
            if layer is not None and worker not in self.holders.setdefault(layer, set()):
                send = size / LINK_BYTES_PER_S
                if layer not in self.arrived:
                    link = max(link, self.now) + send
                    self.link_busy += send
                    self.arrived[layer] = link
                    begin = max(begin, link)
                else:  # copies double with every step
                    begin = max(begin, self.arrived[layer]) + send * max(1.0, log2(len(self.holders[layer]) + 1))
                self.holders[layer].add(worker)
            done = begin + seconds
            self.work += seconds
            end = max(end, done)
            heapq.heappush(free, (done, worker))
        self.now = max(end, scheduler)


def _scaled(seconds: float, size: tuple[int, int]) -> float:
    """Seconds of a factorisation, which grows as the larger side times the square of the smaller one."""
    return seconds * max(size) * min(size) ** 2 / FIT_SIZE**3


def _program_s(costs: Costs, size: tuple[int, int]) -> float:
    """A program's seconds: compiling, and two passes of a low rank of a sixteenth at 10 million operations a second."""
    return costs.program_s + 2 * 2 * (size[0] + size[1]) * (min(size) // 16) / 1e7


def _bytes(size: tuple[int, int]) -> int:
    return 4 * size[0] * size[1]


def simulate() -> None:
    """The tables of the page and its plot, from the figures that were measured."""
    known = json.loads(FIGURES.read_text(encoding="utf-8"))
    costs = Costs(**known["costs"])
    played = {model.name: [play(model, costs, workers) for workers in WORKERS] for model in MODELS}
    known["played"] = {name: [asdict(one) for one in rows] for name, rows in played.items()}
    FIGURES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    page = with_section(page, "costs", _costs_table(costs))
    page = with_section(page, "workers", _scaling_table(known.get("scaling", {})))
    for name, rows in played.items():
        header = ("workers", "hours", "times faster", "scheduler and client busy", "client's link busy", "workers busy")
        table = markdown_table(header, [_row(row, rows[0]) for row in rows])
        page = with_section(page, name.lower().replace(" ", "-"), table)
    page = with_section(page, "stops", "\n".join(_why_it_stops(model, costs, played[model.name]) for model in MODELS))
    PAGE.write_text(page, encoding="utf-8")
    _plot(played)


def _row(row: Played, one: Played) -> tuple[str, ...]:
    shares = (f"{100 * share:.1f} %" for share in (row.scheduler, row.link, row.busy))
    return (str(row.workers), f"{row.seconds / 3600:.3g}", f"{one.seconds / row.seconds:.1f}", *shares)


def _scaling_table(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = [(workers, f"{one['seconds']:.1f} s", f"{one['load']:.1f}") for workers, one in sorted(found.items())]
    return markdown_table(("workers", f"{len(RANKS)} programs", "load of the machine"), rows)


def _why_it_stops(model: LanguageModel, costs: Costs, rows: Sequence[Played]) -> str:
    """What bounds the time on the most workers."""
    half = next((row.workers for row in rows if row.busy < 0.5), None)
    largest = max(model.layers, key=lambda size: _scaled(costs.spectra_s, size))
    spectra, fit = (_scaled(seconds, largest) / 3600 for seconds in (costs.spectra_s, costs.fit_s))
    count, last = sum(model.layers.values()), rows[-1]
    hours = last.seconds / 3600
    return (
        f"* {model.name}: from {half} workers on, more than half of them wait. The spectra are {count} tasks, one a "
        "layer, so that more workers than layers have none; and the stages end with their longest tasks: the spectra "
        f"of the {largest[0]} x {largest[1]} layer take {spectra:.2g} hours and a fit of it {fit:.2g}, together "
        f"{100 * (spectra + fit) / hours:.0f} % of the {hours:.3g} hours on {last.workers} workers. Scheduler, client "
        f"and link are busy {100 * max(last.scheduler, last.link):.1f} % of that at most: they are not what stops it. "
        "Spectra that were split by unfolding would move the bend."
    )


def _costs_table(costs: Costs) -> str:
    rows = [
        ("a task that does nothing, on the clock", f"{1e3 * costs.task_s:.2f} ms"),
        ("of it the client's processor time", f"{1e3 * costs.client_cpu_s:.2f} ms"),
        ("of it the scheduler's processor time", f"{1e3 * costs.scheduler_cpu_s:.2f} ms"),
        ("connecting, and the first worker's versions", f"{costs.worker_start_s:.1f} s"),
        ("shared values to a worker", f"{costs.scatter_bytes_per_s / 1e6:.0f} MB/s"),
        ("a program's task, and its result", f"{costs.timing_bytes[0]:,} and {costs.timing_bytes[1]:,} bytes"),
        ("a fit's task, and its result (64 x 128, rank 8)", f"{costs.fit_bytes[0]:,} and {costs.fit_bytes[1]:,} bytes"),
        (f"TT-SVD of {FIT_SIZE} x {FIT_SIZE}, rank 64", f"{costs.fit_s:.2f} processor seconds"),
        (f"spectra of {FIT_SIZE} x {FIT_SIZE}", f"{costs.spectra_s:.2f} processor seconds"),
        ("a program of a 64 x 128 layer, built and run", f"{costs.program_s:.1f} processor seconds"),
    ]
    return markdown_table(("what", "measured"), rows)


def _plot(played: Mapping[str, Sequence[Played]]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for name, rows in played.items():
        axes.plot([r.workers for r in rows], [rows[0].seconds / r.seconds for r in rows], marker="o", label=name)
    axes.plot(WORKERS, WORKERS, color="grey", linestyle=":", label="as many times as workers")
    axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="times faster than one worker")
    axes.set_title("Simulated: all FC layers, spectra, programs and fits")
    axes.legend()
    figure.savefig(PLOT, dpi=120, metadata={"Software": None})


def main() -> None:
    """`measure`, `scaling` or `simulate`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("measure", "scaling", "simulate"), default="measure")
    parser.add_argument("workers", nargs="?", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.what == "simulate":
        simulate()
        return
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    if chosen.what == "measure":
        known["costs"] = asdict(measured())
    else:
        known.setdefault("scaling", {})[str(chosen.workers)] = scaling(chosen.workers)
    FIGURES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
