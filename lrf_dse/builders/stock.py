"""Build a model for IREE's own runtime on this machine: an independent check of what is shipped.

The graph, the packed weights, the scratch and the dispatches are those of the module for the target; only the code of
the kernels is plain C, and the rest is compiled for this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrf_dse.builders.importing import import_model, this_machine
from lrf_dse.builders.iree import compile_module
from lrf_dse.target import Target

if TYPE_CHECKING:
    import onnx


def build_for_stock_runtime(model: onnx.ModelProto, target: Target, work_dir: Path) -> Path:
    """The .vmfb of `model` for the machine that this runs on, its kernels as `target` schedules them.

    Raises BuildError.
    """
    # Calls without a schedule get that of `target`, so packing and scratch are those of the shipped module.
    machine = this_machine()
    return compile_module(import_model(model, target, machine, work_dir), machine.iree_flags)
