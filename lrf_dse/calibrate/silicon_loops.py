"""Whole loops that were measured on boards, written again: streams of stores, copies, reads, and loops that compute.

Pure text. Every loop counts its elements down itself, as on the board: `vsetvli` of what is left, the work, the step,
the branch. `warm` writes the memory that the board's benchmark wrote just before each timed call, so that the caches
hold what they held there. Registers: those of micro.py, and t5 and a6 inside a body.
"""

from __future__ import annotations

from lrf_dse.calibrate.micro import BUFFER_BYTES, Micro, lines_of, vector_setup

COPY_SOURCE = BUFFER_BYTES // 2 + 1024
"""Where copies read from, beside where they write: in other sets of the nearest cache."""
CACHED_BYTES = 1 << 20
"""Arrays up to this size were read as well, in runs of other sizes before: some cache has their lines."""


def store_stream(name: str, lmul: int, size: int) -> Micro:
    """vsetvli, vse8, subtract, add, branch: bytes stored a cycle."""
    body = f"""li a2, {size}
        mv a3, a0
    1:  vsetvli a4, a2, e8, m{lmul}, ta, ma
        vse8.v v8, (a3)
        sub a2, a2, a4
        add a3, a3, a4
        bnez a2, 1b"""
    return _stream(name, lmul, size, body, warm=_written(size))


def store_stream_without_vset(name: str, lmul: int, size: int) -> Micro:
    """vse8, add, branch under one vtype: bytes stored a cycle."""
    body = f"""vsetvli a4, x0, e8, m{lmul}, ta, ma
        li a2, {size}
        mv a3, a0
        add a5, a0, a2
    1:  vse8.v v8, (a3)
        add a3, a3, a4
        bltu a3, a5, 1b"""
    return Micro(name, body, 1, "bytes per cycle", vector_setup(lmul, sew=8), size, 2, once=True, warm=_written(size))


def copy_stream(name: str, lmul: int, size: int) -> Micro:
    """vsetvli, vle8, add, subtract, vse8, add, branch: bytes copied a cycle (read and written each counted once)."""
    body = f"""li a2, {size}
        mv a3, a0
        li a1, {COPY_SOURCE}
        add a1, a1, a0
    1:  vsetvli a4, a2, e8, m{lmul}, ta, ma
        vle8.v v8, (a1)
        add a1, a1, a4
        sub a2, a2, a4
        vse8.v v8, (a3)
        add a3, a3, a4
        bnez a2, 1b"""
    return _stream(name, lmul, size, body, warm=_written(size))


def read_stream(name: str, lmul: int, size: int) -> Micro:
    """vsetvli, vle8, vmsgt, vcpop, two adds, subtract, branch: bytes read a cycle."""
    # In UTF-8 a byte above -65 (signed) begins a character: the loop counts characters, as utf8_count of rvv-bench
    # does.
    body = f"""li a2, {size}
        mv a3, a0
        li a5, -65
        li t1, 0
    1:  vsetvli a4, a2, e8, m{lmul}, ta, ma
        vle8.v v8, (a3)
        vmsgt.vx v16, v8, a5
        vcpop.m t0, v16
        add t1, t1, t0
        sub a2, a2, a4
        add a3, a3, a4
        bnez a2, 1b"""
    return _stream(name, lmul, size, body, warm=_written(size))


def _stream(name: str, lmul: int, size: int, body: str, *, warm: str) -> Micro:
    setup = vector_setup(lmul, sew=8)
    return Micro(name, body, 1, "bytes per cycle", setup, size, 2, once=True, warm=warm)


def _written(size: int) -> str:
    """The first `size` bytes of the buffer, written eight at a time; those that a cache may hold are read before."""
    read = "ld t0, 0(a3)" if size <= CACHED_BYTES else "nop"
    return f"""li a2, {size}
        mv a3, a0
        add a2, a2, a0
    1:  {read}
        sd x0, 0(a3)
        sd x0, 8(a3)
        addi a3, a3, 16
        bltu a3, a2, 1b"""


def mandelbrot(name: str, width: int, lmul: int, *, sew: int = 32, steps: int = 100) -> Micro:
    """The Mandelbrot set of `width` x `width` points, `steps` at most, at e32 or e16: cycles of the whole.

    At e16 the counters have 32 bits: twice the LMUL.
    """
    # Both widths have the same number of elements at these LMULs, so that one vl (t1) and one mask (v0) serve both.
    half = sew == 16
    wide = 2 * lmul if half else lmul
    counting, working = f"vsetvli x0, x0, e32, m{wide}, ta, ma", f"vsetvli x0, x0, e{sew}, m{lmul}, ta, ma"
    round_scalar = "fcvt.h.s {0}, {0}" if half else ""
    # A mask has one bit for each element. e8 with a quarter of the LMUL of e32 has as many elements: vfirst sees all of
    # them.
    points = _points(f"m{wide}", working if half else "", steps)
    step = _step(working, counting if half else "", {1: "mf4", 2: "mf2", 4: "m1"}[wide], whole_move=half)
    body = f"""
        fcvt.s.w fa5, t2
        li t0, 0x40000000
        fmv.w.x fa4, t0
        fdiv.s fa5, fa4, fa5
        {round_scalar.format("fa5")}
        li t3, 0
        mv a3, a0
    1:  fcvt.s.w fa1, t3
        {round_scalar.format("fa1")}
        mv t4, t2
    2:  {points}
    3:  {step}
    4:  slli a2, t4, 2
        add a2, a2, a3
        vsetvli x0, t1, e32, m{wide}, ta, ma
        vse32.v v8, (a2)
        bnez t4, 2b
        addi t3, t3, 1
        slli a2, t2, 2
        add a3, a3, a2
        bne t3, t2, 1b"""
    setup = [".option arch, +zfh, +zvfh"] if half else []
    setup.append(f"li t2, {width}")
    # The corner of the picture (-1.5, -1) and the bound of |z|^2: made of quarters, because no instruction loads a
    # constant.
    for register, value in {"fa6": -1.5, "fa7": -1.0, "fa3": 4.0}.items():
        setup += [f"li t0, {int(4 * value)}", f"fcvt.s.w {register}, t0", "li t0, 4", "fcvt.s.w ft0, t0"]
        setup += [f"fdiv.s {register}, {register}, ft0", round_scalar.format(register)]
    return Micro(name, body, 1, setup=lines_of(line for line in setup if line), passes=2, iterations=1)


def _points(wide: str, working: str, steps: int) -> str:
    """The next points of a row: c in v12 and v14, z = 0 in v20 and v16, its squares in v18 and v22, no counts in v8."""
    return f"""vsetvli t1, t4, e32, {wide}, ta, ma
        sub t4, t4, t1
        vmset.m v0
        vmv.v.i v8, 0
        {working}
        viota.m v12, v0
        vadd.vx v12, v12, t4
        vfcvt.f.xu.v v12, v12
        vfmv.v.f v14, fa1
        vfmul.vf v12, v12, fa5
        vfadd.vf v12, v12, fa6
        vfmul.vf v14, v14, fa5
        vfadd.vf v14, v14, fa7
        vmv.v.i v20, 0
        li a4, 1
        li a5, {steps}
        vmv.v.i v16, 0
        vmv.v.i v18, 0
        vmv.v.i v22, 0"""


def _step(working: str, counting: str, mask_lmul: str, *, whole_move: bool) -> str:
    """One step of z^2 + c: stop if no point is left, compare |z|^2, multiply, count where the mask holds."""
    # z = x + iy. v18 and v22 hold x^2 and y^2, v20 x (doubled below), v16 y. A whole-register move does not depend on
    # vtype, which is that of the counters at e16.
    return f"""vsetvli x0, t1, e8, {mask_lmul}, ta, ma
        vfirst.m a2, v0
        bltz a2, 4f
        {working}
        vfadd.vv v24, v18, v22
        vmflt.vf v0, v24, fa3
        vfsub.vv v18, v18, v22
        vfadd.vv v20, v20, v20
        vfadd.vv v24, v18, v12
        vfmadd.vv v16, v20, v14
        vfmul.vv v18, v24, v24
        vfmul.vv v22, v16, v16
        {counting}
        vmerge.vxm v8, v8, a4, v0
        addi a5, a5, -1
        addi a4, a4, 1
        {"vmv2r.v v20, v24" if whole_move else "vmv.v.v v20, v24"}
        bnez a5, 3b"""


def gemm_step(name: str) -> Micro:
    """A register tile of 15 rows and one m2 column, K = 256 from packed panels in L1: cycles a step.

    As a compiler leaves it: the vector and the scalars of a step are loaded before its multiply-adds.
    """
    rows, k = 15, 256
    floats = [f"fa{n}" for n in range(8)] + [f"ft{n}" for n in range(7)]
    body = ["vle32.v v0, (a3)", *(f"flw {register}, {4 * row}(a2)" for row, register in enumerate(floats))]
    body += ["addi a3, a3, 64", f"addi a2, a2, {4 * rows}"]
    body += [f"vfmacc.vf v{2 + 2 * row}, {register}, v0" for row, register in enumerate(floats)]
    # The panel of the vector column begins 128 KiB behind that of the scalars, which takes 15 KiB (256 x 15 x 4 bytes).
    start = "mv a2, a0\n li a3, 131072\n add a3, a3, a0"
    return Micro(name, lines_of(body), 1, setup=vector_setup(2), iterations=k, passes=3, start=start)
