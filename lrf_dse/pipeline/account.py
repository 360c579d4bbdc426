"""The account of a run: what its sessions took, in its records. One that is killed counts up to its last stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from lrf_dse.jsonform import to_json
from lrf_dse.pipeline.recorded import recorded
from lrf_dse.process.spending import Look, Spending, look, spent_since
from lrf_dse.store import Store

SPENDING_KEY = "spending"


@dataclass(frozen=True)
class Account:
    """What `earlier` sessions of the run took, and since when this one counts."""

    store: Store
    earlier: Spending
    began: Look = field(default_factory=look)

    @staticmethod
    def of(store: Store) -> Account:
        """The account of the run whose records these are, from now on."""
        return Account(store, recorded(store, SPENDING_KEY, Spending) or Spending())

    def keep(self) -> Spending:
        """What the run took by now, which is recorded."""
        spent = self.earlier + spent_since(self.began)
        self.store.put(SPENDING_KEY, "spending", to_json(spent))
        return spent
