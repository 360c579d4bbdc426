"""docs/accuracy.md and its plot, from the figures of benchmarks/accuracy.py and benchmarks/decomposers.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.kit.accuracy import FAMILIES, MIXED
from benchmarks.kit.page import markdown_table

Row = Mapping[str, Any]

ROWS = (*(family.name for family in FAMILIES), MIXED)

UNITS = {"lenet300": "points of top-1", "patches": "points of top-1", "inpaint": "% of the dense mean squared error"}
"""What a drop is counted in, by example."""

RELATIVE = frozenset(name for name, unit in UNITS.items() if unit.startswith("%"))
"""The examples whose drops are relative to the dense model's error."""

TITLES = {
    "lenet300": "LeNet-300-100, digits",
    "patches": "transformer on 16 patches of a digit (3-D MatMul)",
    "inpaint": "inpainting a digit (regression)",
}

METHOD_NAMES = {"t3f": "t3f TT-SVD", "tt_svd": "numpy TT-SVD", "whitened": "whitened", "als": "TT-ALS"}


def page(figures: Mapping[str, Sequence[Row]], decomposers: Sequence[Row]) -> str:
    """The whole page."""
    parts = [_HEAD, *([str(figures["note"])] if "note" in figures else [])]
    for name in dict.fromkeys(row["example"] for row in figures["rows"]):
        parts += [f"## {TITLES[name]}", _what_is_lost(figures, name), _drops(figures, name)]
        if figures["alone"] and figures["alone"][0]["example"] == name:
            parts += ["The first layer alone, the others dense:", _alone(figures["alone"])]
    parts += [
        "## Fine-tuning",
        _TUNING,
        _tuned(figures),
        "## Predicted and measured drop",
        _PREDICTED,
        _predicted(figures),
    ]
    parts += ["## Time and memory of a fit", _DECOMPOSERS, _fits(decomposers)]
    return "\n\n".join(parts) + "\n"


_HEAD = """# Accuracy: what each decomposer keeps

Made by `make accuracy`, which writes the figures to [accuracy.json](accuracy.json). Every decomposer gets the same
allocation: of each layer's options the ones that together keep the parameters of all fully connected layers (with
biases) below 1/ratio, with the least error of outputs on rows that fits have not seen, layers weighed by what their
errors do to the model's output. Fits see calibration.npz of the example only. The validation part of validation.npz
decides whether later layers are corrected for what earlier ones lose, and whether hidden units are reordered; the test
part is what is shown. The decomposers keep fp32; "selected" is what `explore --objective accuracy --max-bytes` chooses,
at the bytes of this ratio, with every storage (x54 behind a drop says that fewer bytes already lose the least).
Brackets are 95% intervals of the drop by a paired bootstrap.

![Drop against ratio](accuracy.png)

Drops below 0.05, gains among them, are drawn at 0.05."""

_REGRESSION = """Drop in % of the dense mean squared error, on the test part: where the dense network has {dense:.4f}
(pixels in 0..1), a drop of 25 is an error of {more:.4f} and a drop of 100 one of {twice:.4f}. The damaged digits as
they come are {damaged:.4f} off, a drop of {damage:.0f}: a network that loses more than that does harm."""

_TUNING = """The three families that lose least on the validation part are trained end to end on the example's training
data, toward the dense model (`explore --finetune`); the best epoch and family by the validation part is shown, on the
test part. Drops are in the unit of the example's table above. The control is the dense model trained in the same
way: a negative drop is a gain."""

_PREDICTED = """What `explore` predicts first is the sum of the drops with one layer replaced at a time, on the
validation part; whole models then lose less or more, and the selection loop corrects the prediction by what it
measures. Here are all combinations of the tables above, by their predicted drop in the unit of their table."""

_DECOMPOSERS = """`benchmarks/decomposers.py`: one fit of random weights with 1,024 calibration rows in a process of its
own. Time is processor time on one thread. Memory is how far the process grew beyond the weights, the calibration rows
and what is imported. Errors are relative: of the weights, which TT-SVD makes small, and of the layer's outputs on rows
held out, which the others make small; random weights are the worst case, nothing of them can be left out."""


def _what_is_lost(figures: Mapping[str, Sequence[Row]], name: str) -> str:
    """The unit of the example's table, and what its dense model reaches."""
    dense = next(row for row in figures["dense"] if row["example"] == name)
    value, samples = dense["value"], dense["samples"]
    if name not in RELATIVE:
        unit = UNITS[name]
        return f"Drop in {unit} on the test part, {samples:,} samples, where the dense network has {value:.2f} %."
    damaged = dense["untouched"]
    damage = 100 * (damaged / value - 1)
    return _REGRESSION.format(dense=value, more=1.25 * value, twice=2 * value, damaged=damaged, damage=damage)


def _drops(figures: Mapping[str, Sequence[Row]], name: str) -> str:
    rows = [row for row in figures["rows"] if row["example"] == name]
    ratios = sorted({row["asked"] for row in rows})
    cells = {(row["family"], row["asked"]): _drop(row) for row in rows}
    table = [[family, *(cells.get((family, r), "-") for r in ratios)] for family in ROWS]
    selected = {row["asked"]: row for row in figures["selected"] if row["example"] == name}
    if selected:
        table.append(["**selected**", *(_selected(selected.get(ratio)) for ratio in ratios)])
    return markdown_table(["decomposer", *(f"x{r}" for r in ratios)], table)


def _selected(row: Row | None) -> str:
    """The drop, and the ratio where that is another one than was asked for."""
    if row is None:
        return "-"
    return f"**{_drop(row)}**" + (f" (x{row['ratio']:.0f})" if row["ratio"] >= 1.25 * row["asked"] else "")


def _alone(rows: Sequence[Row]) -> str:
    table = [[row["family"], row["choices"][0], _drop(row)] for row in rows]
    return markdown_table(["decomposer", "choice", f"drop at x{rows[0]['asked']}"], table)


def _drop(row: Row) -> str:
    digits = 1 if row["example"] in RELATIVE else 2
    return f"{row['test']:.{digits}f} [{row['test_low']:.{digits}f}, {row['test_high']:.{digits}f}]"


def _tuned(figures: Mapping[str, Sequence[Row]]) -> str:
    table = [
        [row["example"], f"x{row['ratio']:.1f}", row["family"], f"{row['before']:.2f}", _drop(row), row["best_epoch"]]
        for row in figures["finetuned"]
    ]
    table += [
        [row["example"], "x1", "dense control", "0.00", _drop(row), row["best_epoch"]] for row in figures["control"]
    ]
    return markdown_table(["example", "ratio", "start", "drop before", "drop after", "best epoch"], table)


POINTS, PERCENT = (0.5, 1.0, 2.0, 5.0, 20.0, inf), (5.0, 20.0, 50.0, 100.0, 200.0, 500.0, inf)
"""Upper ends of the bands of predicted drops, by unit."""


def _predicted(figures: Mapping[str, Sequence[Row]]) -> str:
    table = []
    for name in dict.fromkeys(row["example"] for row in figures["rows"]):
        low = -inf
        for high in PERCENT if name in RELATIVE else POINTS:
            inside = [row for row in figures["rows"] if row["example"] == name and low < row["predicted"] <= high]
            if inside:
                means = [sum(row[key] for row in inside) / len(inside) for key in ("predicted", "validation", "test")]
                band = f"above {low:g}" if high == inf else f"up to {high:g}"
                table.append([name, band, len(inside), *(f"{mean:.2f}" for mean in means)])
            low = high
    return markdown_table(
        ["example", "predicted", "combinations", "mean predicted", "mean, validation", "mean, test"], table
    )


def _fits(rows: Sequence[Row]) -> str:
    table = [
        [
            row["layer"],
            row["shape"],
            METHOD_NAMES[row["method"]],
            *(
                [row["failed"], "-", "-", "-"]
                if "failed" in row
                else [
                    f"{row['seconds']:.1f} s",
                    f"{row['bytes'] / 2**20:,.0f} MB",
                    f"{row['weight_error']:.4f}",
                    f"{row['output_error']:.4f}",
                ]
            ),
        ]
        for row in rows
    ]
    return markdown_table(["layer", "shape", "decomposer", "time", "memory", "error, weights", "error, outputs"], table)


def plot(figures: Mapping[str, Sequence[Row]], path: Path) -> None:
    """One panel an example: drop on the test half against the ratio, a line a decomposer, fine-tuned ones as stars."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row["example"] for row in figures["rows"]))
    drawing, panels = plt.subplots(1, len(names), figsize=(5.2 * len(names), 4.2), layout="constrained", squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        for family in ROWS:
            mine = [row for row in figures["rows"] if row["example"] == name and row["family"] == family]
            if mine:
                ratios = [row["ratio"] for row in mine]
                axes.plot(ratios, [max(row["test"], 0.05) for row in mine], marker=".", label=family)
        tuned = [row for row in figures["finetuned"] if row["example"] == name]
        ratios, drops = [row["ratio"] for row in tuned], [max(row["test"], 0.05) for row in tuned]
        axes.plot(ratios, drops, "k*", markersize=10, label="fine-tuned")
        if name not in RELATIVE:  # the point that a user may want to lose at most
            axes.axhline(1.0, color="0.6", linewidth=1, linestyle=":")
        axes.set(title=TITLES[name].split(" (")[0], xscale="log", yscale="log", xlabel="times fewer parameters")
        axes.set_ylabel(f"drop, {UNITS[name]}")
        asked = sorted({row["asked"] for row in figures["rows"] if row["example"] == name})
        axes.set_xticks(asked, [f"x{ratio}" for ratio in asked])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize="small")
    drawing.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(drawing)
