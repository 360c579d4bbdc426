"""Tasks handed out to an executor, and their results kept as they come: the client alone keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, as_completed
from typing import Any, Protocol, TypeVar

from lrf_dse.farm.work import Work
from lrf_dse.process.spending import waiting

Result = TypeVar("Result")


class Farm(Protocol):
    """A `concurrent.futures.Executor` of tasks. `ships` says whether they leave this process."""

    @property
    def ships(self) -> bool:
        """Whether tasks leave this process."""
        ...

    @property
    def notes(self) -> list[str]:
        """What the user should know of the workers, one line each."""
        ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As an Executor does."""
        ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As an Executor does: what is being computed is finished."""
        ...


def stream(
    farm: Executor | Farm,
    tasks: Iterable[Work[Result]],
    *,
    keep: Callable[[str, Result], None] = lambda _key, _result: None,
    finished: Callable[[int], None] = lambda _done: None,
) -> Mapping[str, Result]:
    """The result of every task by key; `keep` gets each in this thread when it is there, `finished` how many are.

    The first error, or Ctrl-C, stops what was not begun; what was begun is finished and kept; then it is raised.
    """
    futures: dict[Future[Result], str] = {}
    kept: dict[str, Result] = {}

    def take(future: Future[Result]) -> None:
        key = futures[future]
        kept[key] = future.result()
        keep(key, kept[key])
        del futures[future]  # at the end: Ctrl-C may come before it is kept

    try:
        with waiting():
            for task in tasks:
                futures[farm.submit(task)] = task.key
            for done, future in enumerate(as_completed(list(futures)), 1):
                take(future)
                finished(done)
    except BaseException:
        # BaseException: Ctrl-C is no Exception, and minutes of measuring must not be lost to it.
        farm.shutdown(wait=True, cancel_futures=True)
        for future in [one for one in futures if _has_result(one)]:
            take(future)
        raise
    return kept


def _has_result(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
