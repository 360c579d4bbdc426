"""Loops of more than one kind of instruction: chains through memory, loads mixed with arithmetic, jumps. Text alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from lrf_dse.calibrate.micro import BUFFER_BYTES, Micro, lines_of, vector_setup
from lrf_dse.target import Timing

FP32_BYTES = 4

# Where loops that need more than some zeros find it in the buffer, in MiB: what is in memory only is touched once.
_LINKED, _COLD_LINKED = 8, 16


def chases() -> tuple[Micro, Micro, Micro]:
    """Loads each of which needs the last one's result, in L1, in L2 and in memory."""
    # 64 lines are 4 KiB, 4096 are 256 KiB, 65536 are 4 MiB: within the L1, within the L2 and far beyond the L2 of a K1.
    chase = lines_of(["ld a0, 0(a0)"] * 8)
    return (
        Micro("ld to ld, L1", chase, 8, setup=chase_setup(64, _LINKED)),
        Micro("ld to ld, L2", chase, 8, setup=chase_setup(4096, _LINKED), iterations=512),
        Micro("ld to ld, DRAM", chase, 8, setup=chase_setup(65536, _COLD_LINKED), iterations=512, passes=1),
    )


def sized_chases(timing: Timing) -> Mapping[str, Micro]:
    """Chains of loads for each level of a target's own hierarchy, by the place of the latency in its file.

    A chain of twice as many loads less one of as many: what surrounds them cancels. A level has none where the one
    before is too large to tell them apart, and memory where the last cache is too large for the buffer.
    """
    sizes = [cache.size_bytes for cache in timing.cache]
    chains = {"cache 1 latency_cycles": _chase(sizes[0] // 4, timing.line_bytes)}
    for number, (inner, outer) in enumerate(pairwise(sizes), start=2):
        # Half of the outer cache must be at least twice the inner one, or many loads of the chain would hit the inner
        # one.
        if outer // 2 >= 2 * inner:
            chains[f"cache {number} latency_cycles"] = _chase(outer // 2, timing.line_bytes)
    # Eight times the last cache: by the time a chain comes round, its first lines have been pushed out.
    if 8 * sizes[-1] <= BUFFER_BYTES:
        chains["dram latency_cycles"] = _chase(8 * sizes[-1], timing.line_bytes)
    return chains


def _chase(size: int, line_bytes: int) -> Micro:
    # The largest power of two that is not above it, as chase_setup needs.
    lines = 1 << (size // line_bytes).bit_length() - 1
    half = ["ld a0, 0(a0)"] * 4
    # Eight loads an iteration: lines / 8 iterations visit each line once.
    setup, iterations = chase_setup(lines, 0), max(32, lines // 8)
    name = f"ld to ld in {lines * line_bytes >> 10} KiB"
    return Micro(name, lines_of(half * 2), 4, setup=setup, iterations=iterations, baseline=lines_of(half))


def chase_setup(lines: int, offset_mib: int) -> str:
    """Link `lines` (a power of two) lines of the buffer in an order that no stride predictor follows; a0 is the first.

    The successor of line i is (5 i + 12345) mod lines. It visits all lines before it comes back to the first.
    """
    # The period is full for a modulus that is a power of two, as the factor is 1 mod 4 and the summand odd (Hull and
    # Dobell 1962; Knuth, The Art of Computer Programming 2, section 3.2.1.2). Lines are 64 bytes (the shifts by 6).
    return f"""li t1, {offset_mib << 20}
        add a0, a0, t1
        li t2, 0
        li t3, {lines}
        addi t1, t3, -1
        li a5, 12345
    7:  slli t4, t2, 2
        add t4, t4, t2
        add t4, t4, a5
        and t4, t4, t1
        slli t4, t4, 6
        add t4, t4, a0
        slli t0, t2, 6
        add t0, t0, a0
        sd t4, 0(t0)
        addi t2, t2, 1
        bne t2, t3, 7b"""


def _rows(count: int, lmul: int, first: int, source: str, floats: str = "fa") -> list[str]:
    return [f"vfmacc.vf v{first + lmul * row}, {floats}{row}, {source}" for row in range(count)]


def mixed_loops() -> tuple[Micro, ...]:
    """Inner loops of matrix products: loads before FMAs, or between them; y += a x; a dot product."""
    loads = [f"flw fa{row}, {FP32_BYTES * row}(a0)" for row in range(8)]
    first_m2 = ["vle32.v v0, (a0)", *loads, *_rows(8, 2, 8, "v0")]
    first_m4 = ["vle32.v v0, (a0)", *loads[:7], *_rows(7, 4, 4, "v0")]
    # Software pipelining: the first half of the rows uses v0 and the fa registers while v2 and the ft ones are loaded,
    # the second half the other way round. On a core in order, loads in front of all FMAs cost 19 cycles, these 16
    # (llvm-mca).
    between: list[str] = []
    for half, (source, spare) in enumerate((("v0", "v2"), ("v2", "v0"))):
        now, later = ("fa", "ft") if half == 0 else ("ft", "fa")
        for row in range(4):
            between.append(f"vfmacc.vf v{8 + 8 * half + 2 * row}, {now}{row}, {source}")
            between += [f"vle32.v {spare}, (a0)"] if row == 0 else []
            between.append(f"flw {later}{row}, {16 * half + FP32_BYTES * row}(a0)")
    axpy = ["vle32.v v0, (a0)", "vle32.v v4, (a2)", "vfmacc.vf v4, fa0, v0", "vse32.v v4, (a2)"]
    dot: list[str] = []
    # Two accumulators, so that a step does not wait for the FMA of the last one.
    for accumulator, x, y in (("v8", "v0", "v2"), ("v10", "v4", "v6")):
        dot += [f"vle32.v {x}, (a0)", f"vle32.v {y}, (a2)", f"vfmacc.vv {accumulator}, {x}, {y}"]
    loops = {
        "8 x m2 FMAs, loads first": (2, first_m2),
        "7 x m4 FMAs, loads first": (4, first_m4),
        "8 x m2 FMAs, loads between": (2, between),
        "y += a x, m4": (4, axpy),
        "dot product, 2 x m2": (2, dot),
    }
    return tuple(_unrolled(name, body, lmul) for name, (lmul, body) in loops.items())


def _unrolled(name: str, body: list[str], lmul: int) -> Micro:
    """A loop with `body` four times: it is compared with models of straight-line code, which have no loop around it."""
    return Micro(name, lines_of(body * 4), 4, setup=f"{vector_setup(lmul)}\n addi a2, a0, 1024")


def chains() -> tuple[Micro, ...]:
    """Addresses that depend on what was loaded: vle32 to an integer register and back, flw likewise."""
    # The buffer holds zeros: the address stays the same, but the core cannot know it.
    through = ["vle32.v v8, (a0)", "vmv.x.s t1, v8", "add a0, a0, t1"]
    floats = ["flw fa0, 0(a0)", "fmv.x.w t1, fa0", "add a0, a0, t1"]
    vector = [_unrolled(f"vle32 m{lmul} to address", through, lmul) for lmul in (1, 4)]
    return (*vector, _unrolled("flw to address", floats, 1))


def mispredicted_jump() -> Micro:
    """Cycles that an indirect jump to two places in turn takes beyond one that goes to the same place.

    The jump depends on what issues a cycle before it, and pairs with an instruction before it: what follows would
    issue in the next cycle.
    """
    # a2 is the address of auipc, or 4 more in every second iteration. The jump reaches 24 bytes beyond it: the first or
    # the second of the two jumps below, which go to the same place. With x0 the toggle does nothing, and the jump is
    # predicted.
    body = """auipc a2, 0
        xor a5, a5, {toggle}
        add a2, a2, a5
        addi t1, t1, 1
        addi t1, t1, 1
        jr 24(a2)
        j 3f
        j 3f
    3:"""
    setup = "li a4, 4\n li a5, 0"
    return Micro("mispredicted jump", body.format(toggle="a4"), 1, setup=setup, baseline=body.format(toggle="x0"))
