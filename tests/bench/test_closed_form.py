"""The kept measurements, the fit to them, and a program or two measured again."""

import random
import re
import runpy
import tomllib

import numpy as np
import pytest
from onnx import helper, numpy_helper

from lrf_dse.bench.closed_form import draw, layer_name, measure, read_samples, write_samples
from lrf_dse.bench.closed_form_fit import closed_form_text, fitted
from lrf_dse.builders.hal import read_schedule
from lrf_dse.builders.iree import compile_to_hal, import_onnx
from lrf_dse.builders.schedule import Dispatch
from lrf_dse.cost.closed_form import KERNEL_TERMS, predicted_cycles
from lrf_dse.cost.counts import parameters
from lrf_dse.cost.machine import machine_of
from lrf_dse.cost.matmuls import MatMul, tiling
from lrf_dse.resources import data_dir
from lrf_dse.schema import FcLayer
from lrf_dse.target import ClosedForm, load_target

ROOT = data_dir("targets").parent
K1 = load_target("spacemit-k1")
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "closed_form.py"))
SAMPLES = read_samples(BENCHMARK["DATA"])
HELD_OUT = [sample for sample in SAMPLES if layer_name(sample.candidate) not in BENCHMARK["FITTED"]]


def test_there_is_as_much_data_as_was_asked_for():
    assert len({sample.candidate for sample in SAMPLES}) == len(SAMPLES)
    assert len({layer_name(sample.candidate) for sample in SAMPLES}) >= 10
    assert len({layer_name(sample.candidate) for sample in HELD_OUT}) == 10


def test_layers_that_were_not_fitted_to_meet_the_goals():
    """By the shipped coefficients; and TT candidates, every layer by coefficients that are fitted to the others."""
    tt = [sample for sample in SAMPLES if sample.is_tt]
    assert len(tt) >= 300
    for judged in (BENCHMARK["judge"](HELD_OUT, K1), BENCHMARK["judge_crossed"](tt, K1)):
        assert judged.meets_goals
        assert np.quantile(np.abs(judged.errors), 0.9) < 0.2


def test_the_shipped_coefficients_are_the_fit_of_the_shipped_data():
    machine = machine_of(K1)
    used = [sample for sample in SAMPLES if layer_name(sample.candidate) in BENCHMARK["FITTED"]]
    fits = {builder: fitted(used, machine, builder) for builder in KERNEL_TERMS}
    for builder, coefficients in fits.items():
        assert coefficients == pytest.approx(K1.closed_form.fits[builder].coefficients, rel=0.02, abs=1e-6)
    text = closed_form_text(machine, fits, command="a test", source="a test")
    assert ClosedForm.model_validate(tomllib.loads(text)).step == K1.closed_form.step
    with pytest.raises(ValueError, match="no sample"):
        fitted([], machine, "iree")


def test_most_shapes_have_the_workgroups_of_the_compiler(tmp_path):
    source = random.Random(5)
    sizes = [1, 2, 4, 5, 8, 10, 14, 15, 16, 20, 24, 28, 30, 32, 40, 48, 49, 60, 64, 80, 96, 98, 100, 128, 200, 256, 300]
    shapes = sorted({(source.choice(sizes), source.choice(sizes)) for _ in range(40)} - {(1, 1)})
    hal = compile_to_hal(import_onnx(_matmuls(shapes), tmp_path), K1)
    dispatched = [c for c in read_schedule(hal.read_text()).commands if isinstance(c, Dispatch)]
    workgroups = {re.search(r"matmul_(\d+x\d+)x8", c.function)[1]: np.prod(c.workgroups) for c in dispatched}
    tilings = {f"{rows}x{columns}": tiling(MatMul(1, rows, columns, 8, "B"), 8) for rows, columns in shapes}
    compared = [t.row_tiles * t.column_tiles == workgroups[n] for n, t in tilings.items() if n in workgroups]
    assert len(compared) >= 30 and np.mean(compared) >= 0.9


def _matmuls(shapes):
    """One model: for every [rows, columns] a MatMul of its own, 8 deep."""
    nodes, ends, weights = [], [], []
    for n, (rows, columns) in enumerate(shapes):
        nodes.append(helper.make_node("MatMul", [f"x{n}", f"w{n}"], [f"y{n}"]))
        weight = np.random.default_rng(n).standard_normal((8, columns), np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{n}"))
        ends.append([helper.make_tensor_value_info(f"x{n}", 1, [rows, 8])])
        ends[-1].append(helper.make_tensor_value_info(f"y{n}", 1, [rows, columns]))
    graph = helper.make_graph(nodes, "layer", [x for x, _ in ends], [y for _, y in ends], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_samples_are_kept_as_text(tmp_path):
    write_samples(tmp_path / "s.csv", SAMPLES)
    assert read_samples(tmp_path / "s.csv") == SAMPLES
    assert (tmp_path / "s.csv").read_text() == BENCHMARK["DATA"].read_text()


def test_drawn_candidates_are_legal_and_differ():
    layer, source = FcLayer("fc", 784, 300, 1, True), random.Random(1)
    drawn = [draw(layer, source, d=1 + n % 4) for n in range(200)]
    found = [candidate for candidate in drawn if candidate is not None]
    assert len(set(found)) > 60
    assert {c.tt_shape.d for c in found} == {2, 3, 4} and {c.order for c in found} == {"last_first", "first_first"}
    for candidate in found:
        assert all(rank % 8 == 0 for rank in candidate.tt_shape.ranks[1:-1])
        assert parameters(candidate.tt_shape, bias=True) < 784 * 300 + 300


def test_a_program_measured_again(tmp_path):
    """The smallest of the kept programs: both builders, verified, as they are measured for the data."""
    sample = min(HELD_OUT, key=lambda each: each.best)
    now = measure(sample.candidate, K1, tmp_path)
    assert now.cycles == pytest.approx(sample.cycles, rel=BENCHMARK["SAME"])
    assert predicted_cycles(sample.candidate, K1) == pytest.approx(now.best, rel=0.2)
