"""Plain C on a scoreboard: it follows the timing plugin's pipeline, and every multiply-add is in a tile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.builders.zig import zig_cc
from lrf_dse.calibrate.micro import Micro, program_text
from lrf_dse.codegen import KernelSpec, default_schedule, predicted_cycles
from lrf_dse.codegen.plan import kernel_plan
from lrf_dse.codegen.scalar_cost import scalar_tiles
from lrf_dse.codegen.scoreboard import Instruction, cycles_of, cycles_of_loop
from lrf_dse.pipeline.kernels import kernel_spec
from lrf_dse.resources import data_dir
from lrf_dse.runners.qemu import run_timed
from lrf_dse.target import load_target
from tests import strategies

U74, P550, K1 = map(load_target, ("starfive-jh7110", "eic7700x", "spacemit-k1"))


def fma(sum_: str, a: str, b: str) -> Instruction:
    return Instruction("float_fma", sum_, (a, b, sum_))


def tile_step(height: int, width: int) -> list[Instruction]:
    """Multiply-adds and loads as a tile has them, on registers by their assembly names."""
    lines = []
    for c in range(width):
        for r in range(height):
            lines.append(fma(f"ft{4 * c + r}", f"fs{r}", f"fa{c}"))
            lines += [Instruction("float_load", f"fs{r}", ("a0",))] if c == width - 1 else []
        lines.append(Instruction("float_load", f"fa{c}", ("a0",)))
    return lines


BODIES = {
    "a chain": [fma("ft0", "fa0", "fa1")] * 4,
    "two chains": [fma("ft0", "fa0", "fa1"), fma("ft1", "fa0", "fa1")] * 2,
    "loads that are used at once": [Instruction("float_load", "fa0", ("a0",)), fma("ft0", "fa0", "fa1")] * 3,
    "integers beside": [fma("ft0", "fa0", "fa1"), *[Instruction("int_alu", "a2", ("a2",))] * 3],
    "a tile of 4 x 1": tile_step(4, 1),
    "a tile of 3 x 2": tile_step(3, 2),
}
TEXT = {
    "float_fma": "fmadd.s {0}, {1}, {2}, {0}",
    "float_load": "flw {0}, 0({1})",
    "int_alu": "addi {0}, {1}, 1",
}


@pytest.mark.parametrize("target", [U74, P550], ids=lambda target: target.name)
def test_the_scoreboard_follows_the_plugin(target, tmp_path: Path) -> None:
    micros = [
        Micro(name, "\n".join(TEXT[i.operation].format(i.result, *i.operands) for i in body), 1)
        for name, body in BODIES.items()
    ]
    (tmp_path / "loops.S").write_text(program_text(micros))
    machine = ["-target", "riscv64-freestanding-none", f"-mcpu={target.cc.mcpu}", "-mcmodel=medany", "-nostdlib"]
    zig_cc([*machine, "-static", "-I", str(data_dir("toolchain") / "host"), "loops.S", "-o", "loops"], cwd=tmp_path)
    passes = run_timed(tmp_path / "loops", target, tmp_path)
    around = [Instruction("int_alu", "t6", ("t6",)), Instruction("branch", None, ("t6",))]
    for number, (micro, body) in enumerate(zip(micros, BODIES.values(), strict=True)):
        modelled = passes[2 * number + 1].cycles / micro.iterations
        ours = cycles_of_loop([], body + around, micro.iterations, target) / micro.iterations
        assert ours == pytest.approx(modelled, abs=0.3), micro.name


def test_a_chain_takes_its_latencies_and_width_and_window_limit_the_rest() -> None:
    chain = [Instruction("float_fma", "s", ("s",))] * 10
    assert cycles_of(chain, U74) == 50 and cycles_of(chain, P550) == 41  # from the window one later
    integers = [Instruction("int_alu", f"r{n}") for n in range(12)]
    assert cycles_of(integers, U74) == 6 and cycles_of(integers, P550) == 5
    assert cycles_of_loop(chain[:1], chain[:1], 1000, U74) == pytest.approx(5005)
    with pytest.raises(ValueError, match="no timing model"):
        cycles_of(chain, load_target("qemu-rv64gcv"))


@given(strategies.candidates(), st.sampled_from([1, 3]))
def test_every_multiply_add_is_in_a_tile(candidate, threads) -> None:
    spec = kernel_spec(candidate)
    spec = KernelSpec(spec.shape, spec.out_features, spec.in_features, spec.batch, spec.has_bias, threads=threads)
    for stage in kernel_plan(spec, default_schedule(spec, U74)).stages:
        tiles = list(scalar_tiles(stage))
        assert all(1 <= height <= 4 and 1 <= width <= 4 and count >= 0 for height, width, count in tiles)
        sums = sum(height * width * count for height, width, count in tiles)
        assert sums == stage.rows * stage.columns * stage.batches * stage.k_slices


@pytest.mark.parametrize("target", [U74, P550], ids=lambda target: target.name)
@pytest.mark.parametrize("batch", [1, 4, 17])
def test_more_work_takes_longer_on_chips_without_vectors(target, batch) -> None:
    specs = [KernelSpec(None, 64, size, batch) for size in (64, 128, 512, 4096)]
    cycles = [predicted_cycles(spec, default_schedule(spec, target), target) for spec in specs]
    assert cycles == sorted(cycles) and len(set(cycles)) == len(cycles)
