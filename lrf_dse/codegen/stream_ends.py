"""What lies around the products of a stream's panel: its start, its scales, the ends of groups, and what is stored."""

from __future__ import annotations

from lrf_dse.codegen.microkernel import bounded
from lrf_dse.codegen.plan import WORK_HEAD
from lrf_dse.codegen.storage import code_bytes, groups_of
from lrf_dse.codegen.stream import Stream
from lrf_dse.codegen.text import half_lmul

_SCALES_AT = {1: (0, 2), 2: (3, 5)}
"""The unit of a group with which its scales are loaded, and that after which they are widened, by sets of sums:
a product would wait for the load, and with two sets the scales of the group before are needed a little longer."""


def narrow(stream: Stream) -> list[str]:
    """Half precision from here on, where the stream computes in it."""
    return [f"AS_HALF({half_lmul(stream.lmul)});"] if stream.half else []


def _wide(stream: Stream) -> list[str]:
    return [f"AS_WIDE(m{stream.lmul});"] if stream.half else []


def started(stream: Stream) -> list[str]:
    """What is set before the products of a panel: the total of int4, which begins with the bias."""
    if stream.plan.storage != "int4":
        return []
    total = stream.registers.total
    lines = ["const unsigned char *codes = panel;"]
    lines += [f"const float *sums = work + {WORK_HEAD};"] if stream.half and stream.groups > 1 else []
    if stream.plan.has_bias:
        scaled = [*_wide(stream), f"SCALE({total}, inverse);", *narrow(stream)] if stream.half else []
        return [*lines, f"LOAD_FLOATS({total}, bias);", *scaled]
    cleared = [*_wide(stream), f"CLEAR({total});", *narrow(stream)] if stream.groups > 1 else []
    return lines + cleared


def beside(stream: Stream, unit: int) -> list[str]:
    """What the end needs, loaded early: scales, the bias."""
    registers, plan = stream.registers, stream.plan
    lines = []
    if plan.storage == "int4":
        group, place = divmod(unit, stream.group_units)
        last = stream.units - 1 - group * stream.group_units
        load, widen = (min(at, last) for at in _SCALES_AT[stream.sum_sets])
        lines += _of_group_before(stream, group, place, ends=place == last)
        if place == load:
            after = code_bytes("int4", groups_of(plan.k)[group], stream.run.first.width)
            lines += [f"LOAD_HALVES({registers.narrow_scale}, codes + {after});"]
        if place == widen:
            lines += _half_scale(stream)
    elif unit == max(0, stream.units - 3):
        if plan.storage == "int8":
            offset = code_bytes("int8", plan.k, stream.run.first.width)
            lines += [f"LOAD_FLOATS({registers.scale}, panel + {offset});"]
        lines += [f"LOAD_FLOATS({registers.bias}, bias);"] if plan.has_bias else []
    return lines


def _half_scale(stream: Stream) -> list[str]:
    wide, loaded = stream.registers.scale, stream.registers.narrow_scale
    if stream.half:
        return [f"HALF_TIMES({wide}, {loaded}, one.value);"]
    # The bits of half precision move to where single precision has them; 2^112 puts right the difference of the two
    # exponent biases (127 and 15).
    lines = [f"EXTEND_SIGN_2({wide}, {loaded});", f"SHIFT_LEFT({wide}, 13);"]
    return [*lines, f"MASK({wide}, 0x8fffe000);", f"SCALE({wide}, 0x1p112f);"]


def at_group_end(stream: Stream, unit: int) -> list[str]:
    """After the last unit of a group of int4: its sums, times its scales, are added to those of the groups before."""
    ends = unit % stream.group_units == stream.group_units - 1 or unit == stream.units - 1
    if stream.plan.storage != "int4" or not ends:
        return []
    if stream.sum_sets > 1 and unit != stream.units - 1:
        return [f"codes += {stream.group_bytes};"]  # the rest follows beside the next group
    group, alone = unit // stream.group_units, stream.groups == 1
    steps = _added_up(stream, group)
    lines = [*_wide(stream), *(line for step in steps for line in step), *narrow(stream)]
    if alone:
        return lines
    return [*lines, *(["sums += 1;"] * stream.half), f"codes += {stream.group_bytes};"]


def _added_up(stream: Stream, group: int) -> list[list[str]]:
    """The sums of a group, times its scales, to the total: three steps, each of which waits for the one before."""
    registers, alone = stream.registers, stream.groups == 1
    live = stream.sums_of(group * stream.group_terms)[: stream.plan.k - group * stream.group_terms]
    starts = alone and not stream.plan.has_bias
    first = []
    if stream.half:
        taken = f"TAKE_OFF({registers.total}, *sums, {registers.scale});"
        if alone:
            name = "TIMES" if starts else "MULTIPLY_ADD"
            taken = f"{name}({registers.total}, less, {registers.scale});"
        first = [taken]
    # Chains alternate between low and high nibbles: every second one is of the same kind.
    first += [f"ADD({one}, {other});" for one, other in zip(live, live[2:], strict=False)]
    # Masked high nibbles are 16 times as large: 2^-4 puts that right.
    second = [f"MULTIPLY_ADD({live[0]}, 0x1p-4f, {live[1]});"] if len(live) > 1 else []
    name = "TIMES_EACH" if starts and not stream.half else "MULTIPLY_ADD_EACH"
    return [first, second, [f"{name}({registers.total}, {registers.scale}, {live[0]});"]]


def _of_group_before(stream: Stream, group: int, place: int, *, ends: bool) -> list[str]:
    """With two sets of sums: a step of adding up the group before, or all that are left where this one ends."""
    if stream.sum_sets == 1 or group == 0:
        return []
    # Each step goes beside another unit of the next group, so that none of them waits for the one before.
    steps = _added_up(stream, group - 1)
    now = steps[place:] if ends else steps[place : place + 1]
    lines = [line for step in now for line in (*_wide(stream), *step, *narrow(stream))]
    return [*lines, *(["sums += 1;"] if now and now[-1] is steps[-1] else [])]


def finished(stream: Stream) -> list[str]:
    """The sums of a panel to what is stored."""
    registers, storage = stream.registers, stream.plan.storage
    sums = [registers.total] if storage == "int4" else list(registers.sums)
    result = registers.bias or sums[0]
    lines = _wide(stream)
    scaled = storage == "int8"
    if scaled and stream.half:
        lines += [f"SCALE({registers.scale}, factor);"]
    if registers.bias:
        if scaled:
            lines += [f"TAKE_OFF({result}, taken, {registers.scale});"] * stream.half
            lines += [f"MULTIPLY_ADD_EACH({result}, {registers.scale}, {one});" for one in sums]
        elif stream.half:
            lines += [f"MULTIPLY_ADD({result}, factor, {one});" for one in sums]
        else:
            lines += [f"ADD({result}, {one});" for one in sums]
    else:
        lines += [f"ADD({result}, {one});" for one in sums[1:]]
        # The part of the offset comes off before the scale here; above, TAKE_OFF multiplies it by the scale.
        lines += [f"SUBTRACT({result}, taken);"] * (scaled and stream.half)
        lines += [f"SCALE_EACH({result}, {registers.scale});"] * scaled
        lines += [f"SCALE({result}, factor);"] * (stream.half and not scaled)
    lines += bounded(stream.plan.finish, [result])
    return [*lines, f"STORE_FLOATS({result}, out);", *narrow(stream)]
