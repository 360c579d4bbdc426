"""Files of every framework, format and opset, all the way: converted, compared, explored, exported, verified.

    python benchmarks/frameworks.py [--rows TEXT] [--target NAME] [--only-read] [--docs]

The frameworks write the files themselves (`exports.py`). A file is read and compared with the framework's own answers,
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_dse.bench.page import markdown_table, with_section
from lrf_dse.errors import LrfDseError

if TYPE_CHECKING:
    from lrf_dse.models.model import Model

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
EXPORTS = Path(__file__).with_name("exports.py")
FRAMEWORKS = ("tensorflow", "torch", "scikit-learn", "onnxruntime")
TIMEOUT_S = 900

TOLERANCE = {False: 1e-3, True: 0.3}
"""Of max |y|, by whether the weights were rounded to 8 bits: what the file computes then is not what was trained."""

HEADER = (
    "framework",
    "by",
    "format",
    "opset",
    "network",
    "converted",
    "error",
    "layers",
    "explored",
    "exported, verified",
)


def main() -> int:
    """Write the files, take each through, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="only files whose framework, format or name has this text")
    parser.add_argument("--target", default="spacemit-k1")
    parser.add_argument("--only-read", action="store_true")
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [row for row in written(folder) if chosen.rows in " ".join(map(str, row.values()))]
        lines, failed = [], 0
        for row in rows:
            cells, good = taken_through(row, folder, target=None if chosen.only_read else chosen.target)
            print("  ".join(cells), flush=True)
            lines.append(cells)
            failed += not good
    print(f"{len(lines)} files, {failed} failed")
    if chosen.docs:
        PAGE.write_text(with_section(PAGE.read_text(), "frameworks", markdown_table(HEADER, lines)))
    return 1 if failed else 0


def written(folder: Path) -> list[dict[str, Any]]:
    """What every framework wrote into `folder`. A framework that is not installed ends this with its error."""
    rows = []
    for framework in FRAMEWORKS:
        command = [sys.executable, str(EXPORTS), framework, str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
        rows += json.loads((folder / f"{framework}.json").read_text())
    return rows


def taken_through(row: Mapping[str, Any], folder: Path, *, target: str | None) -> tuple[list[str], bool]:
    """The cells of one file, and whether all of it went well; without a target it is only read."""
    from lrf_dse.models.canonical.options import ReadOptions
    from lrf_dse.models.reader import read_with

    cells = [str(row[key]) for key in ("framework", "how", "format", "opset", "network")]
    path, rounded = folder / row["file"], bool(row.get("dequantize"))
    reading = ReadOptions(batch=1, dequantize=rounded)
    try:
        model = read_with(path, reading)
        error = largest_error(model, folder / f"{row['framework']}-{row['network']}.npz")
        cells += ["yes", f"{error:.0e}", f"{len(model.sites)} of {row['there']}"]
        good = error < TOLERANCE[rounded] and len(model.sites) >= row["there"]
        if target is not None:
            cells += explored(path, folder, row, reading=reading, target=target)
    except LrfDseError as refusal:
        return [*cells, f"{type(refusal).__name__}: {str(refusal).replace(str(folder), '')[:200]}"], False
    return cells, good


def largest_error(model: Model, answers: Path) -> float:
    """Of the model as read against the framework's answers, over all samples, of max |y|."""
    from lrf_dse.models.evaluate import run_session, session_of
    from lrf_dse.models.model import to_onnx

    session, name = session_of(to_onnx(model)), model.inputs[0].name
    with np.load(answers) as data:
        x, y = data["x"], data["y"]
    mine = np.concatenate([np.asarray(run_session(session, {name: row[None]})[0]).reshape(1, -1) for row in x])
    return float(np.abs(mine - y.reshape(len(y), -1)).max() / np.abs(y).max())


def explored(path: Path, folder: Path, row: Mapping[str, Any], *, reading: Any, target: str) -> Sequence[str]:
    """Two cells: plans and the fastest one's gain; the error of the exported program."""
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
    )
    rows = run.info.rows
    gain = max(row.speedup or 0.0 for row in rows)
    manifest = lrf_dse.export(run, None, out / "bundle")
    error = manifest["verified"]["max_rel_error"]
    return f"{len(rows)} plans, {gain:.2f} x dense", f"{error:.0e}"


if __name__ == "__main__":
    sys.exit(main())
