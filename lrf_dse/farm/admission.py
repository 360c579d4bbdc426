"""What a worker must have in common with the client: versions of tools, and arithmetic that rounds alike.

A result is recorded under a key that names the client's tools. A worker with others would give another figure under the
same key, so it gets no task. The client asks every worker once; those that agree get a resource that every task needs,
named after what they agreed on. So two clients with different tools may use one scheduler, each with its own workers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Facts = Mapping[str, str]


@dataclass(frozen=True)
class Admission:
    """`ask` gives the facts of the machine where it is called; `wanted` are the client's."""

    ask: Callable[[], Facts]
    wanted: Facts

    @property
    def label(self) -> str:
        """The resource of workers with these facts."""
        text = json.dumps(dict(self.wanted), sort_keys=True)
        return f"lrf-dse:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


async def check_in(ask: Callable[[], Facts], wanted: Facts, label: str, dask_worker: Any) -> list[str]:
    """Run on a worker: give it the resource `label` if it has the facts that are `wanted`; else how it differs."""
    found = await asyncio.to_thread(ask)  # asking tools takes longer than a worker's loop may stand still
    differs = differences(found, wanted)
    if not differs:
        # As many as it has threads: every task takes one, so that the resource admits a worker and limits nothing.
        await dask_worker.set_resources(**{label: dask_worker.state.nthreads})
    return differs


def differences(found: Facts, wanted: Facts) -> list[str]:
    """What a worker has other than wanted, each in a few words.

    >>> differences({"iree": "3.12.0", "zig": "0.17.0"}, {"iree": "3.13.0", "zig": "0.17.0"})
    ['iree 3.12.0 there, 3.13.0 here']
    """
    names = sorted(wanted.keys() | found.keys())
    return [
        f"{name} {found.get(name, 'is missing')} there, {wanted.get(name, 'none')} here"
        for name in names
        if found.get(name) != wanted.get(name)
    ]
