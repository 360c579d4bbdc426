"""C kernels of whole FC layers as pure text: TT layers and dense ones, with RVV instructions or as plain C.

spec         what a kernel computes: shape, batch, bias, activation, threads
stages       the contraction as a list of batched small GEMMs, in any order that grows an interval of cores
schedule     how a kernel computes it: order, merged cores, vector axis, register blocks, fusion
choice       the schedules worth trying, ranked by the closed form
closed_form  cycles of a schedule without running it
bound        cycles that no program of a layer goes below
packing      weights in the order in which a kernel reads them; storage: panels in fp16, int8 and int4
plan         a schedule made concrete: what each stage reads and writes; tiling: its tiles
emit         C source, with vectors (loops, microkernel) or plain (scalar); phases: the kernel around its stages
copying      weights in few bits widened once, at load, into a copy in RAM that stages read as fp32
stream       stages whose weights are used once, widened in registers; widening: panels that are widened for many uses
abi          how a kernel is called, and the sizes it needs

Runs nothing and reads no file (tests/test_architecture.py).
"""

from lrf_dse.codegen.abi import KernelCode, Phase
from lrf_dse.codegen.bound import lower_bound
from lrf_dse.codegen.choice import copied_schedule, default_schedule, has_half, schedules
from lrf_dse.codegen.closed_form import StageBound, kernel_rooflines, predicted_cycles, stage_bounds
from lrf_dse.codegen.copying import copy_bytes
from lrf_dse.codegen.emit import emit, emit_scalar
from lrf_dse.codegen.packing import PackedStage, PackedWeights, Panel, pack, packed_weights
from lrf_dse.codegen.schedule import KernelSchedule, StageSchedule, kernel_stages, scheduled_stages
from lrf_dse.codegen.spec import Activation, KernelSpec
from lrf_dse.codegen.stages import Stage, contraction_orders, stages_of

__all__ = [
    "Activation",
    "KernelCode",
    "KernelSchedule",
    "KernelSpec",
    "PackedStage",
    "PackedWeights",
    "Panel",
    "Phase",
    "Stage",
    "StageBound",
    "StageSchedule",
    "contraction_orders",
    "copied_schedule",
    "copy_bytes",
    "default_schedule",
    "emit",
    "emit_scalar",
    "has_half",
    "kernel_rooflines",
    "kernel_stages",
    "lower_bound",
    "pack",
    "packed_weights",
    "predicted_cycles",
    "scheduled_stages",
    "schedules",
    "stage_bounds",
    "stages_of",
]
