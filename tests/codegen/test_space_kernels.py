"""Kernels of what the space holds beside aligned shapes of one rank: unit modes, any order, up to six cores."""

from __future__ import annotations

import pytest
from codegen.kernels import in_half_precision, job_of

from lrf_dse.codegen import KernelSpec, default_schedule
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Measurement, Storage, TTShape
from lrf_dse.target import load_target
from lrf_dse.tt.orders import sampled_blocks

SHAPES = (
    TTShape((1, 30), (15, 4), (1, 7, 1)),
    TTShape((30, 1), (4, 15), (1, 12, 1)),
    TTShape((2, 5, 3), (6, 1, 10), (1, 3, 11, 1)),
    TTShape((10, 1, 1), (1, 12, 5), (1, 8, 3, 1)),
    TTShape((1, 1, 10), (10, 10, 1), (1, 8, 8, 1)),
    TTShape((5, 1, 2, 3), (2, 5, 1, 6), (1, 10, 13, 9, 1)),
    TTShape((2, 3, 1, 5, 1), (1, 2, 6, 1, 5), (1, 2, 9, 24, 5, 1)),
    TTShape((3, 1, 2, 1, 5, 1), (1, 5, 1, 3, 2, 2), (1, 3, 8, 15, 11, 2, 1)),
    TTShape((2, 2, 2, 2, 2, 2), (2, 2, 2, 2, 2, 2), (1, 4, 9, 16, 7, 3, 1)),
)
"""In no order that FLOPs or parameters like, with ranks that differ from cut to cut and fill no vector."""


def kernels_of(target, shapes, storage: Storage = "fp32", batch: int = 1):
    specs = [
        KernelSpec(
            shape,
            shape.out_features,
            shape.in_features,
            batch=batch,
            has_bias=True,
            storages=() if storage == "fp32" else (storage,) * shape.d,
        )
        for shape in shapes
    ]
    return [(spec, default_schedule(spec, target)) for spec in specs]


@pytest.mark.parametrize(
    ("name", "storage"), [("spacemit-k1", "fp32"), ("spacemit-k1", "int8"), ("canaan-k230", "fp32")]
)
def test_shapes_of_every_number_of_cores_run_and_are_right(name, storage, tmp_path) -> None:
    target = load_target(name)
    target = target if storage == "fp32" else in_half_precision(target)
    kernels = kernels_of(target, SHAPES, storage, batch=2 if name == "canaan-k230" else 1)
    result = QemuRunner().run(job_of(kernels, target, tmp_path, guarded=True))
    assert isinstance(result, Measurement), result


@pytest.mark.soak
@pytest.mark.parametrize("d", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("name", ["spacemit-k1", "sifive-x280", "starfive-jh7110"])
def test_shapes_drawn_from_the_space(d, name, tmp_path) -> None:
    (block, *_) = sampled_blocks(60, 72, d, {2: 0.2, 3: 0.01}.get(d, 2e-5), seed=d, block=12)
    rows = zip(block.out_dims.tolist(), block.in_dims.tolist(), block.sizes.tolist(), strict=True)
    shapes = [
        TTShape(tuple(outs), tuple(ins), (1, *(min(3 + k, sizes[0], sizes[-1]) for k in range(d - 1)), 1))
        for outs, ins, sizes in rows
    ]
    target = load_target(name)
    result = QemuRunner().run(job_of(kernels_of(target, shapes), target, tmp_path, guarded=True))
    assert isinstance(result, Measurement), result
