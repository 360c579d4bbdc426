"""Files of every framework, format and opset, all the way: converted, compared, explored, exported, verified.

    python benchmarks/frameworks.py [--rows TEXT] [--target NAME] [--only-read | --quick] [--docs]

The frameworks write the files themselves (`kit/exports.py`). Each is read and compared with the framework's answers,
its layers are counted against those of the network, and then it is explored with a tiny budget and its knee exported,
which verifies the program under QEMU against onnxruntime. `--docs` writes the table into docs/models.md. Exit code 1 if
a file is refused, wrong, or does not end as a verified bundle.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.kit.page import markdown_table, with_section
from lrf_dse.errors import LrfDseError

if TYPE_CHECKING:
    from lrf_dse.models.model import Model

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
EXPORTS = Path(__file__).parent / "kit" / "exports.py"
FRAMEWORKS = ("tensorflow", "torch", "scikit-learn", "onnxruntime")
TIMEOUT_S = 900

TOLERANCE = {False: 1e-3, True: 0.1}
"""Of max |y|, by whether the weights were rounded to 8 bits: what the file computes then is not what was trained."""

HEADER = ("framework", "by", "format", "opset", "read", "error", "layers", "explored", "best", "verified", "error")


@dataclass
class Outcome:
    """How far one file came; figures are None from where it did not go on, and `said` is the refusal.

    `error` is against the framework, `gain` of the fastest plan, `verified` the exported program's error under QEMU.
    """

    row: Mapping[str, Any]
    error: float | None = None
    layers: int = 0
    gain: float | None = None
    verified: float | None = None
    said: str = ""

    def is_good(self, *, read_only: bool) -> bool:
        """Whether all of it went well."""
        limit = TOLERANCE[bool(self.row.get("dequantize"))]
        is_read = self.error is not None and self.error < limit and self.layers >= self.row["there"]
        return is_read and (read_only or self.verified is not None)


def main() -> int:
    """Write the files, take each through, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="a framework, or a text that is in a file's format or name")
    parser.add_argument("--target", default="spacemit-k1")
    parser.add_argument("--only-read", action="store_true")
    parser.add_argument("--quick", action="store_true", help="explore one network of each framework, format and opset")
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # onnxruntime's tools work on what torch wrote.
        names = {"onnxruntime": ("torch", "onnxruntime")}.get(chosen.rows, (chosen.rows,))
        for row in written(folder, names if chosen.rows in FRAMEWORKS else FRAMEWORKS):
            if chosen.rows in " ".join(map(str, row.values())):
                seen = any(kind_of(past.row) == kind_of(row) for past in outcomes)
                only_read = chosen.only_read or (chosen.quick and seen)
                outcome = taken_through(row, folder, target=None if only_read else chosen.target)
                print(row["file"], *list(vars(outcome).values())[1:], flush=True)
                outcomes.append(outcome)
    lenient = chosen.only_read or chosen.quick
    failed = [outcome for outcome in outcomes if not outcome.is_good(read_only=lenient) or outcome.said]
    table = markdown_table(HEADER, [cells(group) for group in grouped(outcomes)])
    print(f"{table}\n{len(outcomes)} files, {len(failed)} failed")
    if chosen.docs:
        PAGE.write_text(with_section(PAGE.read_text(), "frameworks", table))
    return 1 if failed else 0


def grouped(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """The outcomes of one writer, format and opset together, whatever the network."""
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(kind_of(outcome.row), []).append(outcome)
    return list(groups.values())


def kind_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a line of the table is about."""
    return tuple(row[name] for name in ("framework", "how", "format", "opset"))


def cells(group: Sequence[Outcome]) -> list[str]:
    """One line of the table: files that came so far of all, and the worst figure of each kind."""
    row, of = group[0].row, len(group)
    read = [outcome.error for outcome in group if outcome.error is not None]
    gains = [outcome.gain for outcome in group if outcome.gain is not None]
    verified = [outcome.verified for outcome in group if outcome.verified is not None]
    return [
        *(str(row[key]) for key in ("framework", "how", "format", "opset")),
        f"{len(read)} of {of}",
        f"{max(read):.0e}" if read else "",
        f"{sum(o.layers for o in group)} of {sum(o.row['there'] for o in group)}",
        f"{len(gains)} of {of}",
        f"{max(gains):.2f} x" if gains else "",
        f"{len(verified)} of {of}",
        f"{max(verified):.0e}" if verified else "",
    ]


def written(folder: Path, frameworks: Sequence[str]) -> list[dict[str, Any]]:
    """What each of `frameworks` wrote into `folder`. One that is not installed ends this with its error."""
    rows = []
    for framework in frameworks:
        command = [sys.executable, str(EXPORTS), framework, str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
        rows += json.loads((folder / f"{framework}.json").read_text())
    return rows


def taken_through(row: Mapping[str, Any], folder: Path, *, target: str | None) -> Outcome:
    """Read, compare, explore, export one file; without a target it is only read."""
    from lrf_dse.models.canonical.options import ReadOptions
    from lrf_dse.models.reader import read_with

    outcome, path = Outcome(row), folder / row["file"]
    reading = ReadOptions(batch=1, dequantize=bool(row.get("dequantize")))
    try:
        model = read_with(path, reading)
        outcome.layers = len(model.sites)
        outcome.error = largest_error(model, folder / f"{row['framework']}-{row['network']}.npz")
        if target is not None:
            outcome.gain, outcome.verified = explored(path, folder, row, reading=reading, target=target)
    except LrfDseError as refusal:
        outcome.said = f"{type(refusal).__name__}: {str(refusal).replace(str(folder), '')[:300]}"
    return outcome


def largest_error(model: Model, answers: Path) -> float:
    """Of the model as read against the framework's answers, over all samples, of max |y|."""
    from lrf_dse.models.evaluate import run_session, session_of
    from lrf_dse.models.model import to_onnx

    session, name = session_of(to_onnx(model)), model.inputs[0].name
    with np.load(answers) as data:
        x, y = data["x"], data["y"]
    mine = np.concatenate([np.asarray(run_session(session, {name: row[None]})[0]).reshape(1, -1) for row in x])
    return float(np.abs(mine - y.reshape(len(y), -1)).max() / np.abs(y).max())


def explored(path: Path, folder: Path, row: Mapping[str, Any], *, reading: Any, target: str) -> tuple[float, float]:
    """How many times faster than dense the fastest plan is; the error of the exported program, of max |y|."""
    import lrf_dse

    out = folder / f"run-{path.name}"
    run = lrf_dse.explore(
        path,
        target=target,
        data=folder / f"{row['framework']}-{row['network']}.npz",
        out=out,
        reading=reading,
        metric="mse",
        top=1,
        evaluations=4,
        tune=1,
        bits=("fp32",),
        kernels=("rvv",),
    )
    gain = max(plan.speedup or 0.0 for plan in run.info.rows)
    manifest = lrf_dse.export(run, None, out / "bundle")
    return gain, manifest["verified"]["max_rel_error"]


if __name__ == "__main__":
    sys.exit(main())
