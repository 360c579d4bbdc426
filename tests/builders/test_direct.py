"""Kernels linked straight into a program: run and timed as any job, shared by threads, guarded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lrf_dse.builders.direct import DirectLayer, Phase, link_direct
from lrf_dse.builders.kernel_object import compile_generated, compile_kernel, undefined_symbols
from lrf_dse.errors import BuildError
from lrf_dse.runners.job import Array, Job
from lrf_dse.runners.qemu import QemuRunner
from lrf_dse.schema import Failure, Measurement
from lrf_dse.target import Target

IN, OUT, GROUPS = 37, 24, 4
RNG = np.random.default_rng(1)
W, X = RNG.standard_normal((OUT, IN)).astype(np.float32), RNG.standard_normal(IN).astype(np.float32)
GEMV = f"""
#include <riscv_vector.h>
#include <stddef.h>
/* Each group computes its rows of the product into scratch; the second phase doubles them into y. */
void product(const float *x, const float *w, float *scratch, float *y, size_t group) {{
  (void)y;
  for (size_t row = group * {OUT // GROUPS}; row < (group + 1) * {OUT // GROUPS}; row++) {{
    vfloat32m1_t sum = __riscv_vfmv_v_f_f32m1(0, 1);
    for (size_t i = 0, vl; i < {IN}; i += vl) {{
      vl = __riscv_vsetvl_e32m1({IN} - i);
      vfloat32m1_t terms = __riscv_vfmul_vv_f32m1(__riscv_vle32_v_f32m1(x + i, vl),
                                                  __riscv_vle32_v_f32m1(w + row * {IN} + i, vl), vl);
      sum = __riscv_vfredusum_vs_f32m1_f32m1(terms, sum, vl);
    }}
    scratch[row] = __riscv_vfmv_f_s_f32m1_f32(sum);
  }}
}}
void doubled(const float *x, const float *w, float *scratch, float *y, size_t group) {{
  (void)x, (void)w, (void)group;
  for (size_t row = 0; row < {OUT}; row++) y[row] = 2 * scratch[row];
}}
"""
LAYER = DirectLayer("gemv", (Phase("product", GROUPS), Phase("doubled")), W, IN, OUT, OUT * 4)

STRAY = """
#include <stddef.h>
/* Does the wrong that x[0] names. */
void stray(const float *x, const float *w, float *scratch, float *y, size_t group) {
  volatile const float *from = x;
  volatile float *to = y;
  (void)group;
  for (int i = 0; i < 3; i++) y[i] = scratch[i] = w[i];
  switch ((int)x[0]) {
    case 1: (void)from[-1]; break;
    case 2: (void)from[5]; break;
    case 3: *(volatile float *)(x + 2) = 0; break;
    case 4: (void)*(volatile const float *)(w + 3); break;
    case 5: *(volatile float *)(w + 0) = 0; break;
    case 6: *(volatile float *)(scratch - 4) = 0; break;
    case 7: (void)*(volatile float *)(scratch + 3); break;
    case 8: to[3] = 0; break;
    case 9: to[-1] = 0; break;
    case 10: y[0] = (float)((size_t)y / 4 % 1024); break;
    case 11: *(volatile float *)((size_t)0) = 1; break;
  }
}
"""
WRONGS = {
    1: "access 4 bytes before x",
    2: "access 0 bytes past the end of x (20 bytes)",
    3: "write to byte 8 of x, which is read-only",
    4: "access 0 bytes past the end of weights (12 bytes)",
    5: "write to byte 0 of weights, which is read-only",
    6: "access 16 bytes before scratch",
    7: "access 0 bytes past the end of scratch (12 bytes)",
    8: "access 0 bytes past the end of y (12 bytes)",
    9: "access 4 bytes before y",
    10: "another result in buffers at other addresses",
    11: "far from every buffer",
}


def job(program: Path, target: Target, xs: list[Array], ys: list[Array], work: Path, *, threads: int = 1) -> Job:
    return Job(program, target, tuple(xs), tuple(ys), work, threads=threads, timeout_s=60.0)


@pytest.fixture(scope="module")
def gemv(k1: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gemv")
    return link_direct([LAYER], [compile_kernel(GEMV, k1, folder, name="gemv")], k1, folder)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_a_kernel_is_run_verified_and_timed(gemv: Path, k1: Target, tmp_path: Path, threads: int) -> None:
    outcome = QemuRunner().run(job(gemv, k1, [X], [2 * (W @ X)], tmp_path, threads=threads))
    assert isinstance(outcome, Measurement), outcome
    assert outcome.cycles and outcome.cold_cycles and outcome.cold_cycles > outcome.cycles and outcome.stalls
    assert outcome.flash_bytes > W.nbytes
    parts = outcome.ram_parts
    assert (parts["transient_bytes"], parts["io_bytes"]) == (OUT * 4, (IN + OUT) * 4)
    assert parts["image_bytes"] == parts["state_bytes"] == parts["local_bytes"] == 0
    wrong = QemuRunner().run(job(gemv, k1, [X], [W @ X], tmp_path))
    assert isinstance(wrong, Failure) and wrong.stage == "verify"


def test_threads_give_the_same_bits_and_cost_barriers(gemv: Path, k1: Target, tmp_path: Path) -> None:
    cycles, outputs = {}, set()
    for threads in (1, 2, 4):
        folder = tmp_path / str(threads)
        outcome = QemuRunner().run(job(gemv, k1, [X], [2 * (W @ X)], folder, threads=threads))
        assert isinstance(outcome, Measurement) and outcome.cycles
        cycles[threads] = outcome.cycles
        outputs.add((folder / "output0.bin").read_bytes())
    assert len(outputs) == 1
    assert k1.timing is not None
    # Two phases, but the second has one workgroup: it is not shared, so there is one barrier.
    assert cycles[1] / 4 < cycles[4] - k1.timing.barrier_cycles.value < cycles[1]


def test_several_layers_in_one_program(k1: Target, tmp_path: Path) -> None:
    other = DirectLayer("again", (Phase("product", 1), Phase("doubled", 1)), W[::-1], IN, OUT, OUT * 4)
    program = link_direct([LAYER, other], [compile_kernel(GEMV, k1, tmp_path, name="gemv")], k1, tmp_path)
    # One workgroup of `other` computes only its share of the rows; the rest of scratch is as it was: zero.
    partial = 2 * (W[::-1] @ X) * (np.arange(OUT) < OUT // GROUPS)
    outcome = QemuRunner().run(job(program, k1, [X, X], [2 * (W @ X), partial], tmp_path / "run"))
    assert isinstance(outcome, Measurement), outcome


@pytest.fixture(scope="module")
def stray(k1: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stray")
    layer = DirectLayer("stray", (Phase("stray"),), np.ones(3, np.float32), 5, 3, 12)
    return link_direct([layer], [compile_kernel(STRAY, k1, folder, name="stray")], k1, folder, guarded=True)


@pytest.mark.parametrize("case", sorted(WRONGS))
def test_an_access_outside_the_buffers_is_named(stray: Path, k1: Target, tmp_path: Path, case: int) -> None:
    x = np.array([case, 0, 0, 0, 0], np.float32)
    outcome = QemuRunner().run(job(stray, k1, [x], [np.ones(3, np.float32)], tmp_path))
    assert isinstance(outcome, Failure) and outcome.stage == "run"
    assert outcome.reason.startswith("exit code 5: error: stray: ") and WRONGS[case] in outcome.reason


def test_guards_pass_a_kernel_that_keeps_to_its_buffers(stray: Path, k1: Target, tmp_path: Path) -> None:
    outcome = QemuRunner().run(job(stray, k1, [np.zeros(5, np.float32)], [np.ones(3, np.float32)], tmp_path))
    assert isinstance(outcome, Measurement), outcome


def test_what_was_never_written_is_seen(k1: Target, tmp_path: Path) -> None:
    source = "#include <stddef.h>\nvoid lazy(const float *x, const float *w, float *s, float *y, size_t g)\n"
    source += "{ (void)g; y[0] = x[0]; y[1] = w[0]; y[2] = s[0]; }\n"
    layer = DirectLayer("lazy", (Phase("lazy"),), np.ones(1, np.float32), 1, 4, 4)
    program = link_direct([layer], [compile_kernel(source, k1, tmp_path, name="lazy")], k1, tmp_path, guarded=True)
    outcome = QemuRunner().run(job(program, k1, [np.ones(1, np.float32)], [np.ones(4, np.float32)], tmp_path / "run"))
    assert isinstance(outcome, Failure) and "2 values that are not finite (of 4)" in outcome.reason


def test_a_kernel_must_stand_alone(k1: Target, tmp_path: Path) -> None:
    source = "float strange(float);\nfloat f(float x) { return strange(x); }\n"
    with pytest.raises(BuildError, match=r"lonely\.c: the compiled kernel needs strange from elsewhere"):
        compile_kernel(source, k1, tmp_path, name="lonely")
    assert undefined_symbols((tmp_path / "lonely.o").read_bytes()) == ["strange"]
    with pytest.raises(BuildError, match="zig cc failed"):
        compile_kernel("float f(", k1, tmp_path, name="broken")
    with pytest.raises(BuildError, match="not a 64-bit"):
        undefined_symbols(b"!<arch>")


def test_a_vector_setting_that_the_compiler_added_is_refused(k1: Target, tmp_path: Path) -> None:
    ours = '__asm__ volatile("vsetvli x0, %0, e32, m4, ta, ma; vmv.v.i v4, 0" ::"r"(3L) : "v4");'
    # What clang 22 does to a vector variable that it moves between two such statements.
    moves = '__asm__ volatile("vsetivli x0, 1, e8, m1, ta, ma; vmv1r.v v3, v4" ::: "v3");'
    compile_generated(f"void f(void) {{ {ours} }}", k1, tmp_path, name="ours")
    with pytest.raises(BuildError, match=r"moved\.o: the compiler put 2 vset instructions"):
        compile_generated(f"void f(void) {{ {ours} {moves} {moves} }}", k1, tmp_path, name="moved")


def test_short_vectors_are_refused(gemv: Path, k1: Target, tmp_path: Path) -> None:
    short = k1.model_copy(update={"qemu": k1.qemu.model_copy(update={"cpu": k1.qemu.cpu.replace("256", "128")})})
    outcome = QemuRunner().run(job(gemv, short, [X], [2 * (W @ X)], tmp_path))
    assert isinstance(outcome, Failure) and "needs vector registers of 256 bits" in outcome.reason
