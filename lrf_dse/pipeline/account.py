"""The account of a run: the time that its sessions spent. A killed session counts up to its last stage."""

from __future__ import annotations

import time

from lrf_dse.jsonform import from_json, to_json
from lrf_dse.process.spending import Spending, look, spent_since
from lrf_dse.store import Store

KIND = "spending"


class Account:
    """The processor seconds and seconds on the clock that a run takes from now on, kept in its records by `keep`.

    Each part is a record of its own, written once. `spent` adds up those of all sessions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # The time of its start tells sessions apart: each adds records and changes none of an earlier one.
        self._session, self._parts = time.time_ns(), 0
        self._since = look()

    def keep(self) -> None:
        """Record what was spent since the last time."""
        part, self._since = spent_since(self._since), look()
        self._store.put(f"{KIND} {self._session} {self._parts}", KIND, to_json(part))
        self._parts += 1

    @property
    def spent(self) -> Spending:
        """All that is recorded, of earlier sessions too."""
        return sum((from_json(Spending, part.value) for part in self._store.records(KIND)), Spending())
