"""A realistic run to report on: LeNet-300-100 on the K1, with numbers of the right size, built without any tool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lrf_dse.cost.funnel import FunnelStep
from lrf_dse.plan.budgets import Budgets
from lrf_dse.report.facts import (
    CandidateResult,
    DataFacts,
    FailedPlan,
    LayerFacts,
    LayerFunnel,
    ModelFacts,
    TensorFacts,
)
from lrf_dse.report.info import ReportInfo
from lrf_dse.report.write import write_report
from lrf_dse.schema import Candidate, Estimate, Failure, FcLayer, Measurement, Plan, TTShape, dense_candidate
from lrf_dse.target import load_target

ROOFLINE = "roofline estimate, spacemit-k1"
QEMU = "instructions counted by QEMU 7.2"
FC1 = FcLayer("fc1", 784, 300, 1, True)
FC2 = FcLayer("fc2 <wide & odd>", 300, 100, 1, True)
FC3 = FcLayer("fc3", 100, 10, 1, True)
LAYERS = (FC1, FC2, FC3)


def params_of(candidate: Candidate) -> int:
    layer, shape = candidate.layer, candidate.tt_shape
    if shape is None:
        return layer.in_features * layer.out_features + layer.out_features
    return sum(a * b * c * d for a, b, c, d in shape.core_shapes) + layer.out_features


def low_rank(layer: FcLayer, rank: int) -> Candidate:
    return Candidate(layer, TTShape((layer.out_features, 1), (1, layer.in_features), (1, rank, 1)))


def result_of(candidate: Candidate, error: float, drop: float | None) -> CandidateResult:
    params = params_of(candidate)
    cycles = params * 4 / 3.4
    measurement = Measurement(
        source=QEMU,
        instructions=int(params * 0.8) + 900,
        counts={"scalar": params // 2 + 900, "vector_arithmetic": params // 5, "vector_memory": params // 10},
        flash_bytes=params * 4 + 9_000,
        ram_bytes=12_288,
        ram_parts={"stack": 4_096, "buffers": 8_192},
        max_abs_error=2.1e-6,
        max_rel_error=3.3e-7,
    )
    return CandidateResult(
        candidate, Estimate(params, 2 * params, 4 * params, cycles, ROOFLINE), measurement, None, error, drop
    )


FC1_OPTIONS = [
    result_of(dense_candidate(FC1), 0.0, 0.0),
    result_of(low_rank(FC1, 48), 0.28, 0.2),
    result_of(low_rank(FC1, 24), 0.46, 1.9),
    result_of(low_rank(FC1, 8), 0.70, 21.0),
    result_of(Candidate(FC1, TTShape((20, 15), (28, 28), (1, 40, 1))), 0.52, 2.5),
    result_of(Candidate(FC1, TTShape((10, 6, 5), (4, 14, 14), (1, 8, 8, 1)), order="first_first"), 0.83, 48.0),
]
FC2_OPTIONS = [
    result_of(dense_candidate(FC2), 0.0, 0.0),
    result_of(low_rank(FC2, 24), 0.33, 0.1),
    result_of(low_rank(FC2, 8), 0.61, 1.6),
]
FC3_OPTIONS = [result_of(dense_candidate(FC3), 0.0, 0.0)]
BROKEN = replace(
    result_of(low_rank(FC2, 16), 0.45, None),
    measurement=None,
    failure=Failure("verify", "output differs by 0.3 relative to max |y| (limit 1e-4)", ("kept/fc2.vmfb",)),
)


def plan_of(name: str, picks: Sequence[CandidateResult], accuracy: float, dense_accuracy: float = 97.6) -> Plan:
    params = sum(r.estimate.params for r in picks)
    return Plan(
        id=name,
        choices=tuple(r.candidate for r in picks),
        cycles=params * 4 / 3.4 + 2_000,
        latency_source=ROOFLINE,
        instructions=int(params * 0.8) + 4_000,
        flash_bytes=params * 4 + 21_000,
        ram_bytes=14_336 + 64 * len(name),
        weight_error=round(sum(r.weight_error or 0 for r in picks) / 3, 4),
        accuracy=accuracy,
        drop_points=round(dense_accuracy - accuracy, 4),
        test_accuracy=accuracy - 0.3,
    )


PLANS = tuple(
    plan_of(name, (FC1_OPTIONS[i], FC2_OPTIONS[j], FC3_OPTIONS[0]), accuracy)
    for name, i, j, accuracy in [
        ("dense", 0, 0, 97.6),
        ("p1", 1, 0, 97.5),
        ("p2", 1, 1, 97.3),
        ("p3", 2, 1, 95.6),
        ("p4", 4, 1, 94.8),
        ("p5", 2, 2, 93.9),
        ("p6", 3, 2, 71.4),
        ("p7", 5, 2, 44.0),
        ("p8", 0, 1, 97.4),
    ]
)


def funnel_of(layer: FcLayer, counts: Sequence[int]) -> LayerFunnel:
    names = ("whole space", "aligned", "rank multiple", "below dense", "front", "top")
    reasons = (
        "every ordered shape pair with every uniform rank, and plain low rank",
        "another order of the same factors has no more FLOPs (out descending, in ascending)",
        "rank is not a multiple of 8",
        "not fewer parameters than dense",
        "another is no worse in FLOPs, parameters and error bound",
        "beyond the 16 that spread along the front",
    )
    before = (counts[0], *counts)
    return LayerFunnel(
        layer.name,
        tuple(FunnelStep(n, c, b - c, r) for n, c, b, r in zip(names, counts, before, reasons, strict=False)),
    )


def sample_info(**changes: Any) -> ReportInfo:
    layers = tuple(
        LayerFacts(layer, params_of(dense_candidate(layer)), layer.in_features * layer.out_features) for layer in LAYERS
    )
    facts: dict[str, Any] = {
        "title": "LeNet-300-100 on SpacemiT K1",
        "created": "2025-01-02 03:04 UTC",
        "command": "lrf-dse explore lenet300.onnx --target spacemit-k1 --data calib.npz --max-drop 1.0",
        "seed": 7,
        "model": ModelFacts(
            name="lenet300.onnx",
            sha256="ab" * 32,
            inputs=(TensorFacts("x", (1, 784), "float32"),),
            outputs=(TensorFacts("logits", (1, 10), "float32"),),
            layers=layers,
            params=sum(f.params for f in layers),
            macs=sum(f.macs for f in layers),
            skipped=(("embed", "weights are int8: only fp32 weights are factorised"),),
        ),
        "target": load_target("spacemit-k1"),
        "data": DataFacts("calib.npz", "cd" * 32, 1000, 1000, True),
        "funnel": (
            funnel_of(FC1, (292_000, 20_150, 2_530, 1_204, 210, 16)),
            funnel_of(FC2, (90_500, 8_100, 1_010, 420, 88, 16)),
        ),
        "candidates": (*FC1_OPTIONS, *FC2_OPTIONS, BROKEN, *FC3_OPTIONS),
        "plans": PLANS,
        "chosen": "p2",
        "chosen_reason": "Knee of the front among the plans within the budgets: drop at most 1 point.",
        "instructions_source": QEMU,
        "budgets": Budgets(max_drop=1.0, max_flash_bytes=700_000),
        "failed_plans": (FailedPlan("p9", PLANS[1].choices, Failure("build", "iree-compile: error </script><b>x")),),
        "warnings": ("Only 1,000 validation samples for a layer with 784 inputs: accuracies are uncertain.",),
        "environment": {"Python": "3.11.7", "System": "Linux 6.1 x86_64", "CPU count": "2"},
        "tool_versions": {"iree": "3.13.0", "zig": "0.17.0", "qemu-riscv64": "7.2.15", "onnxruntime": "1.23.0"},
    }
    return ReportInfo(**{**facts, **changes})


def without_accuracy(info: ReportInfo) -> ReportInfo:
    plans = tuple(replace(p, accuracy=None, drop_points=None, test_accuracy=None) for p in info.plans)
    return replace(info, plans=plans, data=None, budgets=Budgets())


def without_timing(info: ReportInfo) -> ReportInfo:
    plans = tuple(replace(p, cycles=None, latency_source="none") for p in info.plans)
    return replace(info, plans=plans, target=load_target("qemu-rv64gcv"))


@pytest.fixture
def make_info() -> Callable[..., ReportInfo]:
    """`make_info(field=value, ...)`: the sample run with some fields replaced."""
    return sample_info


@pytest.fixture
def info() -> ReportInfo:
    return sample_info()


@pytest.fixture
def info_without_accuracy(info: ReportInfo) -> ReportInfo:
    return without_accuracy(info)


@pytest.fixture
def info_without_timing(info: ReportInfo) -> ReportInfo:
    return without_timing(info)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's whole report, written once."""
    folder = tmp_path_factory.mktemp("report")
    write_report(sample_info(), folder)
    return folder
