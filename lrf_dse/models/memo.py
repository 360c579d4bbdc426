"""What was made lately, kept for the next time it is asked for, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Values by key, up to `most_bytes` by `size_of`; the one that was unused for longest goes first.

    The newest value stays even where it alone is larger.
    """

    def __init__(self, most_bytes: int, size_of: Callable[[V], int]) -> None:
        self._most_bytes, self._size_of = most_bytes, size_of
        self._values: OrderedDict[K, V] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def find(self, key: K) -> V | None:
        """The value of `key`, None where it is not known."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of `key`: the one that is known, or a new one by `make`.

        Threads that build programs ask too. Two may make the same value at a time; the first one stays.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()  # without the lock: making one value may ask for others, and takes its time
        with self._lock:
            if key in self._values:
                return self._values[key]
            self._values[key] = value
            self._bytes += self._size_of(value)
            while self._bytes > self._most_bytes and len(self._values) > 1:
                self._bytes -= self._size_of(self._values.popitem(last=False)[1])
        return value
