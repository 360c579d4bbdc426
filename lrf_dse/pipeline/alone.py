"""Generated kernels measured alone: linked straight into a program, a fifth of the time that a module takes to build.

A kernel in a module of its own takes the same cycles but for the call of its dispatch, which is modelled, and for where
its buffers happen to lie (up to a tenth of a small kernel, either way); in a whole model they lie elsewhere again.
Bytes differ by what is around the kernel in every module: that is seen on the smallest layer, built both ways.
"""

from __future__ import annotations

from functools import partial

from lrf_dse.jsonform import to_json
from lrf_dse.pipeline.context import Exploration
from lrf_dse.pipeline.estimates import dispatch_cycles
from lrf_dse.pipeline.kernels import default_schedules, kernel_sources, kernel_spec
from lrf_dse.pipeline.keys import timing_key
from lrf_dse.pipeline.settings import ExploreSettings
from lrf_dse.pipeline.timing import Around, Task, layer_program
from lrf_dse.schema import Candidate, FcLayer, Measurement, dense_candidate

SMALLEST = FcLayer("smallest", in_features=1, out_features=1, batch=1, has_bias=False)
"""Every program is at least as large as that of this layer."""

NOTHING = Around(cycles=0.0, flash_bytes=0, ram_parts={})


def can_stand_alone(settings: ExploreSettings, candidate: Candidate) -> bool:
    """Whether a candidate may be measured without a module: a factorised layer with a kernel of ours.

    The dense layers are the reference, and what a call takes on a board is not known.
    """
    return candidate.kernel == "rvv" and not candidate.is_dense and settings.board is None


def around_kernels(x: Exploration) -> Around | None:
    """What a module has around a kernel; None where one of the two programs of the smallest layer fails."""
    # The same kernel in a module and alone: the difference is what a module adds to any kernel.
    smallest = dense_candidate(SMALLEST, "rvv")
    tasks = [kernel_task(x, smallest, None), kernel_task(x, smallest, NOTHING)]
    outcomes = x.measure("measure what is around kernels", tasks)
    module, alone = (outcomes[task.key] for task in tasks)
    if not isinstance(module, Measurement) or not isinstance(alone, Measurement):
        return None
    # A part may be negative: a program without a module has buffers of its own.
    parts = {name: size - alone.ram_parts.get(name, 0) for name, size in module.ram_parts.items()}
    return Around(dispatch_cycles(x.target), module.flash_bytes - alone.flash_bytes, parts)


def kernel_task(x: Exploration, candidate: Candidate, around: Around | None) -> Task:
    """The program of a candidate with a kernel of ours, in a module or (with what would be `around` it) alone."""
    schedules = default_schedules([candidate], x.target)
    sources = kernel_sources([candidate], schedules, x.target)
    schedule = schedules[candidate.layer.name]
    return Task(
        timing_key(candidate, x.target, x.tools, sources, around=None if around is None else to_json(around)),
        "timing",
        to_json(candidate),
        partial(layer_program, candidate, schedule, seed=x.settings.seed),
        # Around a single generated kernel there is nothing that data tiling could change.
        builders=("iree",),
        alone=None if around is None else (kernel_spec(candidate), schedule, around),
    )
