"""Random kernels with their schedules, and programs that run many of them at once under QEMU."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from math import gcd, prod
from pathlib import Path

import numpy as np

from lrf_dse.builders.direct import DirectLayer, link_direct
from lrf_dse.builders.kernel_object import compile_generated
from lrf_dse.codegen import (
    Activation,
    KernelSchedule,
    KernelSpec,
    StageSchedule,
    contraction_orders,
    default_schedule,
    emit,
    has_half,
    pack,
    packed_weights,
    stages_of,
)
from lrf_dse.codegen.plan import MOST_SHORT
from lrf_dse.codegen.stages import merged_shapes
from lrf_dse.runners.job import Job
from lrf_dse.schema import TTShape
from lrf_dse.tune.measuring import kernel_tolerance, random_operands, reference, rounded_cores

ACTIVATIONS = (None, None, Activation(0.0, None), Activation(0.0, 6.0), Activation(None, 0.5), Activation(-0.25, 1.5))
DIMS = (1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 24, 25)
MOST_FEATURES = 700
MOST_MERGED_FLOATS = 50_000


def in_half_precision(target):
    """The same chip with vectors of half precision."""
    if has_half(target):
        return target
    cc = target.cc.model_copy(update={"mcpu": f"{target.cc.mcpu}+zfh+zvfh"})
    qemu = target.qemu.model_copy(update={"cpu": f"{target.qemu.cpu},Zfh=true"})
    return target.model_copy(update={"cc": cc, "qemu": qemu})


def without_half_precision(target):
    """The same chip without them."""
    mcpu = "+".join(part for part in target.cc.mcpu.split("+") if part not in ("zfh", "zvfh"))
    return target.model_copy(update={"cc": target.cc.model_copy(update={"mcpu": mcpu})})


def divisors(value: int) -> list[int]:
    """All of them."""
    return [part for part in range(1, value + 1) if value % part == 0]


STORAGES = ("fp32", "fp16", "int8", "int4")


def random_spec(rng: random.Random, *, threads: int = 1, few_bits: bool = False) -> KernelSpec:
    """d from 1 (dense) to 6, odd primes, unit modes, batch 1 to 17; with `few_bits` each core in any storage."""
    d = rng.choice([1, 2, 2, 3, 3, 4, 5, 6])
    while True:
        m, n = (tuple(rng.choice(DIMS) for _ in range(d)) for _ in range(2))
        if max(prod(m), prod(n)) <= MOST_FEATURES:
            break
    facts = (prod(m), prod(n), rng.choice([1, 1, 2, 3, 16, 17]), rng.random() < 0.6, rng.choice(ACTIVATIONS), threads)
    shape = None
    if d > 1:
        shape = TTShape(m, n, (1, *(rng.choice([1, 2, 3, 5, 8, 12]) for _ in range(d - 1)), 1))
    return KernelSpec(shape, *facts, tuple(rng.choice(STORAGES) for _ in range(d)) if few_bits else ())


def random_schedule(rng: random.Random, spec: KernelSpec, target) -> KernelSchedule:
    """Any schedule that fits: merged cores, orders, vector axes, LMULs, blocks, slices, streams."""
    if rng.random() < 0.2:
        return default_schedule(spec, target)
    merges = random_merges(rng, spec)
    order = rng.choice(contraction_orders(len(merges)))
    stages = stages_of(merged_shapes(spec.core_shapes, merges), order, batch=spec.batch)
    hows = []
    for stage in stages:
        lmul = rng.choice([1, 2, 4, 8])
        slices = rng.choice(divisors(stage.count.k)) if rng.random() < 0.3 else 1
        if spec.core_storages[stage.core] == "int4" and stage.count.k // slices % 32:
            slices = 1
        if stage.count.batches * stage.count.columns == 1 and rng.random() < 0.7:
            few = spec.core_storages[stage.core] != "fp32" and stage.count.k <= MOST_SHORT and has_half(target)
            if few and rng.random() < 0.4:
                hows.append(StageSchedule("short", *rng.choice([(1, 2), (1, 4), (2, 2), (4, 1)])))
                continue
            hows.append(StageSchedule("stream", *rng.choice([(1, 1), (1, 4), (2, 1), (2, 2), (4, 1), (4, 2)])))
            continue
        vector, panels = rng.choice([("columns", 1), ("rows", 1), ("rows", rng.randint(2, 9))])
        in_half = vector == "rows" and lmul <= 4 and rng.random() < 0.5
        hows.append(StageSchedule(vector, lmul, rng.randint(1, 32 // lmul - 2), slices, panels, in_half))
    schedule = KernelSchedule(order, merges, target.fp32_lanes, tuple(hows))
    schedule = replace(schedule, half=has_half(target))
    if spec.threads > 1:
        return schedule
    fused = rng.randint(1, len(order))
    common = gcd(spec.batch, *(stage.count.batches for stage in stages[:fused]))
    cut = replace(schedule, fused=fused, slices=rng.choice(divisors(common)))
    whole = hows[-1].vector == "stream" or spec.core_storages[stages[-1].core] == "int4"
    if whole or (hows[-2:-1] and hows[-2].vector == "stream"):
        return cut
    if order[-2:] == (1, 0) and (len(order) < 3 or stages[-2].side == "left") and fused != len(order) - 1:
        last = replace(hows[-1], k_slices=1)
        cut = replace(
            cut, stages=(*hows[:-1], last), rank_slices=rng.choice(divisors(spec.core_shapes[merges[0] - 1][3]))
        )
    return cut


def random_copied_schedule(rng: random.Random, spec: KernelSpec, target) -> KernelSchedule:
    """Any schedule that widens the weights of `spec`, which are in few bits, at load."""
    while True:
        schedule = random_schedule(rng, replace(spec, storages=()), target)
        if max(schedule.merges) > 1:
            continue
        schedule = replace(schedule, half=False, copied=True)
        try:
            packed_weights(spec, schedule)
        except ValueError:  # slices that cut groups of int4
            continue
        return schedule


def random_merges(rng: random.Random, spec: KernelSpec) -> tuple[int, ...]:
    """Mostly every core alone; else neighbours multiplied together, as long as the product core stays small."""
    count = len(spec.core_shapes)
    if spec.few_bits:
        return (1,) * count
    cuts = [0, *(cut for cut in range(1, count) if rng.random() < 0.6), count]
    merges = tuple(end - begin for begin, end in pairwise(cuts))
    small = all(prod(shape) <= MOST_MERGED_FLOATS for shape in merged_shapes(spec.core_shapes, merges))
    return merges if small and rng.random() < 0.4 else (1,) * count


def job_of(kernels, target, work: Path, *, guarded: bool, same_operands: bool = False) -> Job:
    """One program that runs every (spec, schedule) of `kernels` on random weights and rows."""
    layers, objects, inputs, outputs = [], [], [], []
    for number, (spec, schedule) in enumerate(kernels):
        cores, bias, x = random_operands(spec, seed=1 if same_operands else number)
        weights, cores = rounded_cores(cores, spec, schedule)
        code = emit(spec, schedule, target, name=f"kernel_{number}")
        objects.append(compile_generated(code.source, target, work, name=f"kernel_{number}"))
        packed = pack(weights, bias, spec, schedule)
        assert packed.nbytes == code.weight_bytes
        y = reference(spec, cores, bias, x)
        made = (code.phases, packed, x.size, y.size, code.scratch_bytes, code.load, code.copy_bytes)
        layers.append(DirectLayer(f"layer {number}", *made))
        inputs.append(x.ravel())
        outputs.append(y.ravel().astype(np.float32))
    program = link_direct(layers, objects, target, work, guarded=guarded)
    threads = max(spec.threads for spec, _ in kernels)
    tolerance = max(kernel_tolerance(*kernel) for kernel in kernels)
    return Job(program, target, tuple(inputs), tuple(outputs), work / "run", tolerance=tolerance, threads=threads)
