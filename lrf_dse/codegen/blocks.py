"""The C around a stage of a block-diagonal factor: a call for every block and row of x, and the movement of axes.

Blocks are the outer loop: the weights of one stay in a near cache while rows of x pass by. Threads share the blocks.
"""

from __future__ import annotations

from lrf_dse.codegen.plan import KernelPlan, Moved, StagePlan
from lrf_dse.codegen.text import at, loop

_MOVE = "move"


def block_calls(plan: KernelPlan, stage: StagePlan, threads: int) -> list[str]:
    """The calls of a stage, those of `group` among so many threads."""
    # A term of an address is (loop variable, floats from turn to turn, turns); `text.at` drops those of loops that run
    # once.
    index, last = stage.number - 1, len(plan.stages)
    row = ("row", stage.blocks * stage.in_floats, stage.repeats)
    block = ("block", stage.in_floats, stage.blocks)
    source = at("x", row, block) if index == 0 else at("scratch", ("", plan.states[index - 1], 1), row, block)
    moved = plan.moved if stage.number < last else None
    # What a block gives lies together in a buffer of the thread first; the thread's next block writes it again.
    if moved is not None:
        result = at("scratch", ("", moved.offset, 1), ("group", moved.floats, moved.threads))
    else:
        base = at("y") if stage.number == last else at("scratch", ("", plan.states[index], 1))
        row_out = ("row", stage.blocks * stage.out_floats, stage.repeats)
        result = at(base, row_out, ("block", stage.out_floats, stage.blocks))
    weights = at("weights", ("", stage.packed.offset, 1), ("block", stage.packed.block_words, stage.blocks))
    arguments = [source, weights, result]
    if stage.has_bias:
        arguments += [at("weights", ("", plan.bias or 0, 1), ("block", stage.out_floats, stage.blocks))]
    if stage.work_floats:
        arguments += [at("scratch", ("", plan.work, 1), ("group", plan.work_floats, threads))]
    body = [f"stage_{stage.number}({', '.join(arguments)});"]
    if moved is not None:
        state = ("row", stage.blocks * stage.out_floats, stage.repeats)
        to = at("scratch", ("", plan.states[index], 1), state, ("block", moved.run, stage.blocks))
        body += [f"{_MOVE}({result}, {to});"]
    return loop("block", stage.blocks, loop("row", stage.repeats, body), groups=threads)


def move_function(moved: Moved, lanes: int) -> list[str]:
    """The C function that takes what a block gives, [m_1, r], to its places in the state [m_1, n_1, r]."""
    pitch = moved.blocks * moved.run
    return [
        f"/* [{moved.runs}, {moved.run}] to every {moved.blocks}th run of {moved.run}. */",
        f"static void {_MOVE}(const float *from, float *to)",
        "{",
        *(f"  {line}" for line in loop("run", moved.runs, _one_run(moved, pitch, lanes))),
        "}",
    ]


def _one_run(moved: Moved, pitch: int, lanes: int) -> list[str]:
    source, to = at("from", ("run", moved.run, moved.runs)), at("to", ("run", pitch, moved.runs))
    if lanes == 1:
        # Without the barrier compilers call memcpy, which is not there.
        body = [f"({to})[i] = ({source})[i];", '__asm__ volatile("" ::: "memory");']
        return [f"for (size_t i = 0; i < {moved.run}; i++) {{", *(f"  {line}" for line in body), "}"]
    lines, done = [], 0
    while done < moved.run:
        # Eight registers are the longest vector of RVV (LMUL 8).
        count = min(8 * lanes, moved.run - done)
        # The least power of two of registers that holds `count` floats.
        lmul = 1 << (-(-count // lanes) - 1).bit_length()
        lines += [f"SET_VL({count}, m{lmul});"]
        lines += [f"LOAD_VECTOR(v8, {at(source, ('', done, 1))});", f"STORE_VECTOR(v8, {at(to, ('', done, 1))});"]
        done += count
    return lines
