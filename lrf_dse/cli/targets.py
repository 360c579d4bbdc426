"""The command `lrf-dse targets`: it lists the chips that are known, or what is known of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lrf_dse.cli.show import print_json, print_line, print_table

if TYPE_CHECKING:
    from lrf_dse.target import Target


def command(
    name: Annotated[str | None, typer.Argument(help="A target's name, or a path to its .toml file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the targets, or show the figures of one with their sources."""
    from lrf_dse.target import load_target, target_names

    if name is not None:
        _show(load_target(name), as_json=as_json)
        return
    targets = [load_target(known) for known in target_names()]
    if as_json:
        print_json([target.model_dump(mode="json", include={"name", "title", "isa"}) for target in targets])
        return
    rows = [
        (
            target.name,
            target.title,
            str(target.isa.vlen_bits or "-"),
            str(target.core.count),
            "cycles" if target.has_timing else "instructions",
        )
        for target in targets
    ]
    print_table("Targets", ("name", "chip", ">VLEN", ">cores", "latency in"), rows)


def _show(target: Target, *, as_json: bool) -> None:
    from lrf_dse.report.info import target_figures
    from lrf_dse.target import timing_figures

    if as_json:
        print_json(target.model_dump(mode="json"))
        return
    print_line(f"{target.name}: {target.title}, {target.isa.march}, {target.core.count} cores")
    if target.core.fma_per_cycle and target.core.freq_hz:
        # A fused multiply-add counts as two operations.
        peak = 2 * target.core.fma_per_cycle.value * target.core.freq_hz.value / 1e9
        print_line(f"peak: {peak:.1f} GFLOP/s fp32 on one core")
    rows = [(name, f"{figure.value:g}", figure.basis, figure.source) for name, figure in target_figures(target)]
    if rows:
        print_table("Figures", ("figure", ">value", "basis", "source"), rows)
    else:
        print_line("no timing model: latency is counted in executed instructions")
    if target.timing is not None:
        parts = [(name, text, known.basis, known.source) for name, text, known in timing_figures(target.timing)]
        print_table("Timing model", ("part", "cost", "basis", "source"), parts)
