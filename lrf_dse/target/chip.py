"""A chip: its instruction set, cores and memory, how to compile for it and reach it; and the file that says so."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from lrf_dse.errors import TargetError
from lrf_dse.resources import data_dir
from lrf_dse.target.figure import Figure, Section
from lrf_dse.target.timing import Timing, missing_costs

FP32_BITS = 32


class Isa(Section):
    """The instruction set; `vlen_bits` is None for a core without a vector unit."""

    # Programs are compiled for 64-bit cores alone.
    march: str = Field(pattern=r"^rv64")
    vlen_bits: int | None = Field(default=None, ge=64)

    @model_validator(mode="after")
    def _power_of_two(self) -> Isa:
        # RVV 1.0, section 2: VLEN is a power of two, and a register holds at least one element of the widest kind (64
        # bits here).
        if self.vlen_bits is not None and self.vlen_bits & (self.vlen_bits - 1):
            raise ValueError(f"vlen_bits must be a power of two, got {self.vlen_bits}")
        return self


class Core(Section):
    """One core. Figures are None for a target without a timing model."""

    count: int = Field(ge=1)
    freq_hz: Figure | None = None
    issue_width: Figure | None = None
    fma_per_cycle: Figure | None = None


class MemoryLevel(Section):
    """One level of the memory hierarchy as one core sees it; the last one has no size."""

    level: str
    size_bytes: int | None = Field(default=None, gt=0)
    read_bytes_per_cycle: Figure


class IreeFlags(Section):
    """What iree-compile must know: LLVM's names of the features, and of the calling convention."""

    cpu_features: str
    abi: str


class CompilerFlags(Section):
    """What zig cc must know: the instruction set, and the core to order instructions for, by LLVM's name."""

    mcpu: str
    tune: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")


class QemuFlags(Section):
    """What qemu-riscv64 must know: the value of its option -cpu."""

    cpu: str


class BoardFlags(Section):
    """How programs run on this target's boards: what stands before them, and the cores to measure on ("3", "4-7")."""

    runner_prefix: tuple[str, ...] = ()
    cpus: str | None = Field(default=None, pattern=r"^\d+(-\d+)?(,\d+(-\d+)?)*$")


class Target(Section):
    """A chip and how to compile for it and reach it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    isa: Isa
    core: Core
    memory: tuple[MemoryLevel, ...] = ()
    iree: IreeFlags
    cc: CompilerFlags
    qemu: QemuFlags
    board: BoardFlags = BoardFlags()
    timing: Timing | None = None

    @model_validator(mode="after")
    def _timing_is_whole(self) -> Target:
        figures = (self.core.freq_hz, self.core.issue_width, self.core.fma_per_cycle)
        # An estimate needs all of them: half a timing model would give figures that look like the others.
        if any(f is None for f in figures) != all(f is None for f in figures) or bool(self.memory) != self.has_timing:
            raise ValueError("freq_hz, issue_width, fma_per_cycle and [[memory]] go together: give all or none")
        # The last level is memory, which everything fits.
        if any(level.size_bytes is None for level in self.memory[:-1]) or (
            self.memory and self.memory[-1].size_bytes is not None
        ):
            raise ValueError("every [[memory]] level but the last needs size_bytes; the last must not have it")
        if self.timing is not None:
            if not self.has_timing:
                raise ValueError("[timing] needs the figures of [core] and [[memory]]")
            if missing := missing_costs(self.timing, vector=self.isa.vlen_bits is not None):
                raise ValueError(f"timing.costs has no cost of {', '.join(missing)}")
        return self

    def __hash__(self) -> int:
        """The hash of the name: equal targets have the same one, and tables of costs have no hash."""
        return hash(self.name)

    @property
    def has_timing(self) -> bool:
        """Whether cycles can be estimated for this target."""
        return self.core.fma_per_cycle is not None

    @property
    def fp32_lanes(self) -> int:
        """fp32 elements in one vector register (1 without a vector unit): what ranks are aligned to."""
        return 1 if self.isa.vlen_bits is None else self.isa.vlen_bits // FP32_BITS


def target_names(folder: Path | None = None) -> list[str]:
    """The names of all targets, sorted."""
    return sorted(path.stem for path in (folder or data_dir("targets")).glob("*.toml"))


def load_target(name: str, folder: Path | None = None) -> Target:
    """The target `name`, or the file `name` if it ends in .toml. Raises TargetError."""
    path = target_file(name, folder)
    try:
        return Target.model_validate(_with_tables(_read_toml(path), path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise TargetError(f"{path}: not a readable TOML file: {error}") from error
    except ValidationError as error:
        # One line: the first error is enough to go on with.
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "(top level)"
        raise TargetError(f"{path}: key {key}: {first['msg']}") from error


def target_file(name: str, folder: Path | None = None) -> Path:
    """The file of the target `name`. Raises TargetError that lists the valid names."""
    # Names of targets hold no dot, so a path is told from a name by its ending.
    path = Path(name) if name.endswith(".toml") else (folder or data_dir("targets")) / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(target_names(folder))
        raise TargetError(f"unknown target {name!r}: use one of {known}, or a path to a .toml file")
    return path


def cost_table_file(path: Path, costs: str) -> Path:
    """The cost table `costs` of the target file `path`: in costs/ beside it, else among ours. Raises TargetError."""
    beside = path.parent / "costs" / f"{costs}.toml"
    table = beside if beside.is_file() else data_dir("targets") / "costs" / beside.name
    if not table.is_file():
        known = ", ".join(sorted(known.stem for known in table.parent.glob("*.toml")))
        raise TargetError(f"{path}: key timing.costs: no table {costs!r} in costs/: use one of {known}")
    return table


def _read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _with_tables(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """`data` with the tables that it names in place of their names."""
    # Whatever else stands in the place of the name is left for the validation, which says what is wrong with it.
    timing = data.get("timing")
    if isinstance(timing, dict) and isinstance(name := timing.get("costs"), str):
        data = data | {"timing": timing | {"costs": _read_toml(cost_table_file(path, name))}}
    return data
