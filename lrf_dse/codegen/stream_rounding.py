"""The state of a stream that rounds it as it goes: left where it is, unless half precision asks for another scale.

One panel uses each element once, so rounding in between costs less than a copy. What codes need beside it are the sums
of the rounded elements: work[1] for all of them, work[16...] for groups (lrf_dse/codegen/stream_state.py).
"""

from __future__ import annotations

from lrf_dse.codegen.plan import WORK_HEAD, StagePlan, copy_at
from lrf_dse.codegen.stream_state import CODE_BITS, SIDE_BY_SIDE, factors, largest, offset_text
from lrf_dse.codegen.text import indented
from lrf_dse.tt.grid import GROUP


def scaling(plan: StagePlan, lanes: int) -> list[str]:
    """The C function that gives the state as it is, or scaled in the working space where half precision asks for it."""
    size = 8 * lanes
    whole, left = plan.k - plan.k % size, plan.k % size
    step = ["LOAD_FLOATS(v0, s + k);", "SCALE(v0, scale.value);", "STORE_FLOATS(v0, copy + k);"]
    scaled = [
        *factors(plan),
        f"float *copy = work + {copy_at(plan.k)};",
        *([f"SET_WIDE({size}, m8);", *_loop(whole, size, step)] if whole else []),
        *([f"SET_WIDE({left}, m8);", *(line.replace("+ k", f"+ {whole}") for line in step)] if left else []),
        "state = copy;",
    ]
    lines = [
        *largest(plan.k, lanes),
        "const float *state = s;",
        f"work[0] = {_back(plan)};",
        *["if (!(m0 >= 0x1p-10f && m0 < 0x1p13f)) {", *indented(scaled), "}"],
        *_rounded_sums(plan, lanes),
        "return state;",
    ]
    return [
        "/* The state, scaled so that its largest element is near 1 where it is far from that. */",
        f"static const float *prepare_{plan.number}(const float *s, float *work)",
        "{",
        *indented(lines),
        "}",
        "",
    ]


def _rounded_sums(plan: StagePlan, lanes: int) -> list[str]:
    """What the offset of the codes makes of the sums of the rounded state: their errors are those of the products."""
    if plan.storage == "int4":
        return _sums_of_rounded_groups(plan, lanes)
    if plan.storage != "int8":
        return []
    size = 4 * lanes
    whole, left = divmod(plan.k, size)
    lines = ["float sum, rest = 0.0f;", f"SET_WIDE({size}, m4);", "CLEAR(v24);", "AS_HALF(m2);"]
    many, few = divmod(whole, SIDE_BY_SIDE)
    if many:
        step = SIDE_BY_SIDE * size
        lines += _loop(many * step, step, _added([f"k + {i * size}" for i in range(SIDE_BY_SIDE)], ["v24"] * 4))
    lines += _added([str((whole - few + i) * size) for i in range(few)], ["v24"] * few)
    if left:
        lines += [f"SET_WIDE({left}, m4);", "CLEAR(v28);", "AS_HALF(m2);", *_added([str(whole * size)], ["v28"])]
        lines += ["AS_WIDE(m4);", "FIRST_FROM(v20, 0.0f);", "SUM(v20, v28);", "FIRST_TO(rest, v20);"]
    lines += [f"SET_WIDE({size}, m4);", "FIRST_FROM(v16, 0.0f);", "SUM(v16, v24);", "FIRST_TO(sum, v16);"]
    return [*lines, f"work[1] = (sum + rest) * {offset_text(plan)};"]


def _added(places: list[str], totals: list[str]) -> list[str]:
    """Vectors of the state, rounded and added to `totals`."""
    steps = [
        [
            f"LOAD_FLOATS(v{4 * i}, state + {k});",
            f"TO_HALF(v{16 + 2 * i}, v{4 * i});",
            f"ADD_HALVES({total}, v{16 + 2 * i});",
        ]
        for i, (k, total) in enumerate(zip(places, totals, strict=True))
    ]
    return in_turn(steps)


def in_turn(steps: list[list[str]]) -> list[str]:
    """The steps of several vectors, each vector one step behind the one before.

    >>> in_turn([["a1", "a2"], ["b1", "b2"]])
    ['a1', 'b1', 'a2', 'b2']
    """
    order = sorted((i + step, step, i) for i, each in enumerate(steps) for step in range(len(each)))
    return [steps[i][step] for _, step, i in order]


def _sums_of_rounded_groups(plan: StagePlan, lanes: int) -> list[str]:
    """The same of every group, some side by side; a last one that is shorter by itself."""
    lmul, (whole, left) = max(2, GROUP // lanes), divmod(plan.k, GROUP)
    together = min(SIDE_BY_SIDE, 16 // lmul)
    many, few = divmod(whole, together)
    lines = [f"float {', '.join(f'sum{i}' for i in range(together if many else max(few, 1)))};"]
    if whole:
        lines += [f"SET_WIDE({GROUP}, m{lmul});", "FIRST_FROM(v31, 0.0f);"]
    if many:
        head = f"for (size_t group = 0; group < {many * together}; group += {together}) {{"
        lines += [head, *indented(_group_sums_from("group", together, lmul, plan)), "}"]
    lines += _group_sums_from(str(many * together), few, lmul, plan) if few else []
    if left:
        lines += [f"SET_WIDE({left}, m{lmul});", "FIRST_FROM(v31, 0.0f);", *_group_sums_from(str(whole), 1, lmul, plan)]
    return lines


def _group_sums_from(group: str, count: int, lmul: int, plan: StagePlan) -> list[str]:
    each = range(count)
    wide, narrow = [f"v{lmul * i}" for i in each], [f"v{16 + lmul // 2 * i}" for i in each]
    sums = [f"v{24 + i}" for i in each]
    steps = [
        [
            f"LOAD_FLOATS({wide[i]}, state + {GROUP} * ({group} + {i}));",
            f"TO_HALF({narrow[i]}, {wide[i]});",
            f"HALF_SUM({sums[i]}, {narrow[i]}, v31);",
        ]
        for i in each
    ]
    return [
        f"AS_HALF(m{lmul // 2});",
        *in_turn(steps),
        f"AS_WIDE(m{lmul});",
        *(f"FIRST_TO(sum{i}, {register});" for i, register in enumerate(sums)),
        *(f"work[{WORK_HEAD} + {group} + {i}] = sum{i} * {offset_text(plan)};" for i in each),
    ]


def _loop(end: int, step: int, body: list[str]) -> list[str]:
    return [f"for (size_t k = 0; k < {end}; k += {step}) {{", *indented(body), "}"]


def _back(plan: StagePlan) -> str:
    return "1.0f" if plan.storage == "fp16" else f"0x1p{CODE_BITS}f"
