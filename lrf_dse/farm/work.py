"""A task as a value: a pure function, the values it is called with, and the content key of its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Shared(Generic[Value]):
    """A large argument of many tasks: it is sent to a worker once, and known there by `key`, its content.

    About so many tasks have `uses` for it: no more workers get it at first. One that is not `lasting` leaves the
    workers with the last task that has it.
    """

    key: str
    value: Value
    uses: int = 1
    lasting: bool = True


@dataclass(frozen=True, eq=False)
class Work(Generic[Result]):
    """`function` of the values that `prepare` gives, and a result that `key` identifies.

    The function is one of a module, and its arguments can be pickled. `prepare` is called where the client is, once the
    task is handed out. An argument that is `Shared` reaches the function as its value. `resource` is what a worker must
    own, one task at a time, such as "board:k1".
    """

    key: str
    function: Callable[..., Result]
    prepare: Callable[[], tuple[Any, ...]]
    resource: str | None = None

    def __call__(self) -> Result:
        """The result, computed here."""
        # Only local executors call a Work; a cluster sends its function and arguments apart (`cluster`).
        return self.function(*(one.value if isinstance(one, Shared) else one for one in self.prepare()))
