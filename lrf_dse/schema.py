"""The core values that rooms exchange: frozen, checked on construction.

This module owns names and invariants only. It computes no mathematics (see `lrf_dse.cost.counts`), reads no file and
knows no tool. Their JSON form is `jsonform`'s. Arrays and paths travel beside these values, never inside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lrf_dse.judged import Confirmation, FineTuning
from lrf_dse.shape import TTShape

__all__ = [
    "REFERENCE",
    "Artifact",
    "BoardFigures",
    "Candidate",
    "Estimate",
    "Failure",
    "FcLayer",
    "Kernel",
    "Measurement",
    "Order",
    "Outcome",
    "Plan",
    "Storage",
    "TTShape",
    "dense_candidate",
]

Order = Literal["last_first", "first_first"]
"""Contraction order: which end of the tensor train meets the input first."""

Storage = Literal["fp32", "fp16", "int8", "int4"]
"""How the numbers of a factor are stored; `lrf_dse.tt.grid` has the formats."""

Kernel = Literal["iree", "rvv"]
"""How a layer is computed, dense or not: by the compiler's code, or by our generated C, which is plain C on a target
without vectors."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class FcLayer:
    """One fully connected layer y = W x + b: W [out_features, in_features], in `uses` places on `batch` rows of x."""

    name: str
    in_features: int
    out_features: int
    batch: int
    has_bias: bool
    op: str = "Gemm"  # the operation that the model file had in its place
    uses: int = 1

    def __post_init__(self) -> None:
        sizes = (self.in_features, self.out_features, self.batch, self.uses)
        _require(min(sizes) >= 1, f"layer {self.name}: sizes must be >= 1: {self}")


@dataclass(frozen=True)
class Candidate:
    """One way to compute an FC layer. `tt_shape` is None for one matrix W; every factor is kept in `storage`."""

    layer: FcLayer
    tt_shape: TTShape | None
    order: Order = "last_first"
    decomposer: str = "tt_svd"
    kernel: Kernel = "iree"
    threads: int = 1
    storage: Storage = "fp32"

    def __post_init__(self) -> None:
        # Scales belong to the rows of a stage's matrix, and those depend on the order.
        _require(self.storage == "fp32" or self.order == "last_first", f"{self.storage} needs the last core first")
        if self.tt_shape is None:
            return
        _require(not self.tt_shape.is_monarch or self.order == "last_first", f"{self.tt_shape} has one order")
        sizes = (self.tt_shape.out_features, self.tt_shape.in_features)
        _require(
            sizes == (self.layer.out_features, self.layer.in_features),
            f"TT shape {self.tt_shape} does not multiply to layer {self.layer.name} "
            f"[{self.layer.out_features}, {self.layer.in_features}]",
        )

    @property
    def is_dense(self) -> bool:
        """Whether the layer is kept as it is: one matrix, in fp32."""
        return self.tt_shape is None and self.storage == "fp32"

    @property
    def label(self) -> str:
        """Short text for tables: what stands in the place of the weights."""
        text = str(self.tt_shape)
        if self.tt_shape is None:
            text = "dense"
        elif self.tt_shape.is_low_rank:
            text = f"low rank {self.tt_shape.ranks[1]}"
        return text if self.storage == "fp32" else f"{text}, {self.storage}"

    @property
    def without_generated(self) -> Candidate:
        """The same candidate with IREE's kernel for a generated one: it has the same weights and errors."""
        return replace(self, kernel="iree") if self.kernel == "rvv" else self

    @property
    def label_with_kernel(self) -> str:
        """`label`, and the kernel where it is not the compiler's."""
        return f"{self.label}, {self.kernel}" if self.kernel == "rvv" else self.label


def dense_candidate(layer: FcLayer, kernel: Kernel = "iree") -> Candidate:
    """The choice to keep `layer` as it is, computed by `kernel`."""
    return Candidate(layer, None, decomposer="none", kernel=kernel)


@dataclass(frozen=True)
class Estimate:
    """What the cost model says of one inference: parameters, floating-point operations, bytes moved and cycles.

    `cycles` is what the candidate's kernel is expected to take, and `source` says which model predicts it. They are
    None and "" where no model does: for a kernel of the compiler's, or a target without a timing model. No program
    takes fewer cycles than `lower_bound`, which is None where the target states no peak.
    """

    params: int
    flops: int
    bytes_moved: int
    cycles: float | None
    source: str
    lower_bound: float | None = None


@dataclass(frozen=True)
class Artifact:
    """A built file: where it is, its hash, and the versions of the tools that made it."""

    # A text, not a Path: a core value has a JSON form.
    path: str
    sha256: str
    tool_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BoardFigures:
    """What a board's clock and kernel said of one program; the median is `Measurement.seconds`.

    `spread` is the width of the median's 95% confidence interval over the median; `stable` whether it met the policy.
    `cold_s` is the first inference of a process. Cycles are rdcycle's, None where the kernel does not permit it or an
    `emulator` ran the program; frequency, temperature and peak resident set are None where they cannot be read.
    """

    host: str
    isa: str | None
    vlen_bits: int
    kernel: str
    emulator: str | None
    cpus: str | None
    repeats: int
    min_s: float
    median_s: float
    spread: float
    stable: bool
    cold_s: float
    min_cycles: float | None
    median_cycles: float | None
    peak_resident_bytes: int | None
    freq_hz_before: float | None
    freq_hz_after: float | None
    celsius_before: float | None
    celsius_after: float | None
    load_before: float | None


@dataclass(frozen=True)
class Measurement:
    """What a runner observed of one program, after its outputs were verified.

    `flash_bytes` are weights and code, `ram_bytes` workspace, stack, inputs and outputs, by `ram_parts`. `counts` are
    executed instructions by class over the inference region; `instructions` is their sum.
    `max_abs_error` and `max_rel_error` (relative to max |y|) are against the independent reference.

    Modelled `cycles` are those of a warm pass, `cold_cycles` of the first one. cycles = busy_cycles + the sum of
    `stalls`, which are by cause; `bytes_by_level` are what instructions accessed (l1) and what crossed from each level
    to the one before it; `sweep` are cycles under the switches of the timing model, by name; `untimed` counts
    instructions whose cost had to be guessed, by what was not known of them. `builder` is the one whose program was
    the fastest.
    """

    source: str
    instructions: int | None
    counts: Mapping[str, int]
    flash_bytes: int
    ram_bytes: int
    ram_parts: Mapping[str, int]
    max_abs_error: float
    max_rel_error: float
    cycles: float | None = None
    seconds: float | None = None
    board: BoardFigures | None = None
    cold_cycles: float | None = None
    busy_cycles: float | None = None
    stalls: Mapping[str, float] = field(default_factory=dict)
    bytes_by_level: Mapping[str, int] = field(default_factory=dict)
    untimed: Mapping[str, int] = field(default_factory=dict)
    sweep: Mapping[str, float] = field(default_factory=dict)
    builder: str = ""

    @property
    def time(self) -> float:
        """The figure by which programs for one target are compared: seconds, else cycles, else instructions."""
        # Seconds of a board before modelled cycles, and those before bare counts; one target's runner always gives the
        # same, so that figures of two units never meet.
        known = (self.seconds, self.cycles, self.instructions)
        return float(next((value for value in known if value is not None), 0.0))


@dataclass(frozen=True)
class Failure:
    """A candidate that could not be built, run or verified: data, not an exception."""

    stage: str
    reason: str
    kept_files: tuple[str, ...] = ()


Outcome = Measurement | Failure
"""What came of a program that was asked for."""

REFERENCE = "dense"
"""The id of the plan that everything is compared with."""


@dataclass(frozen=True)
class Plan:
    """One choice per FC layer, measured as a whole model.

    `cycles` or board `seconds` carry their origin in `latency_source`; `sweep` holds the cycles under every switch of
    the timing model that means something for the target. `accuracy` is the metric on the validation part,
    `test_accuracy` on the part that selection never sees; `drop_points` and `test_drop_points` are how much worse than
    dense they are, in the metric's drop unit, with 95% intervals. They are None where no data was given. `weights` is
    the key of what takes the place of the model's weights; with `sequential` later layers are fitted to what the
    compressed earlier ones give them, with `reordered` hidden units stand in an order that fits better. `finetuning`
    says how the weights were trained after that, None if they were not; `weight_error`, the Frobenius norm of the
    change of all FC weights over their own norm, is from before the training. `confirmation` is None unless the run
    has a drop budget. `schedules` is the JSON form of codegen.KernelSchedule for each layer of kernel rvv.
    """

    id: str
    choices: tuple[Candidate, ...]
    cycles: float | None
    latency_source: str
    instructions: int | None
    flash_bytes: int
    ram_bytes: int
    weight_error: float
    accuracy: float | None = None
    drop_points: float | None = None
    test_accuracy: float | None = None
    drop_interval: tuple[float, float] | None = None
    test_drop_points: float | None = None
    test_drop_interval: tuple[float, float] | None = None
    seconds: float | None = None
    sweep: Mapping[str, float] = field(default_factory=dict)
    builder: str = "iree"
    weights: str = ""
    sequential: bool = False
    reordered: bool = False
    finetuning: FineTuning | None = None
    confirmation: Confirmation | None = None
    schedules: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cycles_span(self) -> tuple[float, float] | None:
        """The least and the most cycles over the model's switches; None where nothing was swept."""
        return (min(self.sweep.values()), max(self.sweep.values())) if self.sweep else None

    @property
    def widened(self) -> tuple[str, ...]:
        """The layers whose weights are widened once, at load, into a copy in RAM."""
        return tuple(name for name, schedule in self.schedules.items() if schedule.get("copied"))

    def label_of(self, choice: Candidate) -> str:
        """The choice of a layer in words, with its kernel, and whether it reads a copy of its weights in RAM."""
        return choice.label_with_kernel + (", widened at load" if choice.layer.name in self.widened else "")

    @property
    def is_dense(self) -> bool:
        """Whether every layer is kept."""
        return all(choice.is_dense for choice in self.choices)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Every kernel that computes a layer, once."""
        return tuple(sorted({choice.kernel for choice in self.choices}))

    @property
    def threads(self) -> int:
        """Threads that the whole model runs on."""
        # Layers run one after the other, so that threads are not summed.
        return max(choice.threads for choice in self.choices)

    @property
    def is_reference(self) -> bool:
        """Whether everything is compared with this plan: dense, on one thread, by the fastest kernels there are."""
        return self.id == REFERENCE
