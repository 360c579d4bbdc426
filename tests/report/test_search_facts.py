"""What is said of the search: how much was judged, and what the solver proved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plan.options import option

from lrf_dse.jsonform import from_json, to_json
from lrf_dse.pipeline.facts import search_facts
from lrf_dse.plan.options import Limits
from lrf_dse.plan.search import search
from lrf_dse.report.facts import SearchFacts, SelectionFacts

LAYERS = [[option(0, 100, 1000, 8, 0), option(1, 30, 300, 8, 0.4), option(2, 60, 600, 8, 0.1)]]


def test_the_facts_hold_the_proved_answer_and_survive_a_record() -> None:
    found = search(
        LAYERS,
        4,
        measure=lambda m: m.loss,
        evaluations=9,
        max_loss=0.3,
        within=Limits(flash_bytes=700),
        objective="latency",
    )
    facts = search_facts(found)
    assert facts.combinations == 3
    assert facts.selection == SelectionFacts("latency", {"fc": "low rank 2"}, 60.0, 0.0, True)
    assert from_json(SearchFacts, to_json(facts)) == facts
    assert facts.sentence.endswith("of 3 combinations; predicted best in latency: 60, no combination is better (HiGHS)")


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (None, "0 whole models judged of 1e+20 combinations"),
        (SelectionFacts("bytes", {}, None, 0.0, True), "no combination is predicted to keep the limits (proved)"),
        (SelectionFacts("bytes", {}, 12345.0, 0.02, False), "in bytes: 12,345, the best may be 2 % better (HiGHS)"),
    ],
)
def test_each_end_of_the_solver_is_said(selection: SelectionFacts | None, said: str) -> None:
    facts = replace(SearchFacts(combinations=10**20), selection=selection)
    assert facts.sentence.endswith(said)


def test_limits_that_nothing_keeps_are_proved_to_be_so() -> None:
    found = search(
        LAYERS, 4, measure=lambda m: m.loss, evaluations=9, within=Limits(flash_bytes=200), objective="bytes"
    )
    assert search_facts(found).selection == SelectionFacts("bytes", {}, None, 0.0, True)
