"""lrf-dse: explore tensor-train factorisations of a network's fully connected layers for one RISC-V chip.

The public API:

    run = lrf_dse.explore("model.onnx", target="spacemit-k1", data="calib.npz", max_drop=1.0)
    run.records                     every measurement as a pandas DataFrame
    run.info.plans                  the whole-model plans, run.plan("knee") one of them
    lrf_dse.export(run, "knee", "out/")

docs/architecture.md has the rooms of the house, and which room may import which.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf_dse.errors import LrfDseError

if TYPE_CHECKING:
    from lrf_dse.pipeline.run import Run
    from lrf_dse.progress import Progress

__all__ = ["LrfDseError", "explore", "export", "open_run"]

# onnxruntime 1.31 reports its use to its maker from the first session on, with an id kept under the user's home. It
# reads this once, when it is imported, and only this stops it. Every command, worker and test imports this package
# first, and the processes that they start inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def explore(
    model: str | Path, *, target: str, out: str | Path | None = None, progress: Progress | None = None, **options: Any
) -> Run:
    """Explore `model` for `target` and return the finished Run; a run that was interrupted goes on.

    `options` are the fields of `lrf_dse.pipeline.settings.ExploreSettings` and of its `budgets`, by name: what each
    means, its unit and its default stand there, and in `lrf-dse explore --help`; None is the default. The most usual:
    `data` is an .npz with x and targets y, a folder of .npy files or "module:function", without which the accuracy is
    unknown; `calibration`; `max_drop` in the drop unit of the metric; `max_flash_bytes` and `max_ram_bytes`, which may
    be text such as "200KiB"; `max_latency` such as "5ms", or cycles; `objective`, by which one of the plans within
    these limits is chosen. `batch` is that of a model with a dynamic batch axis; `reading` is the whole of how a model
    file is read. `out` is the run folder, by default reports/MODEL-TARGET. Raises an LrfDseError, a UsageError for an
    unknown option.
    """
    from lrf_dse.pipeline.explore import explore_with
    from lrf_dse.pipeline.settings import settings_from
    from lrf_dse.progress import silent

    settings = settings_from(model=model, target=target, out=out, **options)
    return explore_with(settings, progress=progress or silent)


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
