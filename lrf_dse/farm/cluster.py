"""Dask distributed as an executor of tasks: sent out by content key, sent again where they were lost.

Owns the connection and what happens when a part of the cluster goes away. A worker that dies is the scheduler's
business, which gives its tasks to others. What only that worker held (a scattered value) and what the scheduler itself
forgot (it was restarted) comes back as cancelled: it is scattered and sent again. Tasks are pure, so that a task which
was computed twice counts once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, wait
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakValueDictionary

from lrf_dse.errors import ClusterError
from lrf_dse.farm.admission import Admission, check_in
from lrf_dse.farm.work import Shared, Work

if TYPE_CHECKING:
    import distributed

CONNECT_S = 10.0
"""Seconds that a scheduler may take to answer."""

PATIENCE_S = 300.0
"""Seconds without a scheduler, or without a worker that may compute, after which a run ends: a machine has restarted by
then. What was computed is recorded."""

_GRACE_S = 5.0
"""Seconds to wait for another worker where the first ones are refused."""

_SPREAD_S = 2.0
"""A value that was not used for so long may have lost its copies: Dask drops those that no task waits for."""

_TICK_S = 0.5
"""Seconds between two looks at the scheduler and its workers."""

_RETRIES = 2
"""Retries of a task that raised: a full disk or a missing tool is one machine's, and the next try may get another."""

_CONFIG = {
    "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
    "distributed.client.heartbeat": "5s",
}


_GONE = (OSError, TimeoutError, CancelledError, asyncio.CancelledError)
"""What Dask raises where the scheduler or a worker went away."""

_GONE_OR_NOBODY = (*_GONE, ClusterError)

_LOST = {"cancelled", "lost"}


@dataclass(eq=False)
class _Sent:
    """A task that has no result yet: its arguments, and Dask's handle of its latest try."""

    work: Work[Any]
    arguments: tuple[Any, ...]
    handle: Any = None
    tries: int = 0
    shared: tuple[Any, ...] = ()  # keeps the scattered values on the workers


class Cluster(Executor):
    """The workers of the scheduler at `address` that `admission` admits. Raises ClusterError if there is none.

    `notes` names the workers that were refused, and why.
    """

    ships = True

    def __init__(self, address: str, admission: Admission, *, patience_s: float = PATIENCE_S) -> None:
        self.notes: list[str] = []
        self._address, self._admission, self._patience_s = address, admission, patience_s
        self._lock = threading.RLock()
        self._pending: dict[Future[Any], _Sent] = {}
        self._lasting: dict[str, distributed.Future[Any]] = {}
        self._passing: WeakValueDictionary[str, distributed.Future[Any]] = WeakValueDictionary()
        self._spread_at: dict[str, float] = {}
        self._refused: set[str] = set()
        self.admitted: tuple[str, ...] = ()
        self._closed = threading.Event()
        self._last_seen = time.monotonic()
        self._client = self._connected()
        try:
            self._wait_for_a_worker()
        except BaseException:
            self._client.close(timeout=1)
            raise
        self._watcher = threading.Thread(target=self._watch, name="lrf-dse-cluster", daemon=True)
        self._watcher.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Send a `Work`; any other callable is one whose result nobody else may use."""
        work = fn if isinstance(fn, Work) else Work(uuid4().hex, partial(fn, *args, **kwargs), tuple)
        future: Future[Any] = Future()
        sent = _Sent(work, work.prepare())
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending[future] = sent
        self._send(future, sent)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Close the connection; `wait` until what is being computed is there, which is not cancelled either."""
        if self._closed.is_set():
            return
        if cancel_futures:
            self._cancel_what_waits()
        if wait:
            _wait_for(list(self._pending))
        self._closed.set()
        # The watcher ends first: it would open a closed connection again.
        self._watcher.join()
        self._client.close(timeout=5)

    # Tasks

    def _send(self, future: Future[Any], sent: _Sent) -> None:
        """Hand a task to the scheduler. Where that fails, the watcher finds the task unsent and tries again."""
        sent.tries += 1
        # For a key that it knows Dask's client gives the handle that it has, a lost one too: each try has a key of its
        # own.
        key = f"lrf-dse-{sent.work.key}" if sent.tries == 1 else f"lrf-dse-{sent.work.key}-{sent.tries}"
        resources = {self._admission.label: 1} | ({sent.work.resource: 1} if sent.work.resource else {})
        try:
            sent.shared = tuple(self._scattered(one) if isinstance(one, Shared) else None for one in sent.arguments)
            pairs = zip(sent.arguments, sent.shared, strict=True)
            arguments = [one if scattered is None else scattered for one, scattered in pairs]
            sent.handle = self._client.submit(
                sent.work.function,
                *arguments,
                key=key,
                resources=resources,
                retries=_RETRIES,
                pure=True,
            )
        except _GONE:
            sent.handle = None
            return
        sent.handle.add_done_callback(partial(self._take, future, sent))

    def _scattered(self, shared: Shared[Any]) -> distributed.Future[Any]:
        """Dask's handle of a value that workers hold once each, copied from worker to worker.

        The copies come before the tasks: Dask gives a task to a worker that has what it needs, so that with one copy
        all tasks would be one worker's.
        """
        scattered = self._lasting.get(shared.key) or self._passing.get(shared.key)
        workers, now = list(self.admitted), time.monotonic()
        if scattered is None or scattered.status != "finished":
            key = f"lrf-dse-shared-{shared.key}"
            scattered = self._client.scatter({key: shared.value}, workers=workers or None)[key]
            (self._lasting if shared.lasting else self._passing)[shared.key] = scattered
            self._spread_at.pop(shared.key, None)
        if shared.uses > 1 and now - self._spread_at.get(shared.key, -inf) > _SPREAD_S:
            self._client.replicate([scattered], n=min(shared.uses, len(workers)), workers=workers)
        self._spread_at[shared.key] = now
        return scattered

    def _take(self, future: Future[Any], sent: _Sent, handle: distributed.Future[Any]) -> None:
        """Called by Dask when a try has ended: pass its result on, unless the try was lost or is not the latest."""
        # A try before the latest may still end: the task is pure, but its result is passed on once.
        if handle is not sent.handle or handle.status not in {"finished", "error"}:
            return
        try:
            error = handle.exception()
            result = handle.result() if error is None else None
        except _GONE:
            return  # its only holder went away meanwhile: the watcher sends it again
        with self._lock:
            if self._pending.pop(future, None) is None:
                return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(self._told(error, sent))

    def _told(self, error: BaseException, sent: _Sent) -> BaseException:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return ClusterError(
                f"task {sent.work.key} ended every worker that began it; the last was {error.last_worker.address}: "
                "has it too little memory?"
            )
        return error

    def _cancel_what_waits(self) -> None:
        """Cancel every task that no worker has begun."""
        begun = self._begun()
        with self._lock:
            waiting = [(f, s) for f, s in self._pending.items() if s.handle is None or s.handle.key not in begun]
            for future, _ in waiting:
                del self._pending[future]
        for future, sent in waiting:
            future.cancel()
            # Whoever waits in as_completed() hears of a cancelled future only by this call (concurrent.futures).
            future.set_running_or_notify_cancel()
            if sent.handle is not None:
                sent.handle.release()

    def _begun(self) -> set[str]:
        try:
            found = self._client.run(_executing, workers=list(self.admitted), on_error="ignore")
        except _GONE:
            return set()
        return {key for keys in found.values() for key in keys}

    # The connection

    def _connected(self) -> distributed.Client:
        import dask
        from distributed import Client

        try:
            with dask.config.set(_CONFIG):
                return Client(self._address, timeout=CONNECT_S, set_as_default=False, name="lrf-dse")
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"{self._address}: no scheduler answers ({error}); start one with `dask scheduler`"
            ) from None

    def _wait_for_a_worker(self) -> None:
        begin = time.monotonic()
        while not self._admit():
            waited = time.monotonic() - begin
            if self.notes and waited > _GRACE_S:
                raise ClusterError(f"{self._address}: no worker may compute: {'; '.join(self.notes)}")
            if waited > self._patience_s:
                raise ClusterError(
                    f"{self._address}: no worker has come in {self._patience_s:.0f} s; "
                    f"start one with `dask worker {self._address} --nthreads 1`"
                )
            time.sleep(_TICK_S / 2)

    def _admit(self) -> tuple[str, ...]:
        """Let new workers check in; the addresses of those that may compute."""
        label = self._admission.label
        # Resources stay with a worker as long as it lives: one that an earlier run admitted needs no question.
        workers = self._client.scheduler_info()["workers"]
        admitted = [address for address, facts in workers.items() if label in facts["resources"]]
        others = workers.keys() - set(admitted)
        new = [address for address in others if workers[address]["id"] not in self._refused]
        if new:
            wanted = dict(self._admission.wanted)
            said = self._client.run(
                check_in, self._admission.ask, wanted, label, workers=new, on_error="return", wait=True
            )
            for address, differs in said.items():
                if differs == []:
                    admitted.append(address)
                elif not isinstance(differs, OSError):  # it went away while it was asked
                    self._refuse(workers[address], address, differs)
        grown, self.admitted = not set(admitted) <= set(self.admitted), tuple(admitted)
        if grown:
            self._send_what_nobody_has()
        return self.admitted

    def _refuse(self, worker: Any, address: str, differs: Any) -> None:
        self._refused.add(worker["id"])
        reason = ", ".join(differs) if isinstance(differs, list) else f"it cannot be asked ({differs})"
        self.notes.append(f"worker {worker['name']} ({address}) is refused: {reason}")

    def _watch(self) -> None:
        while not self._closed.wait(_TICK_S):
            try:
                if self._client.status in {"closed", "closing"}:
                    self._client = self._connected()
                if self._client.status == "running" and self._admit():
                    self._last_seen = time.monotonic()
                    self._send_again()
            except _GONE_OR_NOBODY:  # it goes on while there is patience
                self.admitted = ()
            if time.monotonic() - self._last_seen > self._patience_s:
                self._give_up()

    def _send_what_nobody_has(self) -> None:
        """Send again what no worker could take so far: Dask looks at it when workers join, before they are admitted."""
        with self._lock:
            pending = [(f, s) for f, s in self._pending.items() if s.handle is not None]
        if not pending:
            return
        taken = {key for keys in self._client.processing().values() for key in keys}
        for future, sent in pending:
            if sent.handle.key not in taken and sent.handle.status == "pending":
                self._send(future, sent)

    def _send_again(self) -> None:
        with self._lock:
            lost = [(f, s) for f, s in self._pending.items() if s.handle is None or s.handle.status in _LOST]
        for future, sent in lost:
            self._send(future, sent)

    def _give_up(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        for future in pending:
            future.set_exception(
                ClusterError(
                    f"{self._address}: no worker for {self._patience_s:.0f} s; what was computed is kept, the same "
                    "command goes on"
                )
            )


def _executing(dask_worker: Any) -> list[str]:
    return [task.key for task in dask_worker.state.executing]


def _wait_for(futures: list[Future[Any]]) -> None:
    wait(futures)
