"""The timing plugin's decoder against the assembler: what an instruction's text says it reads and writes.

Registers are numbered as in toolchain/plugin/timing_decode.h: x0 to x31, f0 (32), v0 (64), then vl (96).
"""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from lrf_dse.builders.zig import zig_cc
from lrf_dse.resources import data_dir
from lrf_dse.target import operations

PROGRAM = Path(__file__).resolve().parent / "programs" / "decode_dump.c"
BEGIN, END = (word.to_bytes(4, "little") for word in (0x5A103013, 0x5A203013))
F, V, VL = 32, 64, 96
INTEGERS = {"zero": 0, "ra": 1, "sp": 2, "s0": 8, "s1": 9, "t6": 31} | {f"a{i}": 10 + i for i in range(8)}
INTEGERS |= {f"t{i}": 5 + i for i in range(3)} | {f"t{i}": 25 + i for i in range(3, 7)}
FLOATS = {f"fa{i}": F + 10 + i for i in range(8)} | {f"ft{i}": F + i for i in range(8)}


@dataclass(frozen=True)
class Decoded:
    operation: str
    masked: bool
    elements: int
    access_bytes: int
    lmul_log2: int
    reads: frozenset[int]
    writes: frozenset[int]


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decode")
    plugin = data_dir("toolchain") / "plugin"
    units = [str(PROGRAM), *map(str, sorted(plugin.glob("timing_decode*.c")))]
    host = ["-target", f"{platform.machine()}-linux-gnu", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"]
    zig_cc([*host, "-I", str(plugin), *units, "-o", "decode"], cwd=folder)
    return folder / "decode"


def words_of(lines: list[str], folder: Path) -> list[int]:
    """The encodings of assembled `lines`, one each."""
    marked = ["sltiu x0, x0, 0x5a1", *lines, "sltiu x0, x0, 0x5a2"]
    compressed = any(line.startswith("c.") for line in lines)
    text = "\n".join([".option norelax", *([] if compressed else [".option norvc"]), *marked, ""])
    (folder / "lines.S").write_text(text)
    features = "generic_rv64+m+a+f+d+c+v+zba+zbb"
    zig_cc(["-target", "riscv64-freestanding-none", f"-mcpu={features}", "-c", "lines.S", "-o", "lines.o"], cwd=folder)
    data = (folder / "lines.o").read_bytes()
    code = data[data.index(BEGIN) + 4 : data.index(END)]
    words = []
    while code:
        size = 4 if code[0] & 3 == 3 else 2
        words.append(int.from_bytes(code[:size], "little"))
        code = code[size:]
    assert len(words) == len(lines)
    return words


def vtype_of(sew: int, lmul: str) -> int:
    return {8: 0, 16: 1, 32: 2, 64: 3}[sew] << 3 | {"1": 0, "2": 1, "4": 2, "8": 3, "f8": 5, "f4": 6, "f2": 7}[lmul]


def decode(tool: Path, folder: Path, lines: list[str], *, sew: int = 32, lmul: str = "1") -> list[Decoded]:
    asked = "".join(f"{word:x} {vtype_of(sew, lmul):x}\n" for word in words_of(lines, folder))
    answer = subprocess.run([str(tool)], input=asked, capture_output=True, text=True, check=True, timeout=60).stdout
    return [_decoded(line) for line in answer.splitlines()]


def _decoded(line: str) -> Decoded:
    head, reads, writes = line.split("|")
    operation, masked, elements, access_bytes, lmul_log2 = head.split()
    registers = (frozenset(map(int, part.split())) for part in (reads, writes))
    return Decoded(operation, masked == "1", int(elements), int(access_bytes), int(lmul_log2), *registers)


def register(name: str) -> int:
    """A register's number by its name in text."""
    if (found := re.fullmatch(r"v(\d+)", name)) is not None:
        return V + int(found[1])
    return FLOATS[name] if name in FLOATS else INTEGERS[name]


def operands(line: str) -> list[int]:
    """The registers of an assembly line in the order of its text; x0 and numbers are none."""
    text = line.partition(" ")[2].replace("v0.t", "")
    names = re.findall(r"\b(?:v\d+|f[at]\d|[ast]\d+|ra|sp|zero)\b", text)
    return [number for name in names if (number := register(name)) != 0]


# Operation -> lines whose first operand is written and whose others are read.
SCALAR = {
    "int_alu": ["add a0, a1, a2", "addi a0, a1, 5", "sub t0, t1, a5", "lui a0, 1", "auipc a0, 0", "sraiw a0, a1, 3"],
    "int_shift_add": ["sh2add a0, a1, a2", "add.uw a0, a1, a2", "sh3add.uw a0, a1, a2", "slli.uw a0, a1, 3"],
    "int_popcount": ["cpop a0, a1", "cpopw a0, a1"],
    "int_mul": ["mul a0, a1, a2", "mulhu a0, a1, a2"],
    "int_mul_word": ["mulw a0, a1, a2"],
    "int_div": ["div a0, a1, a2", "remu a0, a1, a2"],
    "int_div_word": ["divuw a0, a1, a2", "remw a0, a1, a2"],
    "load": ["lb a0, 0(a1)", "lhu a0, 2(a1)", "lw a0, 4(sp)", "ld a0, 8(a1)"],
    "float_load": ["flw fa0, 4(a1)", "fld fa0, 8(a1)"],
    "float_add": ["fadd.s fa0, fa1, fa2", "fsub.d fa0, fa1, fa2", "fmin.s fa0, fa1, fa2", "fsgnjn.s fa0, fa1, fa2"],
    "float_mul": ["fmul.s fa0, fa1, fa2"],
    "float_fma": ["fmadd.s fa0, fa1, fa2, fa3", "fnmsub.d fa0, fa1, fa2, fa3"],
    "float_div": ["fdiv.s fa0, fa1, fa2", "fsqrt.s fa0, fa1"],
    "float_div_double": ["fdiv.d fa0, fa1, fa2", "fsqrt.d fa0, fa1"],
    "float_convert": ["fcvt.d.s fa0, fa1"],
    "float_to_int": ["fmv.x.w a0, fa1", "feq.s a0, fa1, fa2", "fcvt.w.s a0, fa1", "fclass.d a0, fa1"],
    "int_to_float": ["fmv.w.x fa0, a1", "fcvt.s.l fa0, a1"],
    "jump": ["jalr ra, 0(a0)", "jalr t0, 4(a1)"],
    "system": ["csrrs a0, 0xc22, zero", "csrrw a0, 0x1, a1"],
    "atomic": ["amoadd.w a0, a1, (a2)", "lr.d a0, (a2)", "sc.w a0, a1, (a2)"],
}
COMPRESSED = {
    "int_alu": ["c.addi a0, 1", "c.add a0, a1", "c.mv a0, a1", "c.li a0, 3", "c.andi a0, 7", "c.sub a0, a1"],
    "load": ["c.lw a0, 4(a1)", "c.ld a0, 8(a1)", "c.ldsp a0, 8(sp)"],
    "float_load": ["c.fld fa0, 8(a1)", "c.fldsp fa0, 8(sp)"],
}
ONLY_READ = {
    "store": ["sb a0, 0(a1)", "sd a0, 8(a1)"],
    "float_store": ["fsw fa0, 4(a1)", "fsd fa0, 8(a1)"],
    "branch": ["beq a0, a1, .", "bgeu a0, a1, ."],
}
VECTOR = {
    "v_int_alu": ["vadd.vv v4, v8, v12", "vadd.vx v4, v8, a0", "vand.vi v4, v8, 3", "vmin.vv v4, v8, v12",
                  "vsaddu.vv v4, v8, v12", "vaadd.vv v4, v8, v12"],
    "v_int_shift": ["vsll.vi v4, v8, 1", "vsra.vx v4, v8, a0", "vssrl.vv v4, v8, v12", "vzext.vf2 v4, v8"],
    "v_int_mul": ["vmul.vv v4, v8, v12", "vmulhu.vx v4, v8, a0", "vsmul.vv v4, v8, v12"],
    "v_int_div": ["vdiv.vv v4, v8, v12", "vremu.vx v4, v8, a0"],
    "v_int_compare": ["vmseq.vv v4, v8, v12", "vmsgt.vx v4, v8, a0", "vmadc.vv v4, v8, v12"],
    "v_splat": ["vmv.v.x v4, a0", "vmv.v.i v4, 3", "vfmv.v.f v4, fa0"],
    "v_move": ["vmv.v.v v4, v8"],
    "v_to_int": ["vmv.x.s a0, v8"],
    "v_to_float": ["vfmv.f.s fa0, v8"],
    "v_from_scalar": ["vmv.s.x v4, a0", "vfmv.s.f v4, fa0"],
    "v_float_add": ["vfadd.vv v4, v8, v12", "vfrsub.vf v4, v8, fa0", "vfmax.vv v4, v8, v12"],
    "v_float_mul": ["vfmul.vf v4, v8, fa0"],
    "v_float_div": ["vfdiv.vv v4, v8, v12", "vfsqrt.v v4, v8"],
    "v_float_div_scalar": ["vfdiv.vf v4, v8, fa0", "vfrdiv.vf v4, v8, fa0"],
    "v_float_compare": ["vmfeq.vv v4, v8, v12", "vmfgt.vf v4, v8, fa0"],
    "v_float_sign": ["vfsgnjx.vv v4, v8, v12", "vfclass.v v4, v8", "vfrec7.v v4, v8"],
    "v_float_convert": ["vfcvt.x.f.v v4, v8", "vfcvt.f.xu.v v4, v8"],
    "v_reduce_int": ["vredsum.vs v4, v8, v12", "vredmaxu.vs v4, v8, v12"],
    "v_reduce_float": ["vfredusum.vs v4, v8, v12", "vfredmin.vs v4, v8, v12"],
    "v_reduce_float_ordered": ["vfredosum.vs v4, v8, v12"],
    "v_mask_logic": ["vmand.mm v4, v8, v12", "vmxnor.mm v4, v8, v12"],
    "v_mask_count": ["vcpop.m a0, v8", "vfirst.m a0, v8"],
    "v_mask_index": ["vid.v v4", "viota.m v4, v8", "vmsbf.m v4, v8"],
    "v_slide": ["vslideup.vi v4, v8, 1", "vslidedown.vx v4, v8, a0", "vslide1down.vx v4, v8, a0",
                "vfslide1up.vf v4, v8, fa0"],
    "v_gather": ["vrgather.vv v4, v8, v12", "vrgather.vi v4, v8, 1"],
    "v_gather16": ["vrgatherei16.vv v4, v8, v12"],
    "v_compress": ["vcompress.vm v4, v8, v12"],
    "v_load": ["vle32.v v4, (a0)", "vlm.v v4, (a0)"],
    "v_load_strided": ["vlse32.v v4, (a0), a1"],
    "v_load_indexed": ["vluxei32.v v4, (a0), v8", "vloxei32.v v4, (a0), v8"],
}  # fmt: skip
ACCUMULATES = {
    "v_float_fma": ["vfmacc.vv v4, v8, v12", "vfnmsub.vf v4, fa0, v8"],
    "v_int_mul": ["vmacc.vv v4, v8, v12", "vnmsub.vx v4, a0, v8"],
}
VECTOR_STORES = {
    "v_store": ["vse32.v v4, (a0)", "vsm.v v4, (a0)"],
    "v_store_strided": ["vsse32.v v4, (a0), a1"],
    "v_store_indexed": ["vsuxei32.v v4, (a0), v8"],
}


@pytest.mark.parametrize(
    ("table", "writes_first", "reads_first", "vl"),
    [
        (SCALAR, True, False, False),
        (COMPRESSED, True, False, False),
        (ONLY_READ, False, True, False),
        (VECTOR, True, False, True),
        (ACCUMULATES, True, True, True),
        (VECTOR_STORES, False, True, True),
    ],
)
def test_operations_and_registers_are_those_of_the_text(
    *, table: dict[str, list[str]], writes_first: bool, reads_first: bool, vl: bool, tool: Path, tmp_path: Path
) -> None:
    lines = [(name, line) for name, lines in table.items() for line in lines]
    for (name, line), got in zip(lines, decode(tool, tmp_path, [line for _, line in lines]), strict=True):
        first, *others = operands(line)
        # c.addi, c.add, c.andi and c.sub read what they write; a jump through a register writes its link first.
        two_address = line.startswith(("c.addi", "c.add ", "c.andi", "c.sub"))
        reads = {*others, *([first] if reads_first or two_address else []), *([VL] if vl else [])}
        assert got.operation == name, line
        assert got.writes == ({first} if writes_first else set()), line
        assert got.reads == reads, line
        assert not got.masked, line


def group(first: int, count: int) -> set[int]:
    return set(range(V + first, V + first + count))


@pytest.mark.parametrize(
    ("line", "lmul", "operation", "reads", "writes", "lmul_log2"),
    [
        ("vfmacc.vf v8, fa0, v16", "8", "v_float_fma", group(8, 16) | {F + 10}, group(8, 8), 3),
        ("vfadd.vv v8, v16, v24", "4", "v_float_add", group(16, 4) | group(24, 4), group(8, 4), 2),
        ("vadd.vv v8, v16, v24", "f2", "v_int_alu", {V + 16, V + 24}, {V + 8}, 0),
        ("vfwmacc.vf v8, fa0, v16", "2", "v_float_widen", group(8, 4) | group(16, 2) | {F + 10}, group(8, 4), 2),
        ("vwadd.wv v8, v16, v24", "2", "v_int_widen", group(16, 4) | group(24, 2), group(8, 4), 2),
        ("vnsrl.wi v8, v16, 1", "2", "v_int_narrow", group(16, 4), group(8, 2), 2),
        ("vfncvt.f.f.w v8, v16", "2", "v_float_convert", group(16, 4), group(8, 2), 2),
        ("vfwcvt.f.x.v v8, v16", "2", "v_float_convert", group(16, 2), group(8, 4), 2),
        ("vsext.vf4 v8, v16", "4", "v_int_shift", {V + 16}, group(8, 4), 2),
        ("vfredusum.vs v8, v16, v24", "8", "v_reduce_float", group(16, 8) | {V + 24}, {V + 8}, 3),
        ("vmflt.vv v0, v8, v16", "8", "v_float_compare", group(8, 16), {V}, 3),
        ("vmerge.vvm v8, v16, v24, v0", "2", "v_move", group(16, 2) | group(24, 2) | {V}, group(8, 2), 1),
        ("vmv4r.v v8, v16", "1", "v_whole_move", group(16, 4), group(8, 4), 2),
        ("vle32.v v8, (a0)", "8", "v_load", {10}, group(8, 8), 3),
        ("vle8.v v8, (a0)", "4", "v_load", {10}, group(8, 1), 0),
        ("vle64.v v8, (a0)", "4", "v_load", {10}, group(8, 8), 3),
        ("vlseg3e32.v v8, (a0)", "2", "v_load_segment", {10}, group(8, 6), 2),
        ("vsuxei16.v v8, (a0), v16", "4", "v_store_indexed", {10} | group(8, 4) | group(16, 2), set(), 2),
        ("vl4re32.v v8, (a0)", "1", "v_load_whole", {10}, group(8, 4), 2),
        ("vs2r.v v8, (a0)", "8", "v_store_whole", {10} | group(8, 2), set(), 1),
        ("vsseg2e32.v v8, (a0)", "2", "v_store_segment", {10} | group(8, 4), set(), 2),
        ("vle32ff.v v8, (a0)", "2", "v_load_fault_first", {10}, group(8, 2) | {VL}, 1),
    ],
)
def test_register_groups_follow_lmul(
    *,
    line: str,
    lmul: str,
    operation: str,
    reads: set[int],
    writes: set[int],
    lmul_log2: int,
    tool: Path,
    tmp_path: Path,
) -> None:
    (got,) = decode(tool, tmp_path, [line], lmul=lmul)
    whole = "_whole" in operation
    assert got.operation == operation
    assert got.reads == reads | (set() if whole else {VL})
    assert got.writes == writes
    assert got.lmul_log2 == lmul_log2


def test_masked_operations_read_v0(tool: Path, tmp_path: Path) -> None:
    lines = ["vfmacc.vf v8, fa0, v16, v0.t", "vle32.v v8, (a0), v0.t", "vse32.v v8, (a0), v0.t"]
    for got in decode(tool, tmp_path, lines, lmul="2"):
        assert got.masked and V in got.reads


@pytest.mark.parametrize(
    ("line", "sew", "lmul", "elements", "access_bytes"),
    [
        ("vlse32.v v8, (a0), a1", 32, "4", 32, 4),
        ("vlse64.v v8, (a0), a1", 64, "1", 4, 8),
        ("vlse32.v v8, (a0), a1", 32, "f2", 4, 4),
        ("vluxei32.v v8, (a0), v16", 16, "2", 32, 2),
        ("vlseg4e32.v v8, (a0)", 32, "1", 32, 4),
        ("vle8.v v8, (a0)", 32, "1", 8, 1),
    ],
)
def test_elements_of_a_full_vector(
    *, line: str, sew: int, lmul: str, elements: int, access_bytes: int, tool: Path, tmp_path: Path
) -> None:
    """VLEN is 256: as many as a group of EMUL = EEW / SEW x LMUL holds, for each field."""
    (got,) = decode(tool, tmp_path, [line], sew=sew, lmul=lmul)
    assert (got.elements, got.access_bytes) == (elements, access_bytes)


def test_configuration_writes_vl(tool: Path, tmp_path: Path) -> None:
    lines = ["vsetvli a0, a1, e32, m4, ta, ma", "vsetivli a0, 4, e8, m1, ta, ma", "vsetvl a0, a1, a2"]
    got = decode(tool, tmp_path, lines)
    assert [entry.operation for entry in got] == ["v_config"] * 3
    assert [entry.reads for entry in got] == [{11}, set(), {11, 12}]
    assert all(entry.writes == {10, VL} for entry in got)


def test_every_operation_is_decoded_from_something() -> None:
    named = {name for table in (SCALAR, ONLY_READ, VECTOR, ACCUMULATES, VECTOR_STORES) for name in table}
    named |= {
        "v_float_widen",
        "v_int_widen",
        "v_int_narrow",
        "v_whole_move",
        "v_config",
        "v_load_segment",
        "v_load_fault_first",
    }
    named |= {"v_load_whole", "v_store_whole", "v_store_segment"}
    assert set(operations()) - named == {"unknown"}


def test_random_words_name_registers_that_exist(tool: Path) -> None:
    done = subprocess.run([str(tool), "200000"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
