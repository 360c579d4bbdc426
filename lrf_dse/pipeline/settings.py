"""What the user asked of an exploration: one frozen value, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, get_args

from lrf_dse.errors import UsageError
from lrf_dse.models.canonical.options import ReadOptions
from lrf_dse.models.selection import LayerChoice
from lrf_dse.plan.budgets import Budgets
from lrf_dse.plan.choice import OBJECTIVES, Objective, default_pick
from lrf_dse.runners.board import Board
from lrf_dse.schema import Kernel, Storage
from lrf_dse.units import Latency, parse_bytes, parse_latency

DEFAULT_TOP = 8
DEFAULT_TUNE = 6

DEFAULT_EVALUATIONS = 400
"""Evaluations of the model on the validation part: seconds on a small model, an hour or two on a large one."""


@dataclass(frozen=True)
class ExploreSettings:
    """`model` is explored for `target` with `data` (None: accuracy stays unknown) into the run folder `out`.

    Fits see samples of `calibration`, or without it a part of `data` of their own. `metric` is a name of
    `models.metrics`, or module:function; without one the targets in `data` decide.

    The model file is read as `reading` says, and only the FC layers of the choice `layers` are worked on.

    `top` TT candidates a layer are compiled and measured, with data half as many of plain low rank beside them;
    `finalists` whole models are. `seed` decides the split of the data and every random choice. `jobs` programs are
    built and run at a time, each for at most `timeout_s`, or as long as its work may take. With a `board`, programs are
    measured there; else under QEMU. Whole models are measured on each number of `threads`. The validation part is
    evaluated at most about `evaluations` times before finalists stand. Then they are trained for at most `finetune`
    epochs, on `train`, or without it on what fits see.

    Layers are computed by `kernels`: with both, by ours, and those of finalists and dense ones by IREE's as well, and
    the faster one stays. `tune` schedules of a finalist's generated kernel are measured, 1 being the closed form's
    choice. Factors are stored in `bits`, by default what the target computes well (`pipeline.storages`).

    Plans keep the `budgets` and `max_latency`; the one that is best in the `objective` is chosen.
    """

    model: Path
    target: str
    data: Path | None
    out: Path
    calibration: Path | None = None
    metric: str | None = None
    reading: ReadOptions = field(default_factory=ReadOptions)
    layers: LayerChoice = field(default_factory=LayerChoice)
    top: int = DEFAULT_TOP
    seed: int = 0
    jobs: int = 2
    board: Board | None = None
    timeout_s: float | None = None
    threads: tuple[int, ...] = (1,)
    evaluations: int = DEFAULT_EVALUATIONS
    finetune: int = 0
    train: Path | None = None
    kernels: tuple[Kernel, ...] = ("iree", "rvv")
    bits: tuple[Storage, ...] | None = None
    tune: int = DEFAULT_TUNE
    budgets: Budgets = field(default_factory=Budgets)
    max_latency: Latency | None = None
    objective: Objective | None = None

    def __post_init__(self) -> None:
        self._check_limits()
        if self.evaluations < 1:
            raise UsageError(f"--evaluations must be at least 1, got {self.evaluations}")
        if self.finetune < 0:
            raise UsageError(f"--finetune must be a number of epochs from 0 on, got {self.finetune}")
        if self.finetune and self.data is None:
            raise UsageError("--finetune needs --data: the epoch that is kept is the best on its validation part")
        if self.train is not None and not self.finetune:
            raise UsageError("--train needs --finetune EPOCHS")
        if self.top < 1 or self.jobs < 1:
            raise UsageError(f"--top and --jobs must be at least 1, got {self.top} and {self.jobs}")
        self._check_programs()
        if not self.threads or min(self.threads) < 1 or 1 not in self.threads:
            raise UsageError(f"--threads must be numbers from 1 on, 1 among them (the reference), got {self.threads}")
        if self.seed < 0:
            raise UsageError(f"--seed must not be negative, got {self.seed}")
        if self.data is None and self.calibration is not None:
            raise UsageError("--calibration needs --data: fits are chosen by the accuracy that they leave")

    def _check_limits(self) -> None:
        limits = (self.budgets.max_drop, self.budgets.max_flash_bytes, self.budgets.max_ram_bytes)
        for name, limit in zip(("--max-drop", "--max-bytes", "--max-ram"), limits, strict=True):
            if limit is not None and not 0 <= limit < inf:  # NaN is neither
                raise UsageError(f"{name} must be a number from 0 on, got {limit}")
        if self.objective is not None and self.objective not in OBJECTIVES:
            raise UsageError(f"--objective must be one of {', '.join(OBJECTIVES)}, got {self.objective}")
        if self.data is None and self.budgets.max_drop is not None:
            raise UsageError("--max-drop needs --data: without data the accuracy is unknown")
        if self.data is None and self.objective == "accuracy":
            raise UsageError("--objective accuracy needs --data: without data the accuracy is unknown")

    def _check_programs(self) -> None:
        if self.timeout_s is not None and not 0 < self.timeout_s < inf:
            raise UsageError(f"--timeout must be a number of seconds above 0, got {self.timeout_s}")
        if not self.kernels or set(self.kernels) - {"iree", "rvv"}:
            raise UsageError(f"--kernels must be iree, rvv or both, got {','.join(self.kernels) or 'none'}")
        if self.bits is not None and ("fp32" not in self.bits or set(self.bits) - set(get_args(Storage))):
            names = ", ".join(get_args(Storage))
            raise UsageError(f"--bits must be of {names}, fp32 (the reference) among them, got {','.join(self.bits)}")
        if self.tune < 1:
            raise UsageError(f"--tune must be at least 1, got {self.tune}")

    @property
    def pick(self) -> str:
        """What is chosen of the plans within the budgets."""
        return default_pick(self.objective, self.budgets)

    @property
    def wants_small(self) -> bool:
        """Whether a plan may be wanted that is slower than dense, because it takes less memory."""
        return self.budgets.limits_size or self.objective in ("bytes", "ram")

    @property
    def layer_evaluations(self) -> int:
        """Choices judged with one layer replaced: a quarter of the evaluations. Whole models decide."""
        return max(1, self.evaluations // 4)

    @property
    def plan_evaluations(self) -> int:
        """Whole models that are judged before finalists stand, each in up to three ways."""
        return max(1, self.evaluations // 6)

    @property
    def finalists(self) -> int:
        """Whole models that are built and measured."""
        return 2 * self.top


def settings_from(
    *,
    model: str | Path,
    target: str,
    out: str | Path | None,
    max_drop: float | None,
    max_flash_bytes: int | str | None,
    max_ram_bytes: int | str | None,
    max_latency: float | str | None,
    **others: Any,
) -> ExploreSettings:
    """The settings of `lrf_dse.explore`'s arguments, whose limits may be text; None among `others` is the default."""
    given: dict[str, Any] = {"data": None} | {name: value for name, value in others.items() if value is not None}
    batch = given.pop("batch", None)
    given.setdefault("reading", ReadOptions(batch))
    given |= {name: Path(given[name]) for name in ("data", "calibration", "train") if given.get(name)}
    return ExploreSettings(
        model=Path(model),
        target=target,
        out=default_out(Path(model), target) if out is None else Path(out),
        budgets=Budgets(
            max_drop,
            None if max_flash_bytes is None else parse_bytes(max_flash_bytes, option="--max-bytes"),
            None if max_ram_bytes is None else parse_bytes(max_ram_bytes, option="--max-ram"),
        ),
        max_latency=None if max_latency is None else parse_latency(max_latency, option="--max-latency"),
        **given,
    )


def default_out(model: Path, target: str) -> Path:
    """The run folder where none was named."""
    return Path("reports") / f"{model.stem}-{Path(target).stem}"
