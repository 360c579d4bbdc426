"""Estimates of our kernels, and lower bounds, against the timing plugin: random kernels of every target.

    python benchmarks/estimates.py [--target NAME ...] [--count N] [--iree N] [--seed N] [--list] [--docs]

Of every target with a pipeline model, `--count` kernels of ours (dense, low rank, TT of 2 to 4 cores; batch 1, 4 and
16; one thread, warm) are built, verified and timed, and so are the first `--iree` layers as IREE compiles them. All is
kept in the user's cache, so a stopped run goes on. `--list` prints every kernel; `--docs` writes the table into
docs/estimates.md. Exit code 1 if a program is faster than its lower bound, or a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.kit.page import markdown_table, with_section
from benchmarks.simulators.estimates import Agreement, Compared, agreement, compare_iree, compare_ours, draw_kernels
from lrf_dse.schema import Failure
from lrf_dse.target import Target, load_target, target_names
from lrf_dse.tune import RecordedMeasure, RunnerMeasure, user_records

PAGE = Path(__file__).resolve().parents[1] / "docs" / "estimates.md"
SECTION = "estimates"
IN_ORDER_GOAL, GOAL = 0.10, 0.25
"""Median error: of chips in order with vectors, and of all others."""


@dataclass(frozen=True)
class Row:
    """One target: its kernels, IREE's programs, and what failed."""

    target: Target
    ours: list[Compared]
    iree: list[Compared]
    failures: list[Failure]

    @property
    def agreement(self) -> Agreement:
        """Of our kernels."""
        return agreement(self.ours)

    @property
    def goal(self) -> float:
        """What the median error is to stay below."""
        timing = self.target.timing
        in_order = timing is not None and timing.window is None
        return IN_ORDER_GOAL if in_order and self.target.isa.vlen_bits else GOAL

    @property
    def below_bound(self) -> list[Compared]:
        """Programs that show a bound to be none."""
        return [each for each in (*self.ours, *self.iree) if each.breaks_bound]


def main() -> int:
    """Measure what is not recorded, print the table, write it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timed = [name for name in target_names() if load_target(name).timing is not None]
    parser.add_argument("--target", nargs="+", default=timed, choices=timed)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--iree", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    rows = []
    for name in chosen.target:
        rows.append(measure(load_target(name), seed=chosen.seed, count=chosen.count, iree=chosen.iree))
        print(f"{name}: {len(rows[-1].ours)} + {len(rows[-1].iree)} measured", file=sys.stderr, flush=True)
    if chosen.list:
        print("\n".join(line for row in rows for line in listing(row)))
    text = table(rows)
    print(text)
    for row in rows:
        for failure in row.failures:
            print(f"{row.target.name}: {failure.stage}: {failure.reason}", file=sys.stderr)
    if chosen.docs:
        PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), SECTION, text), encoding="utf-8")
    return int(any(row.below_bound or row.failures or row.agreement.median > row.goal for row in rows))


def measure(target: Target, *, seed: int, count: int, iree: int) -> Row:
    """The kernels of one target, from the records or measured now."""
    kernels, records = list(islice(draw_kernels(seed), max(count, iree))), user_records()
    with tempfile.TemporaryDirectory(prefix="lrf-dse-estimates-") as folder:
        ours = compare_ours(
            kernels[:count], target, Path(folder) / "ours", measure=RecordedMeasure(RunnerMeasure(target), records)
        )
        compiled = compare_iree(kernels[:iree], target, Path(folder) / "iree", records=records)
        found, others = list(ours), list(compiled)
    failures = [each for each in (*found, *others) if isinstance(each, Failure)]
    return Row(
        target,
        [each for each in found if isinstance(each, Compared)],
        [each for each in others if isinstance(each, Compared)],
        failures,
    )


def table(rows: Sequence[Row]) -> str:
    """How far estimates and measurements agree, and whether the lower bound holds."""
    header = [
        "target",
        "kernels",
        "median error",
        "90 % within",
        "worst",
        "Spearman",
        "goal",
        "programs bounded",
        "broken",
    ]
    cells = []
    for row in rows:
        found, programs = row.agreement, len(row.ours) + len(row.iree)
        errors = map(_percent, (found.median, found.ninety, found.worst))
        rank = "-" if found.spearman is None else f"{found.spearman:.3f}"
        cells.append([row.target.name, found.count, *errors, rank, _percent(row.goal), programs, len(row.below_bound)])
    return markdown_table(header, cells)


def listing(row: Row) -> list[str]:
    """Every program of one target, the worst estimate first."""
    ordered = [*sorted(row.ours, key=lambda each: -abs(each.error)), *row.iree]
    return [_line(row.target.name, each) for each in ordered]


def _line(target: str, each: Compared) -> str:
    error = "iree" if each.estimate is None else f"{each.error:+.3f}"
    bound = f"bound {each.bound:.0f}" + (" BROKEN" if each.breaks_bound else "")
    layer = f"{each.spec.in_features}x{each.spec.out_features} batch {each.spec.batch}"
    return f"{target} {error} {each.measured:.0f} {bound} {each.kind}: {layer} {each.spec.shape} {each.schedule}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
