"""Half precision and 8-bit integers on the chips that have them: programs run, and every instruction has a cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from runners.test_timing import passes_of

from lrf_dse.calibrate.micro import Micro
from lrf_dse.runners.timing import PassFigures
from lrf_dse.target import load_target, target_names

N = 50
HALF = [name for name in target_names() if "zvfh" in load_target(name).isa.march]
ARCH = ".option arch, +zfh, +zvfh"
SCALARS = """flh fa0, 0(a0)
fcvt.s.h fa1, fa0
fcvt.h.s fa2, fa1
fadd.h fa3, fa0, fa2
fmadd.h fa4, fa0, fa0, fa2
fsh fa3, 0(a0)"""
# Instructions at e16 and e8 by the LMUL before them: cycles on X60 and C908 (rvv-bench, Banana Pi F3 and K230).
E16 = {
    "vle16.v {d}, (a0)": {"m1": 2.4375, "m2": 4.3125, "m4": 8.5625},
    "vse16.v v16, (a0)": {"m1": 3, "m2": 4.75, "m4": 8.5},
    "vfmacc.vf {d}, fa0, v16": {"m1": 1, "m2": 2, "m4": 4},
    "vfmacc.vv {d}, v16, v16": {"m1": 1, "m2": 2, "m4": 4},
    "vfadd.vv {d}, v16, v16": {"m1": 1, "m2": 2, "m4": 4},
    "vfwmacc.vf {d}, fa0, v16": {"mf2": 1, "m1": 2, "m2": 4, "m4": 8},
    "vfwmacc.vv {d}, v16, v16": {"mf2": 1, "m1": 2, "m2": 4, "m4": 8},
    "vfwcvt.f.f.v {d}, v16": {"mf2": 2, "m1": 4, "m2": 8, "m4": 16},
    "vfncvt.f.f.w {d}, v16": {"mf2": 2, "m1": 4, "m2": 8, "m4": 16},
    "vfwcvt.f.x.v {d}, v16": {"m1": 4, "m2": 8},
    "vwadd.wv {d}, {d}, v16": {"mf2": 1, "m1": 2, "m2": 4, "m4": 8},
    "vwmacc.vx {d}, a4, v16": {"m1": 2, "m2": 4, "m4": 8},
}
E8 = {
    "vle8.v {d}, (a0)": {"m1": 2.4375, "m2": 4.3125, "m4": 8.5625},
    "vse8.v v16, (a0)": {"m1": 3, "m2": 4.75, "m4": 8.5},
    "vwmul.vv {d}, v16, v16": {"mf2": 1, "m1": 2, "m2": 4, "m4": 8},
    "vwmacc.vv {d}, v16, v16": {"mf2": 1, "m1": 2, "m2": 4, "m4": 8},
    "vnsrl.wi {d}, v16, 4": {"mf2": 2, "m1": 4, "m2": 8, "m4": 16},
    "vand.vi {d}, v16, 15": {"m1": 1, "m2": 2, "m4": 4},
    "vsll.vi {d}, v16, 4": {"m1": 2, "m2": 4, "m4": 8},
    "vsrl.vi {d}, v16, 4": {"m1": 2, "m2": 4, "m4": 8},
}
EXTENDING = {  # cost at the LMUL of the result
    "vsext.vf2 {d}, v16": (16, {"m1": 2, "m2": 4, "m4": 8}),
    "vzext.vf2 {d}, v16": (16, {"m1": 2, "m2": 4, "m4": 8}),
    "vsext.vf4 {d}, v16": (32, {"m1": 2, "m2": 4, "m4": 8}),
    "vfcvt.f.x.v {d}, v16": (32, {"m1": 2, "m2": 4, "m4": 8}),
}
TABLE = [
    *((line, 16, costs) for line, costs in E16.items()),
    *((line, 8, costs) for line, costs in E8.items()),
    *((line, sew, costs) for line, (sew, costs) in EXTENDING.items()),
]


def loop(instruction: str, sew: int, lmul: str) -> Micro:
    """Eight independent ones: a result may be twice as wide as LMUL."""
    step = max(1, 2 * int(lmul[1:])) if lmul[1] != "f" else 1
    targets = [f"v{first}" for first in range(0, 16, step)]
    body = "\n".join(instruction.format(d=target) for target in targets * (8 // min(8, len(targets))))
    return Micro(
        f"{instruction} {sew} {lmul}", body, 1, setup=f"{ARCH}\nvsetvli t0, x0, e{sew}, {lmul}, ta, ma", iterations=N
    )


def nothing_untimed(passes: list[tuple[PassFigures, ...]]) -> None:
    for figures in (last for *_, last in passes):
        assert (figures.unknown_operations, figures.unknown_vtype, figures.counts["unknown"]) == (0, 0, 0)


def test_four_chips_have_half_precision() -> None:
    assert HALF == ["canaan-k230", "sophgo-sg2044", "spacemit-k1", "spacemit-k3"]


@pytest.mark.parametrize("name", HALF)
def test_every_narrow_instruction_runs_and_is_timed(name: str, tmp_path: Path) -> None:
    loops = [loop(line, sew, lmul) for line, sew, costs in TABLE for lmul in costs]
    loops.append(Micro("scalars", SCALARS, 1, setup=ARCH, iterations=N))
    nothing_untimed(passes_of(loops, tmp_path, target=load_target(name)))


def test_costs_of_narrow_instructions_on_x60(tmp_path: Path) -> None:
    """By LMUL, and not by the width of what they take."""
    cases = [(loop(line, sew, lmul), cycles) for line, sew, costs in TABLE for lmul, cycles in costs.items()]
    passes = passes_of([micro for micro, _ in cases], tmp_path)
    found = {
        micro.name: last.cycles / (N * len(micro.body.splitlines()))
        for (micro, _), (*_, last) in zip(cases, passes, strict=True)
    }
    wrong = {
        micro.name: (found[micro.name], cycles)
        for micro, cycles in cases
        if not 0.98 < found[micro.name] / cycles < 1.3
    }
    assert wrong == {}
