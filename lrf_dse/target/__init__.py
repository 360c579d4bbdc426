"""Read and validate target files: one TOML per chip or board.

A target is data. Every figure says whether it is published, derived from published figures, assumed or measured, and
where it comes from. An unknown key or a bad value raises TargetError, which names the file and the key.

chip    the target itself, and how its file is read
figure  a number that says how it is known
timing  what the timing model needs of a chip: instruction costs, branch predictor, caches, memory
"""

from lrf_dse.target.chip import (
    FP32_BITS,
    BoardFlags,
    CompilerFlags,
    Core,
    IreeFlags,
    Isa,
    MemoryLevel,
    QemuFlags,
    Target,
    cost_table_file,
    load_target,
    target_file,
    target_names,
)
from lrf_dse.target.figure import Figure
from lrf_dse.target.timing import CostTable, Timing, operations, timing_figures

__all__ = [
    "FP32_BITS",
    "BoardFlags",
    "CompilerFlags",
    "Core",
    "CostTable",
    "Figure",
    "IreeFlags",
    "Isa",
    "MemoryLevel",
    "QemuFlags",
    "Target",
    "Timing",
    "cost_table_file",
    "load_target",
    "operations",
    "target_file",
    "target_names",
    "timing_figures",
]
