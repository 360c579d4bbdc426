"""Names of files and of layers come from anywhere: they break no line, rule no terminal, and end no command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from explored import command, tiny_data, tiny_proto
from models.graphs import matmul_model, saved

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "fc\nblock 2",
    "\x1b[2J\x1b[31mred",
    "[bold]fc[/bold] [/no]",
    "=HYPERLINK(1)",
    "a\tb\r\x00c",
    "\u202eright to left",
    "<script>alert(1)</script>",
    "$x_$ 名前",
    "%s {0} \\n",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_s_name_takes_one_line_and_no_control(name: str, tmp_path: Path) -> None:
    proto = matmul_model()
    proto.graph.node[0].name = name
    done = command("layers", saved(proto, tmp_path))
    plain = command("layers", saved(matmul_model(), tmp_path))
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == len(plain.out.splitlines())
    assert all(letter.isprintable() for letter in done.out.replace("\n", ""))
    shown = json.loads(command("layers", saved(proto, tmp_path), "--json").out)
    assert shown["layers"][0]["name"] == name, "JSON holds the name as it is"


def lrf_dse(arguments: list[bytes], folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    words: list[str | bytes] = [sys.executable, "-c", "from lrf_dse.cli import main; main()", *arguments]
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(words, cwd=folder, env=variables, capture_output=True, timeout=300, check=False)


@pytest.mark.parametrize("variables", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_file_s_name_need_not_be_utf_8(variables: dict[str, str], tmp_path: Path) -> None:
    name = b"net \xff\n\xe9.onnx"
    proto = matmul_model()
    proto.graph.node[0].name = "fc 名前"
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(proto.SerializeToString())
    done = lrf_dse([b"layers", name], tmp_path, **variables)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\n" not in done.stdout.partition(b".onnx")[0], "the title is one line"
    missing = lrf_dse([b"layers", b"none \xff\x1b[2J.onnx"], tmp_path, **variables)
    assert missing.returncode == 2 and missing.stderr.count(b"\n") == 1
    assert missing.stderr.startswith(b"error: ") and b"\x1b" not in missing.stderr


@pytest.mark.soak
def test_an_exploration_with_every_odd_name(tmp_path: Path) -> None:
    """From the model to the report: the folder, the files, the layers, the columns of the tables."""
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/r\xff\xfen =1"))
    folder.mkdir()
    proto = tiny_proto()
    proto.graph.node[0].name, proto.graph.node[2].name = "=1+1\n[/x]", "\x1b[31m$y_$\u202e<b>"
    saved(proto, folder, "ti ny\n.onnx")
    tiny_data(folder, name="data \x1b.npz")
    few = ["--top", 1, "--tune", 1, "--evaluations", 20, "--kernels", "iree"]
    run, files = folder / "run \t1", [folder / "ti ny\n.onnx", "--data", folder / "data \x1b.npz"]
    done = command("explore", *files, "--target", "qemu-rv64gcv", *few, "-o", run, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert all(letter.isprintable() for letter in done.out.replace("\n", ""))
    for table in ("plans.csv", "candidates.csv"):
        cells = [cell for line in (run / table).read_text(encoding="utf-8").splitlines() for cell in line.split(",")]
        assert not [cell for cell in cells if cell.strip('"').startswith(("=", "+", "@"))]
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["model"]["layers"][0]["name"] == "=1+1\n[/x]"
    assert command("report", run).code == 0
    assert command("export", run, "-o", folder / "bundle").code == 0
