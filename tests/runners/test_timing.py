"""The timing plugin against loops whose cycles can be worked out by hand, on the chips' own parameters."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lrf_dse.builders.zig import zig_cc
from lrf_dse.calibrate.micro import Micro, program_text, vector_setup
from lrf_dse.resources import data_dir
from lrf_dse.runners.emulator import QEMU
from lrf_dse.runners.plugin import plugin_path
from lrf_dse.runners.qemu import run_timed
from lrf_dse.runners.timing import MODEL_SWEEP, PassFigures, TimingSwitches, sweep_of, timing_model_text
from lrf_dse.target import Target, load_target
from lrf_dse.target.figure import Figure

N = 200
K1, K3 = load_target("spacemit-k1"), load_target("spacemit-k3")
PROGRAMS = Path(__file__).resolve().parent / "programs"


def assemble(micros: Sequence[Micro], target: Target, work: Path) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    (work / "loops.S").write_text(program_text(micros))
    machine = ["-target", "riscv64-freestanding-none", f"-mcpu={target.cc.mcpu}", "-mcmodel=medany", "-nostdlib"]
    zig_cc([*machine, "-static", "-I", str(data_dir("toolchain") / "host"), "loops.S", "-o", "loops"], cwd=work)
    return work / "loops"


def passes_of(
    micros: Sequence[Micro], work: Path, *, target: Target = K1, switches: TimingSwitches | None = None
) -> list[tuple[PassFigures, ...]]:
    """The passes of each loop, by itself."""
    program = assemble(micros, target, work)
    passes = run_timed(program, target, work, switches=switches or TimingSwitches())
    starts = [sum(micro.passes for micro in micros[:i]) for i in range(len(micros))]
    return [passes[start : start + micro.passes] for start, micro in zip(starts, micros, strict=True)]


def warm(body: str, work: Path, *, setup: str = "", target: Target = K1, **rest: object) -> PassFigures:
    """The last of two passes of N iterations of `body`."""
    ((_, last),) = passes_of([Micro("loop", body, 1, setup=setup, iterations=N)], work, target=target, **rest)
    return last


def repeat(lines: str, times: int) -> str:
    return "\n".join([lines] * times)


def test_dependent_fmas_take_their_latency(tmp_path: Path) -> None:
    last = warm(repeat("vfmacc.vf v8, fa0, v16", 8), tmp_path, setup=vector_setup(1))
    assert last.cycles == 5 * 8 * N
    assert last.stalls["dependency"] == last.cycles - last.busy_cycles
    assert last.instructions == (8 + 2) * N


@pytest.mark.parametrize(("lmul", "drain"), [(1, 4), (2, 3), (4, 1), (8, 0)])
def test_independent_fmas_take_their_occupancy(lmul: int, drain: int, tmp_path: Path) -> None:
    """A result of M8 is there when the unit is free again; one of M1 four cycles later."""
    accumulators = [f"v{lmul * i}" for i in range(1, 32 // lmul)]
    body = "\n".join(f"vfmacc.vf {group}, fa0, v0" for group in accumulators)
    last = warm(body, tmp_path, setup=vector_setup(lmul))
    assert last.cycles == lmul * len(accumulators) * N + drain


def test_two_of_different_kinds_issue_together(tmp_path: Path) -> None:
    """8 x (flw, vfmacc) and two for the loop: 18 instructions in 9 cycles."""
    body = "\n".join(f"flw ft{i}, 0(a0)\nvfmacc.vf v{8 + i}, fa0, v16" for i in range(8))
    last = warm(body, tmp_path, setup=vector_setup(1))
    assert 9 * N <= last.cycles <= 9 * N + 8


def test_two_of_one_kind_do_not_where_there_is_one_unit(tmp_path: Path) -> None:
    last = warm("\n".join(f"vfmacc.vf v{8 + i}, fa0, v16" for i in range(8)), tmp_path, setup=vector_setup(1))
    assert 8 * N <= last.cycles <= 8 * N + 5
    simple = warm(repeat("addi t0, zero, 1", 8), tmp_path)
    assert 5 * N <= simple.cycles <= 5 * N + 2, "two integer units: 10 instructions in 5 cycles"


def test_a_load_is_used_after_its_latency(tmp_path: Path) -> None:
    """Load 4, add 1, through the address; what waits for it waits for L1. The last branch comes a cycle later."""
    last = warm(repeat("lw t1, 0(a0)\nadd a0, a0, t1", 8), tmp_path)
    assert last.cycles == (4 + 1) * 8 * N + 1
    assert last.stalls["l1"] == 3 * 8 * N


def test_a_fraction_of_a_cycle_adds_up(tmp_path: Path) -> None:
    """vle32 M1 occupies 2 7/16 cycles: 39 for sixteen."""
    last = warm("\n".join(f"vle32.v v{i}, (a0)" for i in range(16)), tmp_path, setup=vector_setup(1))
    assert 39 * N <= last.cycles <= 39 * N + 15


def test_cost_does_not_depend_on_vl_and_masks_cost_twice(tmp_path: Path) -> None:
    short = "vsetivli t0, 1, e32, m4, ta, ma"
    body = "\n".join(f"vfmacc.vf v{i}, fa0, v4" for i in (8, 12, 16, 20))
    assert 16 * N <= warm(body, tmp_path, setup=short).cycles <= 16 * N + 2
    masked = body.replace("v4\n", "v4, v0.t\n") + ", v0.t"
    assert 32 * N <= warm(masked, tmp_path, setup=short).cycles <= 32 * N + 2


STREAM_BYTES = 128 << 10
STREAM = Micro(
    "stream",
    "vle32.v v8, (a2)\nadd a2, a2, a4",
    256,
    setup=f"{vector_setup(8)}\nli a4, 256",
    start="mv a2, a0",
    iterations=STREAM_BYTES // 256,
    passes=3,
)


def test_a_stream_from_l2_runs_at_the_bandwidth_between(tmp_path: Path) -> None:
    """128 KiB do not fit L1: 64 bytes in 64 / 4.6 cycles, and every line crosses once."""
    ((cold, *_, last),) = passes_of([STREAM], tmp_path)
    assert last.cycles == pytest.approx(STREAM_BYTES / 4.6, rel=0.03)
    assert last.bytes_by_level["l1"] == STREAM_BYTES
    assert last.bytes_by_level["l2"] == pytest.approx(STREAM_BYTES, rel=0.02)
    assert last.bytes_by_level["dram"] == 0
    assert cold.bytes_by_level["dram"] == pytest.approx(STREAM_BYTES, rel=0.03)
    assert cold.cycles > last.cycles and cold.stalls["dram"] > 0.5 * cold.cycles


def test_what_fits_l1_stays_there(tmp_path: Path) -> None:
    small = Micro("small", STREAM.body, 256, setup=STREAM.setup, start=STREAM.start, iterations=64)
    ((cold, last),) = passes_of([small], tmp_path)
    assert last.bytes_by_level == {"l1": 64 * 256, "l2": 0, "dram": 0}
    assert last.cycles == pytest.approx(16.5 * 64, rel=0.01) and cold.cycles > last.cycles


def test_sets_and_ways_decide_what_stays(tmp_path: Path) -> None:
    """Lines 8 KiB apart meet in one set of the four-way L1 of 32 KiB: four of them stay, five do not."""
    step = "li t1, 8192\n"
    loads = [f"ld t0, 0(a2)\n{'add a2, a2, t1' if i + 1 < n else 'mv a2, a0'}" for n in (4, 5) for i in range(n)]
    bodies = ["\n".join(loads[:4]), "\n".join(loads[4:])]
    four, five = passes_of(
        [Micro(f"{n}", body, 1, setup=step, start="mv a2, a0", iterations=N) for n, body in enumerate(bodies)],
        tmp_path,
        switches=TimingSwitches(prefetch=False),
    )
    assert four[1].bytes_by_level["l2"] == 0
    assert five[1].bytes_by_level["l2"] == 5 * N * 64


def without(target: Target, *figures: str) -> Target:
    """The target without some figures of its timing model."""
    assert target.timing is not None
    return target.model_copy(update={"timing": target.timing.model_copy(update=dict.fromkeys(figures))})


STORES = replace(STREAM, body=STREAM.body.replace("vle32", "vse32"))


def test_a_run_of_stores_claims_lines_and_others_read_them_first(tmp_path: Path) -> None:
    """Storing to 128 KiB: a line is written back when another takes its place, and read before it is stored to in part,
    or where the chip reads all."""
    in_part = replace(STORES, body="sd t1, 0(a2)\nadd a2, a2, a4", setup="li a4, 64", iterations=STREAM_BYTES // 64)
    (*_, run), (*_, parts) = passes_of([STORES, in_part], tmp_path)
    assert run.bytes_by_level["l2"] == pytest.approx(STREAM_BYTES, rel=0.02)
    assert parts.bytes_by_level["l2"] == pytest.approx(2 * STREAM_BYTES, rel=0.02)
    ((*_, reading),) = passes_of([STORES], tmp_path, target=without(K1, "write_stream_lines"))
    assert reading.bytes_by_level["l2"] == pytest.approx(2 * STREAM_BYTES, rel=0.02)
    assert reading.cycles > run.cycles


def test_runs_of_stores_may_take_turns(tmp_path: Path) -> None:
    """Two arrays written in turn are two runs, whatever instruction stores."""
    body = "vse32.v v8, (a2)\nvse32.v v16, (a3)\nadd a2, a2, a4\nadd a3, a3, a4"
    start = f"mv a2, a0\nli a3, {STREAM_BYTES}\nadd a3, a3, a0"
    ((*_, last),) = passes_of([replace(STORES, body=body, start=start)], tmp_path)
    assert last.bytes_by_level["l2"] == pytest.approx(2 * STREAM_BYTES, rel=0.02)


def test_a_load_waits_behind_a_store(tmp_path: Path) -> None:
    """M8: 16.5 and 19.69 by themselves; 2 cycles and 256 bytes at 21.3 a cycle between the store and the next load."""
    body, alone = "vle32.v v8, (a0)\nvse32.v v16, (a0)", 16.5 + 19.6875
    free = without(K1, "load_after_store_cycles", "store_drain_bytes_per_cycle")
    assert warm(body, tmp_path, setup=vector_setup(8), target=free).cycles == pytest.approx(N * alone, rel=0.01)
    together = warm(body, tmp_path, setup=vector_setup(8))
    assert together.cycles == pytest.approx(N * (alone + 2 + 256 / 21.3), rel=0.02)


def test_the_first_use_of_a_line_takes_cycles_of_its_load(tmp_path: Path) -> None:
    """From L2, at M1: half a line a load, three cycles a line."""
    body = "vle32.v v8, (a2)\nadd a2, a2, a4\nvmv.x.s t1, v8\nmul t1, t1, t1\nmul t1, t1, t1"  # the channel is idle
    loads = replace(STREAM, body=body, setup=f"{vector_setup(1)}\nli a4, 32", iterations=STREAM_BYTES // 32)
    ((*_, last),) = passes_of([loads], tmp_path)
    ((*_, free),) = passes_of([loads], tmp_path, target=without(K1, "line_fill_cycles"))
    assert last.cycles - free.cycles == pytest.approx(3 * STREAM_BYTES / 64, rel=0.1)


def test_a_loaded_scalar_may_reach_the_vector_unit_late(tmp_path: Path) -> None:
    """No chip says that it does: two cycles more, if a target file has them, and nothing for scalars not loaded."""
    assert K1.timing is not None
    late = Figure(value=2, basis="assumed", source="for the test")
    target = K1.model_copy(update={"timing": K1.timing.model_copy(update={"float_to_vector_cycles": late})})
    body = repeat("flw fa0, 0(a0)\nvfmv.s.f v8, fa0\nvfmv.f.s fa1, v8\nfmv.x.w t1, fa1\nadd a0, a0, t1", 4)
    near, far = (warm(body, tmp_path, setup=vector_setup(1), target=chip).cycles for chip in (K1, target))
    assert far - near == pytest.approx(4 * 2 * N, rel=0.01)
    computed = body.replace("flw fa0, 0(a0)", "fmv.w.x fa0, zero")
    assert len({warm(computed, tmp_path, setup=vector_setup(1), target=chip).cycles for chip in (K1, target)}) == 1


def test_vset_gives_vl_at_once_and_its_integer_result_later(tmp_path: Path) -> None:
    """K1: four cycles to the integer register, one to the vector unit."""
    chain = repeat("vsetvli t0, t0, e32, m1, ta, ma", 8)
    assert warm(chain, tmp_path, setup="li t0, 4").cycles == pytest.approx(8 * 4 * N, rel=0.01)
    unused = repeat("vsetvli zero, zero, e32, m1, ta, ma\nvfadd.vv v8, v16, v16", 4)
    assert warm(unused, tmp_path, setup=vector_setup(1)).cycles <= (4 * 2 + 2) * N


def test_segments_cost_by_the_register_up_to_seven_fields(tmp_path: Path) -> None:
    """Loads of two and four fields by the register; of eight one element a cycle (e32, VLEN 256: 64 elements)."""
    for fields, cycles in ((2, 12.5), (4, 25), (8, 64)):
        last = warm(repeat(f"vlseg{fields}e32.v v8, (a0)", 4), tmp_path, setup=vector_setup(1))
        assert last.cycles / (4 * N) == pytest.approx(cycles, rel=0.02), fields


def test_a_divider_depends_on_the_element_width(tmp_path: Path) -> None:
    for sew, cycles in ((16, 30), (32, 38), (64, 40)):
        divide = repeat("vfdiv.vv v8, v16, v16", 4)
        assert warm(divide, tmp_path, setup=vector_setup(1, sew)).cycles / (4 * N) == pytest.approx(cycles, rel=0.02)


def test_a_vector_unit_behind_a_window_waits_for_scalar_work(tmp_path: Path) -> None:
    """A load after a mask count whose result is added: out of order they overlap, behind the window they do not."""
    counted = "vmseq.vv v1, v16, v16\nvcpop.m t0, v1\nadd t1, t1, t0\nvle32.v v16, (a0)"
    waits = warm(counted, tmp_path, setup=vector_setup(1), target=K3)
    free = warm(counted, tmp_path, setup=vector_setup(1), target=without(K3, "vector_in_order"))
    assert waits.cycles >= (4 + 4 + 6) * N > free.cycles


def following(target: Target, streams: int) -> Target:
    """The target with a prefetcher of so many streams."""
    assert target.timing is not None
    prefetch = target.timing.prefetch.model_copy(update={"streams": streams})
    return target.model_copy(update={"timing": target.timing.model_copy(update={"prefetch": prefetch})})


def arrays_in_turn(number: int, gap: str = "", end: str = "", more: str = "") -> Micro:
    """A line of each of some arrays of 128 KiB, `gap` between their loads, `end` and `more` behind them."""
    loads = [f"ld t1, 0(a2)\nadd a2, a2, a3\n{gap}"] * number
    back = f"li t1, {number * (STREAM_BYTES + 64) - 64}\nsub a2, a2, t1"
    setup = f"li a3, {STREAM_BYTES + 64}"
    body = "\n".join([*loads, end, more, back])
    return Micro("arrays", body, 1, setup=setup, start="mv a2, a0", iterations=1024)


def test_streams_are_told_apart_wherever_their_loads_stand(tmp_path: Path) -> None:
    """Loads a power of two apart, and the same loads beside each other: the prefetcher follows both."""
    apart = 256 // 4 - 2
    spread, together = passes_of(
        [arrays_in_turn(3, gap=repeat("nop", apart)), arrays_in_turn(3, end=repeat("nop", 3 * apart))], tmp_path
    )
    assert spread[0].cycles == pytest.approx(together[0].cycles, rel=0.03)
    assert spread[0].stalls["dram"] < 0.1 * spread[0].cycles


def test_a_prefetcher_follows_as_many_streams_as_it_has_and_the_latest(tmp_path: Path) -> None:
    """Four entries and four arrays; with a fifth, each takes the entry of the one that comes next. What stays in the
    first cache takes none."""
    near = "\n".join(f"ld t2, {64 * i}(a4)" for i in range(8))
    loops = [arrays_in_turn(4), arrays_in_turn(5), arrays_in_turn(4, more=near)]
    loops = [replace(loop, setup=f"{loop.setup}\nli a4, {48 << 20}\nadd a4, a4, a0") for loop in loops]
    four, five, beside = (passes[0] for passes in passes_of(loops, tmp_path, target=following(K1, 4)))
    assert five.cycles > 3 * four.cycles
    assert beside.cycles < 1.2 * four.cycles


def test_only_so_many_misses_are_under_way(tmp_path: Path) -> None:
    """16 independent loads from memory, 8 at a time: two latencies of 385 cycles for 16 lines."""
    loads = "\n".join(f"fld f{i}, {64 * i}(a2)" for i in range(16))
    step = "li t1, 1024\nadd a2, a2, t1"
    cold = Micro("cold", f"{loads}\n{step}", 1, start="mv a2, a0", iterations=64, passes=1)
    ((only,),) = passes_of([cold], tmp_path, switches=TimingSwitches(prefetch=False))
    assert only.cycles == pytest.approx(64 * 2 * 385, rel=0.03)
    assert only.bytes_by_level["dram"] == 64 * 1024


JUMP = """auipc a2, 0
    xor a5, a5, {toggle}
    add a2, a2, a5
    addi t1, t1, 1
    addi t1, t1, 1
    jr 24(a2)
    j 3f
    j 3f
3:"""


def test_a_mispredicted_jump_costs_what_the_target_says(tmp_path: Path) -> None:
    one, two = (warm(JUMP.format(toggle=toggle), tmp_path, setup="li a4, 4\nli a5, 0") for toggle in ("x0", "a4"))
    assert one.mispredicts <= 1 and two.mispredicts >= N - 1
    assert two.cycles - one.cycles == pytest.approx(9 * N, rel=0.01)
    assert two.stalls["branch"] == pytest.approx(9 * N, rel=0.02)


def test_loops_and_calls_are_predicted(tmp_path: Path) -> None:
    """An inner loop of 5 fits the history; a return finds its caller on the stack."""
    calls = "jal ra, 2f\nj 4f\n2: mv a4, ra\njal ra, 3f\nmv ra, a4\nret\n3: ret\n4:"
    last = warm(f"li t0, 5\n1: addi t0, t0, -1\nbnez t0, 1b\n{calls}", tmp_path)
    assert last.branches == (5 + 5 + 1) * N
    assert last.mispredicts <= 2


def test_every_cycle_is_busy_or_has_a_cause(tmp_path: Path) -> None:
    mixes = [STREAM, Micro("jumps", JUMP.format(toggle="a4"), 1, setup="li a4, 4\nli a5, 0")]
    for target in (K1, K3, load_target("sifive-x280")):
        for switches in sweep_of(target).values():
            for passes in passes_of(mixes, tmp_path / target.name, target=target, switches=switches):
                for figures in passes:
                    assert figures.cycles == figures.busy_cycles + sum(figures.stalls.values())


def in_order(target: Target) -> Target:
    assert target.timing is not None
    return target.model_copy(update={"timing": target.timing.model_copy(update={"window": None})})


def test_a_window_hides_latency(tmp_path: Path) -> None:
    """Loads from L2 each used at once: in order they come one after the other, from a window they overlap."""
    loads = Micro("loads", "ld t1, 0(a2)\nadd t2, t1, t1\naddi a2, a2, 64", 1, start="mv a2, a0", iterations=2048)
    no_prefetch = TimingSwitches(prefetch=False)
    ((_, ordered),) = passes_of([loads], tmp_path, target=in_order(K3), switches=no_prefetch)
    ((_, windowed),) = passes_of([loads], tmp_path, target=K3, switches=no_prefetch)
    assert ordered.cycles == pytest.approx(2048 * 25, rel=0.05), "24 to the load's use, and the addition"
    assert windowed.cycles < ordered.cycles / 4


def test_a_window_does_not_break_dependences(tmp_path: Path) -> None:
    last = warm(repeat("vfmacc.vf v8, fa0, v16", 8), tmp_path, setup=vector_setup(1), target=K3)
    assert 5 * 8 * N <= last.cycles <= 5 * 8 * N + 5


def test_a_window_runs_as_wide_as_the_chip(tmp_path: Path) -> None:
    """K3 has three integer units and issues four: 3 additions and a load a cycle."""
    last = warm(repeat("addi t0, zero, 1\naddi t1, zero, 1\naddi t2, zero, 1\nld t3, 0(a0)", 8), tmp_path, target=K3)
    assert last.ipc == pytest.approx(34 / (26 / 3), rel=0.02), (
        "with the loop's own: 34, of which 26 are for integer units"
    )


def test_a_chip_without_vectors(tmp_path: Path) -> None:
    """U74: fmadd 5 cycles after the last one; a load and an addition together."""
    u74 = load_target("starfive-jh7110")
    assert warm(repeat("fmadd.s fa0, fa0, fa1, fa2", 8), tmp_path, target=u74).cycles == 40 * N
    last = warm("\n".join(f"lw t{i}, 0(a0)\nadd a{2 + i}, a1, a1" for i in range(4)), tmp_path, target=u74)
    assert 5 * N <= last.cycles <= 5 * N + 4


def test_switches_move_figures_the_right_way(tmp_path: Path) -> None:
    """Memory and prefetch move streams, write-back order what follows a late load, a queue what follows vectors."""
    chain = repeat("lw t1, 0(a3)\nadd a3, a0, t1", 3)
    late = "ld t1, 0(a2)\naddi a2, a2, 64\nfadd.s fa0, fa1, fa2\nfadd.s fa3, fa0, fa2"
    loops = [
        STREAM,
        Micro("late", late, 1, start="mv a2, a0", iterations=2048),
        Micro(
            "scalar beside",
            f"vle32.v v8, (a0)\nvfmacc.vf v16, fa0, v8\n{chain}",
            1,
            setup=f"{vector_setup(4)}\nmv a3, a0",
        ),
    ]
    got = {
        name: [passes[-1].cycles for passes in passes_of(loops, tmp_path, switches=switches)]
        for name, switches in MODEL_SWEEP.items()
    }
    default = got["default"]
    assert got["perfect memory"][0] < default[0] < got["no prefetcher"][0]
    assert default[1] < got["in-order write-back"][1]
    assert default[2] >= (8 + 15) * N, "the scalar chain waits behind an FMA that waits for its load"
    assert got["decoupled vector queue"][2] <= 16 * N + 4, "beside it, it takes its own 15 cycles"
    assert got["perfect memory"][2] == got["no prefetcher"][2] == default[2]


def test_sweeps_leave_out_what_means_nothing() -> None:
    assert list(sweep_of(K1)) == list(MODEL_SWEEP)
    assert set(MODEL_SWEEP) - set(sweep_of(K3)) == {"in-order write-back", "decoupled vector queue"}
    assert set(MODEL_SWEEP) - set(sweep_of(load_target("starfive-jh7110"))) == {"decoupled vector queue"}
    assert set(MODEL_SWEEP) - set(sweep_of(load_target("sifive-x280"))) == {"decoupled vector queue"}
    assert sweep_of(load_target("qemu-rv64gcv")) == {}


def test_ten_runs_give_one_figure(tmp_path: Path) -> None:
    program = assemble([STREAM], K1, tmp_path)
    assert len({json.dumps(_plain(run_timed(program, K1, tmp_path))) for _ in range(10)}) == 1


def _plain(passes: tuple[PassFigures, ...]) -> list[dict[str, object]]:
    return [vars(figures) for figures in passes]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, host = tmp_path_factory.mktemp("team"), data_dir("toolchain") / "host"
    machine = ["-target", "riscv64-linux-musl", "-mcpu=generic_rv64+m+a+f+d+c", "-std=gnu11", "-O1", "-static"]
    sources = [str(PROGRAMS / "team.c"), str(host / "pool.c")]
    zig_cc([*machine, "-fno-sanitize=all", "-I", str(host), *sources, "-o", "team"], cwd=folder)
    return folder / "team"


def test_threads_join_at_the_slowest_and_repeat(team: Path, tmp_path: Path) -> None:
    """Shares of 1000, 2000 and 3000 additions, then one of 1000 alone; spinning threads are not measured."""
    assert K1.timing is not None
    runs = [run_timed(team, K1, tmp_path, threads=3) for _ in range(10)]
    assert all(run == runs[0] for run in runs)
    assert len(runs[0]) == 3
    last = runs[0][-1]
    assert last.forks == 1
    additions = 1000 + 2000 + 3000 + 1000
    assert 3 * additions <= last.instructions <= 3 * additions + 400
    per_addition = last.instructions / additions
    barrier = K1.timing.barrier_cycles.value
    slowest = (last.cycles - barrier) / (3000 + 1000)
    assert 1 <= slowest <= per_addition, "the slowest share and the one that ran alone, at an IPC of one to two"
    assert last.stalls["join"] == pytest.approx(barrier + 2000 * slowest, rel=0.05)
    assert last.cycles == last.busy_cycles + sum(last.stalls.values())


def test_the_counting_plugin_counts_shares_too(team: Path, tmp_path: Path) -> None:
    timed = run_timed(team, K1, tmp_path, threads=3)
    same_addresses = ["-seed", "1", "-R", "16G"]
    command = [QEMU, "-cpu", K1.qemu.cpu, *same_addresses, "-plugin", f"{plugin_path()},out=counts.json", str(team)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    counted = json.loads((tmp_path / "counts.json").read_text())
    assert (counted["regions"], counted["open"]) == (3, 0)
    assert sum(counted["counts"].values()) == sum(figures.instructions for figures in timed)


def test_what_is_not_known_is_counted(tmp_path: Path) -> None:
    """vsetvl takes vtype from a register, which a plugin cannot see."""
    body = "li t1, 0xd0\nvsetvl t0, zero, t1\nvadd.vv v8, v8, v8\nvadd.vv v8, v8, v8\nvsetvli t0, zero, e32, m1, ta, ma"
    last = warm(f"{body}\nvadd.vv v8, v8, v8", tmp_path)
    assert last.unknown_vtype == 2 * N
    assert last.unknown_operations == 0
    assert last.instructions == 8 * N


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("issue_width 0", "bad line: issue_width 0"),
        ("nonsense 1", "bad line: nonsense 1"),
        ("pipe alu0", None),
        ("operation load nowhere busy 16 16 16 16 latency 1 1 1 1 per_element 0 masked 16", "bad line: operation load"),
        ("cache 3 sets 64 ways 1 latency 1 bytes 1", "bad line: cache 3"),
    ],
)
def test_a_bad_model_is_refused(line: str, message: str | None, tmp_path: Path) -> None:
    text = timing_model_text(K1)
    broken = f"{text}{line}\n" if message is not None else text.replace("operation load ", "# ")
    (tmp_path / "model.txt").write_text(broken)
    command = [QEMU, "-plugin", f"{plugin_path('timing')},out=o.json,model=model.txt", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert f"timing plugin: model: {message or 'incomplete'}" in done.stderr


@pytest.mark.parametrize("arguments", ["", ",out=a", ",model=a,out=b", ",out=a,model=missing"])
def test_bad_arguments_are_refused(arguments: str, tmp_path: Path) -> None:
    command = [QEMU, "-plugin", f"{plugin_path('timing')}{arguments}", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "timing plugin: " in done.stderr
