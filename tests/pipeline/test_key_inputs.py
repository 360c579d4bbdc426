"""Every input of every kind of record: changing it changes the key, or a reason says why it decides nothing.

The inputs are not listed by hand: they are the parameters of the functions that make keys, and of each the fields of
its dataclass or model, down to the numbers. A new parameter or field fails until it is part of the key or has its
reason.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explored import tiny_model
from pydantic import BaseModel

from lrf_dse.codegen import Activation, KernelSchedule, KernelSpec, default_schedule, schedules
from lrf_dse.finetune.train import Recipe
from lrf_dse.models.data import Dataset
from lrf_dse.models.metrics import METRICS
from lrf_dse.models.model import Model
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline import keys
from lrf_dse.pipeline.kernels import kernel_sources
from lrf_dse.runners.board import Board
from lrf_dse.runners.ssh import tool_versions
from lrf_dse.schema import Candidate, FcLayer, TTShape, dense_candidate
from lrf_dse.target import Figure, Target, load_target
from lrf_dse.target.timing import Cost
from lrf_dse.tune import kernel_key

LAYER = FcLayer("fc0", 64, 32, 1, has_bias=True)
SHAPE = TTShape((32, 1), (1, 64), (1, 8, 1))
TARGET = load_target("spacemit-k1")
TOOLS = {"iree": "3.13.0", "zig": "0.15"}
MANY = TTShape((4, 4, 2), (4, 4, 4), (1, 4, 4, 1))
SPEC = KernelSpec(None, 32, 64, batch=2, has_bias=True, activation=Activation(0.0, 6.0), threads=1)
FITTED = Candidate(LAYER, SHAPE, decomposer="whitened")


def data(part: str) -> Dataset:
    return Dataset(Path(f"{part}.npz"), {"x": np.zeros((9, 64), np.float32)}, None, f"hash of {part}", part=part)


@dataclass(frozen=True)
class Kind:
    """A kind of record: what makes its key, from which inputs; and what of them decides nothing, with the reason."""

    key: Callable[..., str]
    inputs: Mapping[str, Any]
    ignored: Mapping[str, str]
    made_by: tuple[Callable[..., Any], ...] = ()

    def changed(self, name: str, value: Any) -> str:
        """The key with another value of one input."""
        return self.key(**{**self.inputs, name: value})


def of_shape(candidate: Candidate) -> Candidate:
    """The candidate with another TT shape, or with one where it is dense."""
    return replace(candidate, tt_shape=TTShape((8, 4), (8, 8), (1, 8, 1)) if candidate.tt_shape else SHAPE)


def with_own_busy(cost: Cost, *, sew: int) -> Cost:
    """The cost with other cycles for elements of `sew` bits."""
    return cost.model_copy(update={f"busy_e{sew}": (3.0, 6.0, 12.0, 24.0)})


# What a value may be instead, where one number alone cannot change, or where None has a meaning.
OTHERS: dict[tuple[type, str], Callable[[Any], Any]] = {
    (Candidate, "tt_shape"): of_shape,
    (Candidate, "order"): lambda c: replace(c, order="first_first"),
    (Candidate, "kernel"): lambda c: replace(c, kernel="rvv" if c.kernel == "iree" else "iree"),
    (Candidate, "storage"): lambda c: replace(c, storage="int8"),
    (Candidate, "decomposer"): lambda c: replace(c, decomposer="als"),
    (KernelSpec, "shape"): lambda spec: replace(spec, shape=TTShape((4, 4, 2), (4, 4, 4), (1, 4, 4, 1))),
    (KernelSpec, "storages"): lambda spec: replace(spec, storages=("int8",)),
    (KernelSpec, "activation"): lambda spec: replace(spec, activation=Activation(0.0, 7.0)),
    (Board, "cpus"): lambda board: replace(board, cpus="4-7"),
    (Board, "port"): lambda board: replace(board, port=2222),
    (Board, "config"): lambda board: replace(board, config=Path("ssh_config")),
    (Board, "runner_prefix"): lambda board: replace(board, runner_prefix=("chrt", "-f")),
    (Board, "options"): lambda board: replace(board, options=("ProxyJump=gate",)),
    **{(Cost, f"busy_e{sew}"): partial(with_own_busy, sew=sew) for sew in (8, 16, 64)},
    (Dataset, "metric"): lambda d: replace(d, metric=METRICS["agreement"]),
}

MODELS_WORDS = {
    "*.source": "words about a figure",
    "*.basis": "words about a figure",
    "target.name": "a name decides nothing",
    "target.title": "a name decides nothing",
    "target.timing.costs.title": "a name decides nothing",
    "target.timing.costs.sources*": "words about a figure",
    "target.timing.costs.cost*.known": "whether a cost is published: the report warns, the model runs on",
    "target.board*": "a preset of --board, whose facts are among the tools",
    "target.core.freq_hz*": "cycles know no clock",
}
"""Of a target, for every record of cycles."""
ALONE = {
    "target.timing.dram.chip_bytes_per_cycle*": "one thread has it for itself",
    "target.timing.cache.shared_by": "one thread has it for itself",
}
BY_TIMING_MODEL = MODELS_WORDS | {
    "target.core.count": "what cores share is what the timing model gives so many threads",
    "target.core.fma_per_cycle*": "of the lower bound; the timing model has costs",
    "target.memory*": "of the lower bound; the timing model has caches of its own",
}
SHARED = {"target.timing.dram.write_bytes_per_cycle*": "two threads' share of the chip's rate is less; see dense"}
OF_A_LAYER = {
    "candidate.layer.uses": "a layer is timed in one place",
    "candidate.layer.name": "a name",
    "candidate.layer.op": "another way to write the same layer",
}
OF_A_MODEL = {
    f"model.{name}*": "follows from the file's hash and the batch"
    for name in ("sha256", "notes", "path", "ir", "sites", "skipped", "inputs", "outputs", "total_macs", "total_params")
}
NO_CHOICE = {
    "candidate.kernel": "weights know no kernel",
    "candidate.threads": "weights know no thread",
    "candidate.layer.[!n]*": "follows from the model",
}
OF_DATA = {
    f"{name}.{field}": reason
    for name in ("data", "calibration", "lessons", "part")
    for field, reason in (
        ("path", "where a file lies decides nothing"),
        ("x", "follows from the hash, the part and the seed"),
        ("y", "follows from the hash, the part and the seed"),
        ("groups", "follow from the hash"),
        ("runs", "follow from the hash, the part and the seed"),
    )
}
UNJUDGED = {f"{name}.metric": "fits look at inputs alone" for name in ("calibration", "lessons")}


def layer_timing(candidate: Candidate, target: Target, tools: Mapping[str, str], board: Board | None) -> str:
    """The key of a layer's timing under QEMU, or on a board."""
    found = {} if board is None else tool_versions(board)
    return keys.timing_key(candidate, target, {**tools, **found}, {candidate.layer.name: "source of our kernel"})


def plan_timing(model: Model, candidate: Candidate, target: Target, tools: Mapping[str, str]) -> str:
    """The key of a whole model's timing."""
    return keys.plan_timing_key(model, [candidate], target, tools, {candidate.layer.name: "source of our kernel"})


def with_our_kernel(
    candidate: Candidate, schedule: KernelSchedule, target: Target, tools: Mapping[str, str], around: dict[str, float]
) -> str:
    """The key of a layer's timing by a generated kernel that was measured alone."""
    sources = kernel_sources([candidate], {candidate.layer.name: schedule}, target)
    return keys.timing_key(candidate, target, tools, sources, around=around)


def accuracy(model: Model, data: Dataset, candidate: Candidate, **others: Any) -> str:
    """The key of an accuracy."""
    return keys.accuracy_key(model, data, [candidate], **others)


def plan_weights(model: Model, candidate: Candidate, **others: Any) -> str:
    """The key of a plan's weights."""
    return keys.plan_weights_key(model, [candidate], **others)


def kernel(spec: KernelSpec, target: Target, tools: Mapping[str, str]) -> str:
    """The key of a kernel's time, with the schedule that fits it."""
    return kernel_key(spec, default_schedule(spec, TARGET), target, tools)


def finetuning(weights: str, lessons: Dataset, recipe: Recipe, part: Dataset, batch: int) -> str:
    """The key of a training."""
    return keys.finetuning_key(weights, lessons, recipe, {"validation": part}, batch=batch)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    """Every kind of record with its inputs."""
    model = read_model(tiny_model(tmp_path_factory.mktemp("keys")))
    two = replace(Candidate(LAYER, SHAPE), threads=2)
    ways = {"sequential": True, "reordered": True}
    best = default_schedule(SPEC, TARGET)
    machine = {"target": TARGET, "tools": TOOLS}
    return {
        "timing": Kind(
            layer_timing, {"candidate": two, **machine, "board": None},
            BY_TIMING_MODEL | OF_A_LAYER | SHARED
            | {"*.decomposer": "weights decide no time", "candidate.layer*": "see dense"},
            (keys.timing_key,),
        ),
        "timing of a dense layer": Kind(
            layer_timing, {"candidate": dense_candidate(LAYER), **machine, "board": None},
            BY_TIMING_MODEL | OF_A_LAYER | {
                "*.decomposer": "weights decide no time",
                "candidate.tt_shape": "see a TT shape's",
                **ALONE,
            },
        ),
        "timing on a board": Kind(
            layer_timing, {"candidate": two, **machine, "board": Board("me@k1")},
            BY_TIMING_MODEL | {
                "candidate*": "see timing", "tools*": "see timing", "target.timing*": "a board is itself",
                "target.core*": "a board is itself", "target.qemu*": "a board is itself",
                "board.directory": "where files lie decides nothing", "board.connect_timeout_s": "decides no time",
            },
        ),
        "timing of our kernel": Kind(
            with_our_kernel,
            {
                "candidate": dense_candidate(replace(LAYER, batch=2), "rvv"), "schedule": best,
                "around": {"cycles": 158.0, "flash_bytes": 6950}, **machine,
            },
            {"candidate*": "see kernel", "target*": "see timing", "tools*": "see timing"},
        ),
        "kernel": Kind(
            kernel, {"spec": SPEC, **machine},
            BY_TIMING_MODEL | {
                "target.iree*": "no compiler but zig",
                **ALONE,
            },
            (kernel_key,),
        ),
        "plan timing": Kind(
            plan_timing, {"model": model, "candidate": two, **machine},
            BY_TIMING_MODEL | OF_A_MODEL | OF_A_LAYER | SHARED
            | {"*.decomposer": "weights decide no time", "candidate.layer*": "follows from the model"},
            (keys.plan_timing_key,),
        ),
        "sweep": Kind(keys.sweep_key, {"plan_timing": "a key", "builder": "iree"}, {}, (keys.sweep_key,)),
        "accuracy": Kind(
            accuracy,
            {"model": model, "data": data("validation"), "candidate": FITTED, "calibration": data("calibration"),
             "seed": 0, "shipped": False, **ways},
            OF_A_MODEL | NO_CHOICE | OF_DATA | UNJUDGED,
            (keys.accuracy_key,),
        ),
        "layer error": Kind(
            keys.layer_error_key,
            {"model": model, "candidate": FITTED, "calibration": data("calibration"), "seed": 0, "final": False},
            OF_A_MODEL | NO_CHOICE | OF_DATA | UNJUDGED | {"model.batch": "a fit sees single rows"},
            (keys.layer_error_key,),
        ),
        "bounds": Kind(
            keys.bounds_key,
            {"weights": "a", "data": data("test"), "model": model, "seed": 0},
            OF_A_MODEL | OF_DATA,
            (keys.bounds_key,),
        ),
        "plan weights": Kind(
            plan_weights,
            {"model": model, "candidate": FITTED, "calibration": data("calibration"), "seed": 0, **ways},
            OF_A_MODEL | NO_CHOICE | OF_DATA | UNJUDGED | {"model.batch": "a fit sees single rows"},
            (keys.plan_weights_key,),
        ),
        "finetuning": Kind(
            finetuning,
            {"weights": "a", "lessons": data("all"), "recipe": Recipe(5), "part": data("validation"), "batch": 1},
            OF_DATA | UNJUDGED,
            (keys.finetuning_key,),
        ),
        "space": Kind(
            keys.space_key,
            {"model": model, "layer": LAYER, "target": TARGET, "top": 4, "cores": (2, 3), "seed": 0,
             "calibration": data("calibration"), "dense_cycles": 1000.0, "smallest": "int4"},
            OF_A_MODEL | OF_DATA | UNJUDGED | MODELS_WORDS | {
                "model.batch": "of the layer", "target.cc*": "no compiler", "target.iree*": "no compiler",
                "target.qemu*": "no simulator", "target.isa.march": "its vectors count",
                "target.memory*.level": "a name",
                **ALONE,
                "target.timing.barrier_cycles*": "one thread waits for nobody",
            },
            (keys.space_key,),
        ),
    }  # fmt: skip


KINDS = (
    "timing", "timing of a dense layer", "timing on a board", "timing of our kernel", "kernel", "plan timing", "sweep",
    "accuracy", "bounds", "layer error", "plan weights", "finetuning", "space",
)  # fmt: skip


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, what `value` is with another value there), for everything that it is made of."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            if (type(value), name) in OTHERS:
                yield f"{path}.{name}", OTHERS[type(value), name](value)
                continue
            for where, other in leaves(getattr(value, name), f"{path}.{name}"):
                yield where, value.model_copy(update={name: other})
    elif isinstance(value, KernelSchedule):
        yield path, schedules(SPEC, TARGET, 2)[1]
    elif is_dataclass(value):
        yield from _of_fields(value, path)
    elif isinstance(value, Mapping):
        for name in list(value)[:1]:  # one stands for all
            for where, other in leaves(value[name], f"{path}[]"):
                yield where, {**value, name: other}
    elif isinstance(value, tuple):
        for where, other in leaves(value[0], f"{path}[]") if value else [(path, ("new",))]:
            yield where, (other, *value[1:])
    else:
        yield path, _another(value)


def _of_fields(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    for field in fields(value):
        where = f"{path}.{field.name}"
        if (type(value), field.name) in OTHERS:
            yield where, OTHERS[type(value), field.name](value)
            continue
        for deeper, other in leaves(getattr(value, field.name), where):
            yield deeper, _replaced(value, field.name, other)


def _replaced(value: Any, name: str, other: Any) -> Any:
    """`value` with one field changed, unchecked: a key must see it, whether or not it makes sense."""
    changed = object.__new__(type(value))
    for field in fields(value):
        object.__setattr__(changed, field.name, other if field.name == name else getattr(value, field.name))
    return changed


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return 2 * value + 8
    if value is None:
        return Figure(value=9, basis="assumed", source="this test")
    return Path("elsewhere") if isinstance(value, Path) else f"{value}x" if isinstance(value, str) else object()


@pytest.mark.parametrize("name", KINDS)
def test_every_input_changes_the_key_or_has_a_reason_why_not(kinds: dict[str, Kind], name: str) -> None:
    kind = kinds[name]
    own = kind.key(**kind.inputs)
    assert kind.key(**kind.inputs) == own
    wrong, used = [], set()
    for parameter, value in kind.inputs.items():
        seen = set()
        for path, other in leaves(value, parameter) if value is not None else ():
            pattern = re.sub(r"\[\d+\]", "[]", path)
            if pattern in seen:
                continue
            seen.add(pattern)
            reasons = [glob for glob in kind.ignored if fnmatch(path.replace("[]", ""), glob)]
            used |= set(reasons)
            if reasons:
                continue
            if kind.changed(parameter, other) == own:
                wrong.append(f"{path} does not change the key of {name}")
    assert wrong == []


@pytest.mark.parametrize("name", KINDS)
def test_every_parameter_of_a_key_is_an_input(kinds: dict[str, Kind], name: str) -> None:
    """What stands for it: choices and candidates, the parts of the data, tools with a board."""
    stand_ins = {"choices": "candidate", "parts": "part"}
    elsewhere = {"sources", "schedule", "around"}  # see the timing of our kernel
    for function in kinds[name].made_by:
        wanted = {stand_ins.get(parameter, parameter) for parameter in inspect.signature(function).parameters}
        missing = wanted - elsewhere - set(kinds[name].inputs)
        assert not missing, f"{function.__name__}: {sorted(missing)} are no inputs of this test"


def test_every_key_function_is_here(kinds: dict[str, Kind]) -> None:
    public = {function for name, function in inspect.getmembers(keys, inspect.isfunction) if name.endswith("_key")}
    public = {function for function in public if function.__module__ == keys.__name__}
    assert public <= {function for kind in kinds.values() for function in kind.made_by}
    assert set(KINDS) == set(kinds)


def test_the_form_of_the_graph_is_part_of_a_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """IREE compiles what `chain` writes: another form of the same contraction is another program."""
    candidate = Candidate(LAYER, MANY)
    first = keys.timing_key(candidate, TARGET, TOOLS)
    written = keys.layer_form(LAYER, MANY, "last_first")
    monkeypatch.setattr(keys, "layer_form", lambda *_: [*written, "one more step"])
    assert keys.timing_key(candidate, TARGET, TOOLS) != first
