"""What docs/extending.md says is all there is to it: a toy chip, reader, decomposer and kernel, by their files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explored import tiny_model

from lrf_dse.codegen import KernelSpec, StageSchedule, default_schedule, emit
from lrf_dse.codegen.choice import OFFERS
from lrf_dse.codegen.closed_form import STAGE_CYCLES
from lrf_dse.codegen.loops import STAGES
from lrf_dse.codegen.phases import stage_code
from lrf_dse.codegen.plan import StagePlan
from lrf_dse.codegen.text import indented, loop
from lrf_dse.models.compress import Compressor
from lrf_dse.models.reader import read_model
from lrf_dse.models.readers.onnx_file import read_onnx
from lrf_dse.models.readers.registry import READERS
from lrf_dse.models.readers.source import Source
from lrf_dse.pipeline.estimates import estimate
from lrf_dse.resources import data_dir
from lrf_dse.schema import Candidate, FcLayer, Measurement, TTShape
from lrf_dse.target import Target, load_target
from lrf_dse.tt.contraction import Core, Cores
from lrf_dse.tt.moment import Moment
from lrf_dse.tt.numpy_svd import NumpyTtSvd
from lrf_dse.tt.svd import DECOMPOSERS
from lrf_dse.tune import RunnerMeasure

ROOT = Path(__file__).resolve().parent.parent
LAYER = FcLayer("fc", 512, 512, 1, has_bias=True)
SHAPE = TTShape((32, 16), (16, 32), (1, 32, 1))


def test_a_chip_is_a_file(tmp_path: Path) -> None:
    known = (data_dir("targets") / "spacemit-k1.toml").read_text(encoding="utf-8")
    (tmp_path / "costs").mkdir()
    costs = (data_dir("targets") / "costs" / "x60.toml").read_text(encoding="utf-8")
    (tmp_path / "costs" / "toy-core.toml").write_text(costs, encoding="utf-8")
    text = known.replace('name = "spacemit-k1"', 'name = "toy"').replace('costs = "x60"', 'costs = "toy-core"')
    text = text.replace("vlen_bits = 256", "vlen_bits = 512").replace("zvl256b", "zvl512b")
    (tmp_path / "toy.toml").write_text(text, encoding="utf-8")
    toy = load_target(str(tmp_path / "toy.toml"))
    assert (toy.name, toy.fp32_lanes) == ("toy", 16)
    spec = KernelSpec(SHAPE, 512, 512, has_bias=True)
    assert "16 lanes" in emit(spec, default_schedule(spec, toy), toy, name="kernel").source
    mine, like = (estimate(Candidate(LAYER, SHAPE, kernel="rvv"), t).cycles for t in (toy, load_target("spacemit-k1")))
    assert mine is not None and like is not None and 0 < mine < like, "longer vectors at the same costs are faster"


def test_a_reader_is_a_function_and_a_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_toy(path: Path) -> Source:
        onnx_file = path.with_suffix(".onnx")
        onnx_file.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
        return read_onnx(onnx_file)

    plain = tiny_model(tmp_path)
    (tmp_path / "other.toy").write_bytes(bytes(255 - byte for byte in plain.read_bytes()))
    monkeypatch.setitem(READERS, ".toy", read_toy)
    assert read_model(tmp_path / "other.toy").fc_layers == read_model(plain).fc_layers


def test_a_decomposer_is_a_class_and_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Halved:
        """TT-SVD, and then half of it: an error that nothing else makes."""

        def decompose(self, weight: Core, shape: TTShape, moment: Moment | None = None) -> Cores:
            first, *rest = NumpyTtSvd(0).decompose(weight, shape, moment)
            return (first / np.float32(2), *rest)

    monkeypatch.setitem(DECOMPOSERS, "halved", lambda _seed: Halved())
    model = read_model(tiny_model(tmp_path))
    layer = model.fc_layers[0]
    full = min(layer.out_features, layer.in_features)
    shape = TTShape((layer.out_features, 1), (1, layer.in_features), (1, full, 1))
    found = Compressor(model, seed=0).trial(Candidate(layer, shape, decomposer="halved"))
    assert found.relative_error == pytest.approx(0.5, rel=1e-3)


def test_a_kernel_is_a_text_its_cycles_and_an_offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way: Any = "toy"

    def text(plan: StagePlan, _lanes: int, _target: Target) -> list[str]:
        """Sum after sum in plain C, over panels of A that lie k by k."""
        body, before = [], 0
        for panel in plan.panels:
            term = f"w[{plan.k * before} + k * {panel.width} + r] * s[l * {plan.in_step} + k * {plan.columns} + c]"
            sums = ["float sum = 0;", *loop("k", plan.k, [f"sum += {term};"])]
            sums += [f"out[l * {plan.out_step} + ({panel.row} + r) * {plan.columns} + c] = sum;"]
            head = [f"for (size_t c = 0; c < {plan.columns}; c++) {{", *indented(sums), "}"]
            head = [f"for (size_t r = 0; r < {panel.rows}; r++) {{", *indented(head), "}"]
            body += [f"for (size_t l = 0; l < {plan.batches}; l++) {{", *indented(head), "}"]
            before += panel.width
        return stage_code(plan, "toy", body)

    monkeypatch.setitem(STAGES, way, text)
    monkeypatch.setitem(STAGE_CYCLES, way, lambda *_: 1.0)
    monkeypatch.setitem(OFFERS, way, lambda *_: iter([StageSchedule(way, 1, 1)]))
    target = load_target("spacemit-k1")
    spec = KernelSpec(TTShape((5, 7), (3, 4), (1, 6, 1)), 35, 12, batch=2)  # a size that no other test has
    schedule = default_schedule(spec, target)
    assert {how.vector for how in schedule.stages} == {way}, "what promises one cycle is chosen"
    measured = RunnerMeasure(target)(spec, schedule, tmp_path / "kernel")
    assert isinstance(measured, Measurement), measured
    assert measured.cycles is not None and measured.cycles > 100, "and was verified before it was measured"


def test_every_file_that_a_recipe_names_is_there() -> None:
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:lrf_dse|targets|tests)/[\w/*.]+)`", text)
    assert len(named) > 15
    assert [name for name in named if "NAME" not in name and "CORE" not in name and not list(ROOT.glob(name))] == []
