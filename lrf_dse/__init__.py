"""lrf-dse: explore tensor-train factorisations of a network's fully connected layers for one RISC-V chip.

The public API:

    run = lrf_dse.explore("model.onnx", target="spacemit-k1", data="calib.npz", max_drop=1.0)
    run.records                     every measurement as a pandas DataFrame
    run.info.plans                  the whole-model plans, run.plan("knee") one of them
    lrf_dse.export(run, "knee", "out/")

The rooms of the house, each importing only what stands above it:

    errors, resources, process, schema, jsonform, target
    tt          shapes, decompositions and contraction of one layer's weights
    cost        exact counts, closed-form latency, pruning
    models      model files: read, find FC layers, rewrite, evaluate
    store       the records of a run
    builders    compilers: model -> .vmfb and riscv64 program
    runners     run, verify, measure
    plan        fronts and whole-model selection
    deploy      bundles for a board
    report      numbers decided once, then rendered
    pipeline    the exploration, stage by stage
    doctor, cli the command line
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf_dse.errors import LrfDseError

if TYPE_CHECKING:
    from lrf_dse.models.canonical.options import ReadOptions
    from lrf_dse.models.selection import LayerChoice
    from lrf_dse.pipeline.context import Progress
    from lrf_dse.pipeline.run import Run
    from lrf_dse.plan.choice import Objective
    from lrf_dse.runners.board import Board
    from lrf_dse.schema import Kernel, Storage

__all__ = ["LrfDseError", "explore", "export", "open_run"]

# onnxruntime 1.31 reports its use to its maker from the first session on, with an id kept under the user's home. It
# reads this once, when it is imported, and only this stops it. Every command, worker and test imports this package
# first, and the processes that they start inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def explore(
    model: str | Path,
    *,
    target: str,
    data: str | Path | None = None,
    calibration: str | Path | None = None,
    metric: str | None = None,
    out: str | Path | None = None,
    batch: int | None = None,
    reading: ReadOptions | None = None,
    layers: LayerChoice | None = None,
    max_drop: float | None = None,
    max_flash_bytes: int | str | None = None,
    max_ram_bytes: int | str | None = None,
    max_latency: float | str | None = None,
    objective: Objective | None = None,
    top: int | None = None,
    evaluations: int | None = None,
    finetune: int = 0,
    train: str | Path | None = None,
    seed: int = 0,
    jobs: int = 2,
    board: Board | None = None,
    threads: tuple[int, ...] = (1,),
    kernels: tuple[Kernel, ...] = ("iree", "rvv"),
    bits: tuple[Storage, ...] | None = None,
    tune: int | None = None,
    timeout_s: float | None = None,
    progress: Progress | None = None,
) -> Run:
    """Explore `model` for `target` and return the finished Run; a run that was interrupted goes on.

    `data` is an .npz with x and targets y, a folder of .npy files or "module:function"; without it the accuracy is
    unknown. It is split into calibration, validation, confirmation and test parts, by its `groups` if any; with
    `calibration` samples of their own, into three. `metric` is a name or "module:function" (see `models.metrics`);
    `max_drop` is in its drop unit.

    Sizes may be text such as "200KiB"; `max_latency` is text such as "5ms", or cycles. Of the plans within these limits
    the best in the `objective` is chosen: "latency" (the default), "bytes", "ram" or "accuracy".

    Plans are trained for `finetune` epochs on `train`, without it on the calibration samples. With a `board` programs
    are measured there over SSH, else under QEMU; whole models on each number of `threads`. Each layer is computed by
    the faster of `kernels`: "iree" is the compiler's, "rvv" our generated C, of which `tune` schedules are measured.
    Factors are stored in `bits`, of "fp32", "fp16", "int8" and "int4", by default in those that the target computes
    well. A program may run for `timeout_s`, or as long as its work may take. `out` is the run folder, by default
    reports/MODEL-TARGET. `reading` says how the model file is read where it leaves that open, `batch` being the most
    usual of it, and `layers` which FC layers are worked on. Raises an LrfDseError.
    """
    arguments: dict[str, Any] = {name: value for name, value in locals().items() if name != "progress"}
    from lrf_dse.pipeline.context import silent
    from lrf_dse.pipeline.explore import explore_with
    from lrf_dse.pipeline.settings import settings_from

    return explore_with(settings_from(**arguments), progress=progress or silent)


def open_run(folder: str | Path) -> Run:
    """The run in `folder`, finished or not."""
    from lrf_dse.pipeline.run import Run

    return Run(Path(folder))


def export(run: Run, pick: str | None, out: str | Path) -> dict[str, Any]:
    """Write the bundle of one plan into `out`; its manifest.

    `pick` is "fastest", "smallest", "least-ram", "most-accurate", "knee" or an id; None is what the run's objective
    asks for.
    """
    from lrf_dse.pipeline.export import export as export_plan

    return export_plan(run, pick, Path(out))
