"""Which finalists get a twin that reads a copy of its weights in RAM."""

from __future__ import annotations

import pytest

from lrf_dse.codegen import copy_bytes, predicted_cycles
from lrf_dse.pipeline.kernels import default_schedules, kernel_spec
from lrf_dse.pipeline.widening import LEAST_GAIN, widened_variants
from lrf_dse.schema import Candidate, Failure, FcLayer, Measurement, TTShape
from lrf_dse.target import Target, load_target

K1 = load_target("spacemit-k1")
RAM = 50_000


def often(name: str) -> Candidate:
    """A layer whose weights are used often, in int8."""
    layer = FcLayer(name, 784, 300, 1, has_bias=True)
    return Candidate(layer, TTShape((20, 15), (28, 28), (1, 8, 1)), kernel="rvv", storage="int8")


def once(name: str) -> Candidate:
    """A layer whose weights are used once."""
    layer = FcLayer(name, 784, 300, 1, has_bias=True)
    return Candidate(layer, TTShape((300, 1), (1, 784), (1, 24, 1)), kernel="rvv", storage="int8")


def twins(*choices: Candidate, room: int | None = None, target: Target = K1) -> list[tuple[str, ...]]:
    """The layers of each twin that read a copy."""
    measured = Measurement("", None, {}, 0, RAM, {}, 0.0, 0.0)
    given = [(choices, default_schedules(choices, target), measured)]
    limit = None if room is None else RAM + room
    found = list(widened_variants(given, target, max_ram_bytes=limit))
    assert all(made == choices and set(schedules) == {c.layer.name for c in choices} for made, schedules in found)
    return [tuple(name for name, schedule in schedules.items() if schedule.copied) for _, schedules in found]


def test_layers_that_use_their_weights_often_get_a_copy() -> None:
    assert twins(often("fc1"), once("fc2")) == [("fc1",)]


def test_a_plan_that_gains_nothing_has_no_twin() -> None:
    assert twins(once("fc1"), once("fc2")) == []
    fp32 = Candidate(once("fc1").layer, often("fc1").tt_shape, kernel="rvv")
    assert twins(fp32) == []


def test_copies_keep_within_the_limit_of_ram() -> None:
    """Each takes 31 KB here: none, one of two, or both have room."""
    (both,) = twins(often("fc1"), often("fc2"))
    assert both == ("fc1", "fc2")
    size = 4 * (20 * 28 * 8 + 15 * 28 * 8) + 64
    assert twins(often("fc1"), often("fc2"), room=size // 2) == []
    assert twins(often("fc1"), often("fc2"), room=3 * size // 2) == [("fc1",)]
    assert twins(often("fc1"), often("fc2"), room=3 * size) == [both]


def test_what_failed_as_it_is_stored_has_no_twin() -> None:
    choices = (often("fc1"),)
    failed = [(choices, default_schedules(choices, K1), Failure("verify", "wrong"))]
    assert list(widened_variants(failed, K1, max_ram_bytes=None)) == []


@pytest.mark.parametrize("chip", ["canaan-k230", "sifive-x280", "starfive-jh7110"])
def test_a_copy_is_worth_its_ram_on_other_chips_by_their_own_costs(chip: str) -> None:
    """A twin is there exactly where the closed form of that chip says that it gains enough."""
    target, choice = load_target(chip), often("fc1")
    made = list(
        widened_variants(
            [((choice,), default_schedules([choice], target), Measurement("", None, {}, 0, RAM, {}, 0.0, 0.0))],
            target,
            max_ram_bytes=None,
        )
    )
    assert made
    spec, schedule = kernel_spec(choice), made[0][1]["fc1"]
    before = predicted_cycles(spec, default_schedules([choice], target)["fc1"], target)
    after = predicted_cycles(spec, schedule, target)
    assert before and after and before >= LEAST_GAIN * after
    assert copy_bytes(spec, schedule) >= 4 * (20 * 28 * 8 + 15 * 28 * 8)
