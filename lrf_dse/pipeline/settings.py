"""What the user asked of an exploration: one frozen value, checked before any work, and the one list of options."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lrf_dse.errors import UsageError
from lrf_dse.models.canonical.options import ReadOptions
from lrf_dse.models.canonical.options import words_of as words_of_reading
from lrf_dse.models.selection import LayerChoice
from lrf_dse.options import option, settings_of, words_of
from lrf_dse.plan.budgets import Budgets
from lrf_dse.schema import Kernel, Storage
from lrf_dse.units import Latency, parse_latency

if TYPE_CHECKING:  # numpy and pydantic take longer to import than `lrf-dse --help` may take
    from lrf_dse.plan.choice import Objective
    from lrf_dse.runners.board import Board


def _names(value: str | Iterable[str], _flag: str) -> tuple[str, ...]:
    return tuple(value.split(",") if isinstance(value, str) else value)


def _numbers(value: str | Iterable[int], flag: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in (value.split(",") if isinstance(value, str) else value))
    except ValueError as error:
        raise UsageError(f"{flag} must be numbers such as 1,2,4, got {value!r}") from error


def _path(value: str | Path, _flag: str) -> Path:
    return Path(value)


def _latency(value: str | float | Latency, flag: str) -> Latency:
    return parse_latency(value, option=flag)


def _listed(flag: str, values: Sequence[object]) -> Sequence[str]:
    return flag, ",".join(map(str, values))


def _flag(flag: str, _value: bool) -> Sequence[str]:
    return (flag,)


def _board_words(_flag: str, board: Board) -> Sequence[str]:
    given = {"--board": board.host, "--ssh-config": board.config, "--ssh-port": board.port}
    words = [str(word) for pair in given.items() if pair[1] is not None for word in pair]
    return words + [word for one in board.options for word in ("--ssh-option", one)]


def _reading_words(_flag: str, reading: ReadOptions) -> Sequence[str]:
    batch = [] if reading.batch is None else ["--batch", str(reading.batch)]
    return [*batch, *words_of_reading(reading)]


def _layer_words(_flag: str, layers: LayerChoice) -> Sequence[str]:
    named = (("--include", layers.include), ("--exclude", layers.exclude))
    words = [word for flag, patterns in named for pattern in patterns for word in (flag, pattern)]
    return words + (["--min-params", str(layers.min_params)] if layers.min_params else [])


DEFAULT_TUNE = 3
"""Two schedules of the closed form, and the best one's best neighbour: of nine kernels of LeNet-300-100's layers, three
more gained 0.5 % on one and nothing on the others, in as much time again."""


@dataclass(frozen=True)
class ExploreSettings:
    """`model` is explored for `target` into the run folder `out`; every other field is an option with its help.

    `timeout_s` is as long as a program's work may take where it is None, `bits` what the target computes well
    (`pipeline.storages`). Without `data` the accuracy stays unknown.
    """

    model: Path
    target: str
    out: Path
    data: Path | None = option(
        "Samples x, targets y, and groups of samples that belong together: an .npz, a folder of .npy, or "
        "module:function. Without it accuracy is unknown.",
        read=_path,
    )
    calibration: Path | None = option(
        "Samples that decomposers see, such as training data. Default: a part of --data.", read=_path
    )
    metric: str | None = option(
        "How models are judged: top1, top5, balanced, agreement (with the dense model), mse, cosine, or "
        "module:function. Default: top1 if y holds labels, mse if it holds values, agreement without y."
    )
    reading: ReadOptions = option(
        "How the model file is read.", default_factory=ReadOptions, typed=None, words=_reading_words
    )
    layers: LayerChoice = option(
        "Which layers are worked on.", default_factory=LayerChoice, typed=None, words=_layer_words
    )
    budgets: Budgets = field(default_factory=Budgets)
    max_latency: Latency | None = option(
        "Budget of the time of one inference: a time such as 5ms, or a number of cycles.", read=_latency
    )
    objective: Objective | None = option(
        "What the chosen plan has the best of within the budgets: latency, bytes, ram or accuracy. Default: latency; "
        "without budgets the knee of the front is chosen."
    )
    top: int = option(
        "How many TT shapes are measured for each layer. With data, half as many of low rank and a third as many "
        "Monarch matrices are measured beside them, and twice as many whole models.",
        default=8,
        typed=int,
    )
    cores: tuple[int, ...] = option(
        "Numbers of cores that tensor trains may have, some of 2 to 6. Default: 2,3,4; more cores take most of the "
        "search's time and are next to never worth it.",
        default=(2, 3, 4),
        read=_numbers,
        words=_listed,
    )
    evaluations: int = option("How often the model may be evaluated to choose plans.", default=400, typed=int)
    finetune: int = option("Epochs that every plan is trained for, toward the dense model.", default=0, typed=int)
    train: Path | None = option(
        "Samples to train on, in a form of --data. Default: what decomposers see. Test data is never used.", read=_path
    )
    seed: int = option("Seed of the data split and of every random choice.", default=0, typed=int)
    jobs: int = option("Programs built and run at a time.", default=2, typed=int)
    threads: tuple[int, ...] = option(
        "Numbers of threads to measure whole models on, such as 1,2,4.", default=(1,), read=_numbers, words=_listed
    )
    kernels: tuple[Kernel, ...] = option(
        "Kernels that may compute layers: iree, rvv or both. With both, IREE's are tried for dense layers and "
        "finalists, and the faster kernel is used.",
        default=("iree", "rvv"),
        read=_names,
        words=_listed,
    )
    bits: tuple[Storage, ...] | None = option(
        "How weights may be stored: some of fp32,fp16,int8,int4; fp32 must be among them. Default: what the chip "
        "computes well.",
        read=_names,
        words=_listed,
    )
    widen: bool = option(
        "Also measure finalists whose weights in few bits are widened once, at load, into a copy in RAM where that "
        "saves cycles; --max-ram bounds the copies. By default there are no copies.",
        default=False,
        typed=bool,
        words=_flag,
    )
    tune: int = option(
        "How many schedules of a finalist's rvv kernel are measured; 1 means no tuning.",
        default=DEFAULT_TUNE,
        typed=int,
    )
    timeout_s: float | None = option(
        "Seconds that one program may run: on the clock of a board, or of processor time under an emulator. Default: "
        "as long as its work may take.",
        typed=float,
        flag="--timeout",
    )
    scheduler: str | None = option(
        "Compute on the workers of this Dask scheduler, such as tcp://host:8786, instead of this machine."
    )
    board: Board | None = option("Measure on this board.", typed=None, words=_board_words)

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
        from lrf_dse.tt.counting import SPACE_DEPTHS

        if not self.cores or set(self.cores) - set(SPACE_DEPTHS):
            raise UsageError(f"--cores must be numbers from 2 to 6, got {','.join(map(str, self.cores)) or 'none'}")
        self._check_programs()
        if not self.threads or min(self.threads) < 1 or 1 not in self.threads:
            raise UsageError(f"--threads must be numbers from 1 on, 1 among them (the reference), got {self.threads}")
        if self.seed < 0:
            raise UsageError(f"--seed must not be negative, got {self.seed}")
        if self.data is None and self.calibration is not None:
            raise UsageError("--calibration needs --data: fits are chosen by the accuracy that they leave")

    def _check_limits(self) -> None:
        # Imported where it is used: `lrf-dse --help` must not wait for numpy.
        from lrf_dse.plan.choice import OBJECTIVES

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
        from lrf_dse.plan.choice import default_pick

        return default_pick(self.objective, self.budgets)

    @property
    def wants_small(self) -> bool:
        """Whether a plan may be wanted that is slower than dense, because it takes less memory."""
        return self.budgets.limits_size or self.objective in ("bytes", "ram")

    @property
    def layer_evaluations(self) -> int:
        """Choices judged with one layer replaced: a quarter of the evaluations. Whole models decide."""
        # A quarter for single layers leaves the most to whole models, of which the plan is one.
        return max(1, self.evaluations // 4)

    @property
    def plan_evaluations(self) -> int:
        """Whole models that are judged before finalists stand, each in up to three ways."""
        # Each of them is judged as fitted, with the sequential correction, and with reordered units: three evaluations
        # of what the quarter leaves, with some to spare.
        return max(1, self.evaluations // 6)

    @property
    def finalists(self) -> int:
        """Whole models that are built and measured."""
        return 2 * self.top


def settings_from(
    *, model: str | Path, target: str, out: str | Path | None, batch: int | None = None, **given: Any
) -> ExploreSettings:
    """The settings of `lrf_dse.explore`'s arguments: text is read, None is the default. Raises UsageError."""
    if batch is not None:
        given.setdefault("reading", ReadOptions(batch))
    folder = default_out(Path(model), target) if out is None else Path(out)
    settings: ExploreSettings = settings_of(ExploreSettings, given, model=Path(model), target=target, out=folder)
    return settings


def command_of(settings: ExploreSettings) -> str:
    """The command line that would do this again, as a shell takes it."""
    # A path that begins with a dash is no option where its folder stands before it.
    model = f"./{settings.model}" if str(settings.model).startswith("-") else str(settings.model)
    words = ["lrf-dse", "explore", model, "--target", settings.target, *words_of(settings), "-o", str(settings.out)]
    return shlex.join(words)


def default_out(model: Path, target: str) -> Path:
    """The run folder where none was named."""
    return Path("reports") / f"{model.stem}-{Path(target).stem}"
