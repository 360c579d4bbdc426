"""Two tables that say what the time of an exploration was spent on."""

from __future__ import annotations

from lrf_dse.cli.show import print_table
from lrf_dse.process.spending import Spending
from lrf_dse.report.spending import spent_rows


def show_spending(spending: Spending) -> None:
    """Processor seconds and seconds on the clock by purpose, and by program."""
    rows = [
        (row.purpose, f"{row.cpu_s:,.1f}", f"{100 * row.share:.0f}", f"{row.wall_s:,.1f}", row.what)
        for row in spent_rows(spending)
    ]
    rows.append(("all", f"{spending.total_cpu_s:,.1f}", "100", f"{spending.total_wall_s:,.1f}", ""))
    print_table("Where the time went, in all sessions of this run", ("for", ">CPU s", ">%", ">clock s", "what"), rows)
    by_time = sorted(spending.programs.items(), key=lambda item: -item[1][1])
    programs = [(name, f"{runs:,}", f"{cpu_s:,.1f}") for name, (runs, cpu_s) in by_time]
    print_table("Programs that were run", ("program", ">times", ">CPU s"), programs)
