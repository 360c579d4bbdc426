"""Every instruction of RV64GC, Zba, Zbb and RVV 1.0 is known to the timing plugin: none is left without a cost.

The lists are those of the ISA manuals, by format; the assembler is the judge of their spelling.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from runners.test_timing_decode import decode, tool

__all__ = ["tool"]

# RVV 1.0, chapter by chapter: names by the operands that they take.
VV_VX_VI = "vadd vand vor vxor vrgather vsaddu vsadd vsll vsrl vsra vssrl vssra vmseq vmsne vmsleu vmsle"
VV_VX = """vsub vminu vmin vmaxu vmax vssubu vssub vmsltu vmslt vaaddu vaadd vasubu vasub vdivu vdiv vremu vrem vmulhu
    vmul vmulhsu vmulh vsmul vwaddu vwadd vwsubu vwsub vwmulu vwmulsu vwmul"""
VX_VI = "vrsub vslideup vslidedown vmsgtu vmsgt"
MULTIPLY_ADD = "vmadd vnmsub vmacc vnmsac vwmaccu vwmacc vwmaccsu"
FV_FF = """vfadd vfsub vfmin vfmax vfsgnj vfsgnjn vfsgnjx vmfeq vmfle vmflt vmfne vfdiv vfmul vfwadd vfwsub vfwmul"""
FF = "vfrsub vfrdiv vmfgt vmfge vfslide1up vfslide1down"
FLOAT_MULTIPLY_ADD = """vfmadd vfnmadd vfmsub vfnmsub vfmacc vfnmacc vfmsac vfnmsac vfwmacc vfwnmacc vfwmsac vfwnmsac"""
REDUCTIONS = """vredsum vredand vredor vredxor vredminu vredmin vredmaxu vredmax vwredsumu vwredsum vfredusum vfredosum
    vfredmin vfredmax vfwredusum vfwredosum"""
UNARY = """vzext.vf2 vsext.vf2 vfsqrt.v vfrsqrt7.v vfrec7.v vfclass.v vfcvt.xu.f.v vfcvt.x.f.v vfcvt.f.xu.v vfcvt.f.x.v
    vfcvt.rtz.xu.f.v vfcvt.rtz.x.f.v vfwcvt.xu.f.v vfwcvt.x.f.v vfwcvt.f.xu.v vfwcvt.f.x.v vfwcvt.f.f.v
    vfwcvt.rtz.xu.f.v vfwcvt.rtz.x.f.v vfncvt.xu.f.w vfncvt.x.f.w vfncvt.f.xu.w vfncvt.f.x.w vfncvt.f.f.w
    vfncvt.rod.f.f.w vfncvt.rtz.xu.f.w vfncvt.rtz.x.f.w vmsbf.m vmsif.m vmsof.m viota.m"""
MASKS = "vmand vmnand vmandn vmxor vmor vmnor vmorn vmxnor"
WIDE = ("vwaddu.w", "vwadd.w", "vwsubu.w", "vwsub.w", "vfwadd.w", "vfwsub.w")
CARRY = ("vadc.vvm", "vsbc.vvm", "vmadc.vvm", "vmsbc.vvm", "vmerge.vvm")
OTHER = """vadc.vxm v8, v16, a0, v0; vadc.vim v8, v16, 1, v0; vmadc.vxm v8, v16, a0, v0; vmadc.vim v8, v16, 1, v0
    vmadc.vv v8, v16, v24; vmadc.vx v8, v16, a0; vmadc.vi v8, v16, 1; vmsbc.vv v8, v16, v24; vmsbc.vx v8, v16, a0
    vsbc.vxm v8, v16, a0, v0; vmsbc.vxm v8, v16, a0, v0; vmerge.vxm v8, v16, a0, v0; vmerge.vim v8, v16, 1, v0
    vfmerge.vfm v8, v16, fa0, v0; vmv.v.v v8, v16; vmv.v.x v8, a0; vmv.v.i v8, 1; vfmv.v.f v8, fa0; vmv.x.s a0, v8
    vmv.s.x v8, a0; vfmv.f.s fa0, v8; vfmv.s.f v8, fa0; vcpop.m a0, v8; vfirst.m a0, v8; vid.v v8
    vcompress.vm v8, v16, v24; vrgatherei16.vv v8, v16, v24; vslide1up.vx v8, v16, a0; vslide1down.vx v8, v16, a0
    vwmaccus.vx v8, a0, v16; vmv1r.v v8, v16; vmv2r.v v8, v16; vmv4r.v v8, v16; vmv8r.v v8, v16; vlm.v v8, (a0)
    vsm.v v8, (a0); vsetvli a0, a1, e32, m1, ta, ma; vsetivli a0, 4, e32, m1, ta, ma; vsetvl a0, a1, a2"""
NARROW = ("vnsrl", "vnsra", "vnclipu", "vnclip")

SCALAR_RRR = """add sub sll slt sltu xor srl sra or and addw subw sllw srlw sraw mul mulh mulhsu mulhu div divu rem remu
    mulw divw divuw remw remuw add.uw sh1add sh1add.uw sh2add sh2add.uw sh3add sh3add.uw andn orn xnor max maxu min minu
    rol rolw ror rorw"""
SCALAR_RRI = "addi slti sltiu xori ori andi slli srli srai addiw slliw srliw sraiw slli.uw rori roriw"
SCALAR_RR = "clz clzw ctz ctzw cpop cpopw sext.b sext.h zext.h orc.b rev8"
LOADS, STORES = "lb lh lw ld lbu lhu lwu", "sb sh sw sd"
FLOAT_RRR = "fadd fsub fmul fdiv fmin fmax fsgnj fsgnjn fsgnjx"
FLOAT_RRRR = "fmadd fmsub fnmadd fnmsub"
AMO = "amoswap amoadd amoxor amoand amoor amomin amomax amominu amomaxu"


def vector_lines() -> Iterator[str]:
    second = {"vv": "v24", "vx": "a0", "vi": "1", "vf": "fa0"}
    binary = ((VV_VX_VI, "vv vx vi"), (VV_VX, "vv vx"), (VX_VI, "vx vi"), (FV_FF, "vv vf"), (FF, "vf"))
    for names, forms in binary:
        yield from (f"{name}.{form} v8, v16, {second[form]}" for name, form in product(names.split(), forms.split()))
    for name, form in product(MULTIPLY_ADD.split(), ("vv", "vx")):
        yield f"{name}.{form} v8, {second[form]}, v16"
    for name, form in product(FLOAT_MULTIPLY_ADD.split(), ("vv", "vf")):
        yield f"{name}.{form} v8, {second[form]}, v16"
    for name, form in product(NARROW, ("wv", "wx", "wi")):
        yield f"{name}.{form} v8, v16, {second[f'v{form[1]}']}"
    for name in WIDE:
        yield from (f"{name}{kind} v8, v16, {second[f'v{kind}']}" for kind in ("vf" if name[1] == "f" else "vx"))
    yield from (f"{name}.vs v8, v16, v24" for name in REDUCTIONS.split())
    yield from (f"{name} v8, v16" for name in UNARY.split())
    yield from (f"{name}.mm v8, v16, v24" for name in MASKS.split())
    yield from (f"{name} v8, v16, v24, v0" for name in CARRY)
    yield from (line.strip() for line in OTHER.replace("\n", ";").split(";"))


def vector_memory_lines() -> Iterator[str]:
    for bits in (8, 16, 32, 64):
        yield from (f"vle{bits}.v v8, (a0)", f"vse{bits}.v v8, (a0)", f"vle{bits}ff.v v8, (a0)")
        yield from (f"vlse{bits}.v v8, (a0), a1", f"vsse{bits}.v v8, (a0), a1")
        yield from (f"v{kind}xei{bits}.v v8, (a0), v16" for kind in ("lu", "lo", "su", "so"))
        for fields in range(2, 9):
            yield from (f"vlseg{fields}e{bits}.v v8, (a0)", f"vsseg{fields}e{bits}.v v8, (a0)")
            yield from (f"vlsseg{fields}e{bits}.v v8, (a0), a1", f"vssseg{fields}e{bits}.v v8, (a0), a1")
            yield f"vlseg{fields}e{bits}ff.v v8, (a0)"
            yield from (f"v{kind}xseg{fields}ei{bits}.v v8, (a0), v16" for kind in ("lu", "lo", "su", "so"))
        yield from (f"vl{count}re{bits}.v v8, (a0)" for count in (1, 2, 4, 8))
    yield from (f"vs{count}r.v v8, (a0)" for count in (1, 2, 4, 8))


def scalar_lines() -> Iterator[str]:
    yield from (f"{name} a0, a1, a2" for name in SCALAR_RRR.split())
    yield from (f"{name} a0, a1, 1" for name in SCALAR_RRI.split())
    yield from (f"{name} a0, a1" for name in SCALAR_RR.split())
    yield from (f"{name} a0, 0(a1)" for name in (*LOADS.split(), *STORES.split()))
    yield from (f"f{name} fa0, 0(a1)" for name in ("lw", "ld", "sw", "sd"))
    yield from (f"{name} a0, a1, ." for name in ("beq", "bne", "blt", "bge", "bltu", "bgeu"))
    yield from ("jal a0, .", "jalr a0, 0(a1)", "lui a0, 1", "auipc a0, 0", "fence", "fence.i", "ecall", "ebreak")
    yield from (f"csrr{kind} a0, fcsr, a1" for kind in "wsc")
    yield from (f"csrr{kind}i a0, fcsr, 1" for kind in "wsc")
    for width in ("w", "d"):
        yield from (f"{name}.{width} a0, a1, (a2)" for name in AMO.split())
        yield from (f"lr.{width} a0, (a1)", f"sc.{width} a0, a1, (a2)")
    for kind in ("s", "d"):
        yield from (f"{name}.{kind} fa0, fa1, fa2" for name in FLOAT_RRR.split())
        yield from (f"{name}.{kind} fa0, fa1, fa2, fa3" for name in FLOAT_RRRR.split())
        yield from (f"{name}.{kind} a0, fa1, fa2" for name in ("feq", "flt", "fle"))
        yield from (f"fsqrt.{kind} fa0, fa1", f"fclass.{kind} a0, fa1")
        for integer in ("w", "wu", "l", "lu"):
            yield from (f"fcvt.{integer}.{kind} a0, fa1", f"fcvt.{kind}.{integer} fa0, a1")
    yield from ("fcvt.s.d fa0, fa1", "fcvt.d.s fa0, fa1", "fmv.x.w a0, fa1", "fmv.w.x fa0, a1", "fmv.x.d a0, fa1")
    yield from ("fmv.d.x fa0, a1",)


def test_no_instruction_is_unknown(tool: Path, tmp_path: Path) -> None:
    lines = [*scalar_lines(), *vector_lines(), *vector_memory_lines()]
    assert len(lines) > 800
    decoded = decode(tool, tmp_path, lines, sew=16, lmul="1")
    assert [line for line, got in zip(lines, decoded, strict=True) if got.operation == "unknown"] == []
    for line, got in zip(lines, decoded, strict=True):
        assert got.operation.startswith("v_") == line.startswith("v"), line


def test_masked_forms_are_known(tool: Path, tmp_path: Path) -> None:
    takes_no_mask = (".mm ", "vm v8", ".vvm ", ".vxm ", ".vim ", ".vfm ", "vmv", "vfmv", "vset", "vlm.", "vsm.")
    lines = [
        f"{line}, v0.t"
        for line in (*vector_lines(), *vector_memory_lines())
        if not any(part in line for part in takes_no_mask)
        and not line.startswith(("vmadc", "vmsbc", "vcompress", "vs1r", "vs2r", "vs4r", "vs8r"))
        and not line.startswith(tuple(f"vl{count}r" for count in (1, 2, 4, 8)))
    ]
    assert len(lines) > 500
    decoded = decode(tool, tmp_path, lines, sew=16, lmul="1")
    assert [
        line for line, got in zip(lines, decoded, strict=True) if got.operation == "unknown" or not got.masked
    ] == []
