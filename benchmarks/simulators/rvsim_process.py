"""Simulate one bare-metal program: the process of its own that `benchmarks.simulators.rvsim` starts.

Run as a file: `python -P rvsim_process.py REQUEST.json PROGRAM CONSOLE.txt RESULT.json`. It imports rvsim and nothing
of this package, and it is no place for decisions: what it is told and what it saw are JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any


def configuration(request: dict[str, Any]) -> Any:
    """The rvsim.Config of `request`, which `benchmarks.simulators.rvsim_model.config_of` made."""
    import rvsim

    units = [getattr(rvsim.Fu, name)(*count_and_latency) for name, count_and_latency in request["units"].items()]
    caches = {
        name: rvsim.Cache(**cache, mshr_count=request["misses"] if name == "l1d" else None)
        for name, cache in zip(("l1d", "l2", "l3"), request["caches"], strict=False)
    }
    stream = request["prefetch"]
    prefetcher = rvsim.LoadPrefetcher.Stride(**stream, page_boundary=rvsim.PageBoundary.CrossWithTlb())
    return rvsim.Config(
        **{"l2": None, "l3": None, **caches},
        **request["config"],
        backend=rvsim.Backend.OutOfOrder(**request["backend"], fu_config=rvsim.Fu(units)),
        load_prefetcher=prefetcher if stream["table_size"] else None,
        memory_controller=rvsim.MemoryController.Simple(**request["memory"]),
        console="captured",
    )


def main(request_path: str, program: str, console_path: str, result_path: str) -> None:
    """Simulate until the program ends or a limit is met; write its console, then what stopped it."""
    import rvsim

    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    # If whoever started this is killed, nobody ends it at the timeout.
    resource.setrlimit(resource.RLIMIT_CPU, (request["max_cpu_s"], request["max_cpu_s"]))
    simulator = rvsim.Simulator(configuration(request), binary=program)
    stopped, code = simulator.run_to(instructions=request["max_instructions"], cycles=request["max_cycles"])
    Path(console_path).write_text(simulator.read_console(), encoding="utf-8")
    result = {"stopped": stopped, "code": code, "instructions": simulator.instructions_retired}
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
