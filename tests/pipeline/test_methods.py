"""Which methods compete, and how a few evaluations are spent on many shapes; a judge that knows the answers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from lrf_dse.farm import Local
from lrf_dse.pipeline.accuracies import Accuracies
from lrf_dse.pipeline.fit_errors import FitErrors
from lrf_dse.pipeline.methods import competitors, judge_layers
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.tt.output_error import OutputError

LAYERS = [FcLayer(f"fc{k}", 64, 64, 1, True) for k in range(2)]
CANDIDATES = [
    *map(dense_candidate, LAYERS),
    *(Candidate(layer, TTShape((64, 1), (1, 64), (1, r, 1))) for layer in LAYERS for r in (8, 16, 24, 32, 40)),
]


class Answers:
    """Plain TT-SVD loses least on fc0, whitened on fc1; whitened has the least output error everywhere."""

    def __init__(self, *, data: bool = True) -> None:
        self.known = data
        self.compressor = cast(Any, type("Stub", (), {"calibration": data or None}))
        self.asked: list[Candidate] = []

    def output_error(self, candidate: Candidate) -> OutputError:
        if candidate.tt_shape is None:
            return OutputError(0.0)
        return OutputError(1 / candidate.tt_shape.ranks[1] + (0.0 if candidate.decomposer == "whitened" else 0.01))

    def drop_points(self, choices: list[Candidate]) -> float:
        (candidate,) = choices
        self.asked.append(candidate)
        if candidate.tt_shape is None:
            return 0.0
        best = {"fc0": "tt_svd", "fc1": "whitened"}[candidate.layer.name]
        return 100 * self.output_error(candidate).value ** 2 + (0.0 if candidate.decomposer == best else 1.0)

    def to(self, evaluations: int) -> dict[Candidate, Any]:
        """What became of the candidates by these answers."""
        errors, accuracies = cast(FitErrors, self), cast(Accuracies, self)
        return judge_layers(CANDIDATES, errors, accuracies, farm=Local(1), evaluations=evaluations)


def judged_with(evaluations: int) -> tuple[dict[Candidate, Any], Answers]:
    answers = Answers()
    return answers.to(evaluations), answers


def test_accuracy_decides_where_evaluations_allow() -> None:
    judged, answers = judged_with(100)
    assert list(judged) == CANDIDATES
    assert len(answers.asked) == len(set(answers.asked)) == 2 + 10 * 4
    for candidate, found in judged.items():
        if not candidate.is_dense:
            assert found.candidate.decomposer == {"fc0": "tt_svd", "fc1": "whitened"}[candidate.layer.name]
            assert found.measured


def test_output_error_decides_where_they_are_fewer() -> None:
    judged, answers = judged_with(12)
    assert len(answers.asked) == 12
    assert {found.candidate.decomposer for c, found in judged.items() if not c.is_dense} == {"whitened"}


@pytest.mark.parametrize("evaluations", [4, 6])
def test_curves_fill_in_where_they_are_few(evaluations: int) -> None:
    judged, answers = judged_with(evaluations)
    assert len(answers.asked) == evaluations + 2, "and the dense layers, which cost nothing"
    for layer in LAYERS:
        mine = [(c, found) for c, found in judged.items() if c.layer == layer and not c.is_dense]
        assert sum(found.measured for _, found in mine) == evaluations // 2
        drops = [found.drop for _, found in mine]
        assert drops == sorted(drops, reverse=True), "a larger rank never loses more"


def test_without_data_there_is_one_method_and_no_drop() -> None:
    answers = Answers(data=False)
    judged = answers.to(10)
    assert {found.drop for found in judged.values()} == {None}
    assert [c.decomposer for c in competitors(CANDIDATES[-1], with_data=False)] == ["tt_svd"]
