/* RVV 1.0 arithmetic, permutations and vset*: tables by funct6 for each operand format. See timing_decode.h. */
#include "timing_decode.h"

/* How operands differ from "vd, vs2, vs1 are groups of LMUL". */
enum {
    WIDE_VD = 1,   /* vd is a group of 2 LMUL */
    WIDE_VS2 = 2,  /* vs2 is */
    READS_VD = 4,  /* vd is a source as well */
    MASK_VD = 8,   /* vd is a mask: one register */
    REDUCES = 16,  /* vd and vs1 hold one element: one register */
    MASK_VS2 = 32, /* vs2 is a mask */
    NO_VS1 = 64,   /* bits 19-15 are an opcode, not a source */
    UNMASKED = 128 /* vm = 0 is part of the opcode: v0 is read, but nothing is masked off */
};

struct row {
    uint8_t operation, shape;
};

#define ROW(name, shape) {LRF_OP_##name, shape}
#define ALU ROW(v_int_alu, 0)
#define SHIFT ROW(v_int_shift, 0)
#define NONE ROW(unknown, 0)

/* OPIVV, OPIVX, OPIVI. 0x0e and 0x27 depend on the format: see `integer`. */
static const struct row integer_rows[64] = {
    /* 00 */ ALU, NONE, ALU, ALU, ALU, ALU, ALU, ALU,
    /* 08 */ NONE, ALU, ALU, ALU, ROW(v_gather, 0), NONE, ROW(v_slide, 0), ROW(v_slide, 0),
    /* 10 */ ROW(v_int_shift, UNMASKED), ROW(v_int_compare, MASK_VD | UNMASKED), ROW(v_int_shift, UNMASKED),
    /* 13 */ ROW(v_int_compare, MASK_VD | UNMASKED), NONE, NONE, NONE, ROW(v_move, UNMASKED),
    /* 18 */ ROW(v_int_compare, MASK_VD), ROW(v_int_compare, MASK_VD), ROW(v_int_compare, MASK_VD),
    /* 1b */ ROW(v_int_compare, MASK_VD), ROW(v_int_compare, MASK_VD), ROW(v_int_compare, MASK_VD),
    /* 1e */ ROW(v_int_compare, MASK_VD), ROW(v_int_compare, MASK_VD),
    /* 20 */ ALU, ALU, ALU, ALU, NONE, SHIFT, NONE, ROW(v_int_mul, 0),
    /* 28 */ SHIFT, SHIFT, SHIFT, SHIFT, ROW(v_int_narrow, WIDE_VS2), ROW(v_int_narrow, WIDE_VS2),
    /* 2e */ ROW(v_int_narrow, WIDE_VS2), ROW(v_int_narrow, WIDE_VS2),
    /* 30 */ ROW(v_reduce_int, REDUCES), ROW(v_reduce_int, REDUCES), NONE, NONE, NONE, NONE, NONE, NONE,
    /* 38 */ NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE};

#define REDUCE ROW(v_reduce_int, REDUCES)
#define LOGIC ROW(v_mask_logic, MASK_VD | MASK_VS2)
#define DIV ROW(v_int_div, 0)
#define MUL ROW(v_int_mul, 0)
#define MAC ROW(v_int_mul, READS_VD)
#define WIDEN ROW(v_int_widen, WIDE_VD)
#define WIDEN_W ROW(v_int_widen, WIDE_VD | WIDE_VS2)
#define WIDEN_MAC ROW(v_int_widen, WIDE_VD | READS_VD)

/* OPMVV, OPMVX. 0x10, 0x12 and 0x14 are unary: see `mask_unary`. */
static const struct row mask_rows[64] = {
    /* 00 */ REDUCE, REDUCE, REDUCE, REDUCE, REDUCE, REDUCE, REDUCE, REDUCE,
    /* 08 */ ALU, ALU, ALU, ALU, NONE, NONE, ROW(v_slide, 0), ROW(v_slide, 0),
    /* 10 */ NONE, NONE, ROW(v_int_shift, NO_VS1), NONE, NONE, NONE, NONE, ROW(v_compress, 0),
    /* 18 */ LOGIC, LOGIC, LOGIC, LOGIC, LOGIC, LOGIC, LOGIC, LOGIC,
    /* 20 */ DIV, DIV, DIV, DIV, MUL, MUL, MUL, MUL,
    /* 28 */ NONE, MAC, NONE, MAC, NONE, MAC, NONE, MAC,
    /* 30 */ WIDEN, WIDEN, WIDEN, WIDEN, WIDEN_W, WIDEN_W, WIDEN_W, WIDEN_W,
    /* 38 */ WIDEN, NONE, WIDEN, WIDEN, WIDEN_MAC, WIDEN_MAC, WIDEN_MAC, WIDEN_MAC};

#define ADD ROW(v_float_add, 0)
#define SIGN ROW(v_float_sign, 0)
#define FREDUCE ROW(v_reduce_float, REDUCES)
#define ORDERED ROW(v_reduce_float_ordered, REDUCES)
#define COMPARE ROW(v_float_compare, MASK_VD)
#define FMA ROW(v_float_fma, READS_VD)
#define FWIDEN ROW(v_float_widen, WIDE_VD)
#define FWIDEN_W ROW(v_float_widen, WIDE_VD | WIDE_VS2)
#define FWIDEN_MAC ROW(v_float_widen, WIDE_VD | READS_VD)

/* OPFVV, OPFVF. 0x10, 0x12, 0x13 and 0x17 are unary: see `float_unary`. */
static const struct row float_rows[64] = {
    /* 00 */ ADD, FREDUCE, ADD, ORDERED, ADD, FREDUCE, ADD, FREDUCE,
    /* 08 */ SIGN, SIGN, SIGN, NONE, NONE, NONE, ROW(v_slide, 0), ROW(v_slide, 0),
    /* 10 */ NONE, NONE, NONE, NONE, NONE, NONE, NONE, ROW(v_move, UNMASKED),
    /* 18 */ COMPARE, COMPARE, NONE, COMPARE, COMPARE, COMPARE, NONE, COMPARE,
    /* 20 */ ROW(v_float_div, 0), ROW(v_float_div, 0), NONE, NONE, ROW(v_float_mul, 0), NONE, NONE, ADD,
    /* 28 */ FMA, FMA, FMA, FMA, FMA, FMA, FMA, FMA,
    /* 30 */ FWIDEN, FREDUCE, FWIDEN, ORDERED, FWIDEN_W, NONE, FWIDEN_W, NONE,
    /* 38 */ FWIDEN, NONE, NONE, NONE, FWIDEN_MAC, FWIDEN_MAC, FWIDEN_MAC, FWIDEN_MAC};

#define VD(code) lrf_bits(code, 7, 5)
#define VS1(code) lrf_bits(code, 15, 5)
#define VS2(code) lrf_bits(code, 20, 5)
#define FUNCT6(code) lrf_bits(code, 26, 6)
enum format { OPIVV, OPFVV, OPMVV, OPIVI, OPIVX, OPFVF, OPMVX, OPCFG };

/* One row becomes operands. `lmul` is log2; bits 19-15 name a vector, an x or an f register, or nothing. */
static void emit(uint32_t code, struct row row, int lmul, struct lrf_instruction *out)
{
    const enum format format = lrf_bits(code, 12, 3);
    const unsigned group = lrf_group_size(lmul), wide = lrf_group_size(lmul + 1);
    const bool masked = lrf_bits(code, 25, 1) == 0;
    out->operation = row.operation;
    out->masked = masked && !(row.shape & UNMASKED);
    const int cost = lmul + ((row.shape & (WIDE_VD | WIDE_VS2)) != 0);
    out->lmul_log2 = (uint8_t)(cost < 0 ? 0 : cost > 3 ? 3 : cost);
    if (!(row.shape & NO_VS1)) {
        if (format == OPIVV || format == OPFVV || format == OPMVV)
            lrf_reads(out, LRF_V + VS1(code), row.shape & (REDUCES | MASK_VS2) ? 1 : group);
        else if (format == OPIVX || format == OPMVX)
            lrf_reads(out, VS1(code), 1);
        else if (format == OPFVF)
            lrf_reads(out, LRF_F + VS1(code), 1);
    }
    lrf_reads(out, LRF_V + VS2(code), row.shape & MASK_VS2 ? 1 : row.shape & WIDE_VS2 ? wide : group);
    const unsigned destination = row.shape & (MASK_VD | REDUCES) ? 1 : row.shape & WIDE_VD ? wide : group;
    if (row.shape & READS_VD)
        lrf_reads(out, LRF_V + VD(code), destination);
    if (masked)
        lrf_reads(out, LRF_V, 1);
    lrf_reads(out, LRF_VL, 1);
    lrf_writes(out, LRF_V + VD(code), destination);
}

/* Operations with one vector operand, or none, and their own register files: sources, then the destination. */
static void unary(struct lrf_instruction *out, enum lrf_operation operation, int lmul, struct lrf_group source,
                  struct lrf_group destination)
{
    out->operation = operation;
    out->lmul_log2 = (uint8_t)(lmul < 0 ? 0 : lmul > 3 ? 3 : lmul);
    if (source.count)
        lrf_reads(out, source.first, source.count);
    if (out->masked)
        lrf_reads(out, LRF_V, 1);
    lrf_reads(out, LRF_VL, 1);
    lrf_writes(out, destination.first, destination.count);
}

#define GROUP(first, count) ((struct lrf_group){(uint8_t)(first), (uint8_t)(count)})

static void mask_unary(uint32_t code, int lmul, struct lrf_instruction *out)
{
    const unsigned group = lrf_group_size(lmul), which = VS1(code);
    const struct lrf_group vd = GROUP(LRF_V + VD(code), group), mask = GROUP(LRF_V + VS2(code), 1);
    const bool vv = lrf_bits(code, 12, 3) == OPMVV;
    out->masked = lrf_bits(code, 25, 1) == 0;
    if (FUNCT6(code) == 0x10 && !vv) /* vmv.s.x */
        unary(out, LRF_OP_v_from_scalar, 0, GROUP(which, 1), GROUP(LRF_V + VD(code), 1));
    else if (FUNCT6(code) == 0x10) /* vmv.x.s, vcpop, vfirst */
        unary(out, which == 0 ? LRF_OP_v_to_int : LRF_OP_v_mask_count, 0, mask, GROUP(VD(code), 1));
    else if (FUNCT6(code) == 0x14 && which == 0x11) /* vid */
        unary(out, LRF_OP_v_mask_index, lmul, GROUP(0, 0), vd);
    else if (FUNCT6(code) == 0x14 && which == 0x10) /* viota */
        unary(out, LRF_OP_v_mask_index, lmul, mask, vd);
    else if (FUNCT6(code) == 0x14) /* vmsbf, vmsof, vmsif */
        unary(out, LRF_OP_v_mask_index, 0, mask, GROUP(LRF_V + VD(code), 1));
    else if (FUNCT6(code) == 0x12) /* vzext, vsext: the source is a half, a quarter or an eighth of the result */
        unary(out, LRF_OP_v_int_shift, lmul, GROUP(LRF_V + VS2(code), lrf_group_size(lmul - 4 + (int)(which >> 1))), vd);
}

static void float_unary(uint32_t code, int lmul, struct lrf_instruction *out)
{
    const unsigned group = lrf_group_size(lmul), wide = lrf_group_size(lmul + 1), which = VS1(code);
    const struct lrf_group vd = GROUP(LRF_V + VD(code), group), vs2 = GROUP(LRF_V + VS2(code), group);
    const bool vv = lrf_bits(code, 12, 3) == OPFVV, changes_width = which >= 8;
    out->masked = lrf_bits(code, 25, 1) == 0;
    if (FUNCT6(code) == 0x10 && vv) /* vfmv.f.s */
        unary(out, LRF_OP_v_to_float, 0, GROUP(LRF_V + VS2(code), 1), GROUP(LRF_F + VD(code), 1));
    else if (FUNCT6(code) == 0x10) /* vfmv.s.f */
        unary(out, LRF_OP_v_from_scalar, 0, GROUP(LRF_F + which, 1), GROUP(LRF_V + VD(code), 1));
    else if (FUNCT6(code) == 0x12 && vv) /* conversions: 8-15 widen, 16-23 narrow */
        unary(out, LRF_OP_v_float_convert, lmul + changes_width, GROUP(vs2.first, which >= 16 ? wide : group),
              GROUP(vd.first, changes_width && which < 16 ? wide : group));
    else if (FUNCT6(code) == 0x13 && vv)
        unary(out, which == 0 ? LRF_OP_v_float_div : LRF_OP_v_float_sign, lmul, vs2, vd);
    else if (FUNCT6(code) == 0x17 && !vv && !out->masked) /* vfmv.v.f; with a mask it is vfmerge */
        unary(out, LRF_OP_v_splat, lmul, GROUP(LRF_F + which, 1), vd);
}

/* vmv<n>r.v: whole registers, whatever vtype is. */
static void whole_move(uint32_t code, struct lrf_instruction *out)
{
    const unsigned registers = VS1(code) + 1;
    out->operation = LRF_OP_v_whole_move;
    out->lmul_log2 = (uint8_t)(registers >= 8 ? 3 : registers >= 4 ? 2 : registers >= 2 ? 1 : 0);
    out->no_vtype = false;
    lrf_reads(out, LRF_V + VS2(code), registers);
    lrf_writes(out, LRF_V + VD(code), registers);
}

static void integer(uint32_t code, int lmul, struct lrf_instruction *out)
{
    const enum format format = lrf_bits(code, 12, 3);
    const unsigned group = lrf_group_size(lmul);
    struct row row = integer_rows[FUNCT6(code)];
    if (FUNCT6(code) == 0x27 && format == OPIVI) {
        whole_move(code, out);
    } else if (FUNCT6(code) == 0x17 && lrf_bits(code, 25, 1)) { /* vmv.v.v, vmv.v.x, vmv.v.i */
        const struct lrf_group source = format == OPIVV   ? GROUP(LRF_V + VS1(code), group)
                                        : format == OPIVX ? GROUP(VS1(code), 1)
                                                          : GROUP(0, 0);
        unary(out, format == OPIVV ? LRF_OP_v_move : LRF_OP_v_splat, lmul, source, GROUP(LRF_V + VD(code), group));
    } else {
        if (FUNCT6(code) == 0x0e && format == OPIVV) /* vrgatherei16 shares its funct6 with vslideup */
            row = (struct row)ROW(v_gather16, 0);
        emit(code, row, lmul, out);
    }
}

static void configure(uint32_t code, struct lrf_instruction *out)
{
    const bool immediate_avl = lrf_bits(code, 30, 2) == 3;
    const bool from_register = lrf_bits(code, 30, 2) == 2;
    out->operation = LRF_OP_v_config;
    out->configures = true;
    out->no_vtype = false;
    out->vtype_effect = from_register ? LRF_VTYPE_LOST : LRF_VTYPE_SET;
    out->vtype = (uint8_t)lrf_bits(code, 20, 6);
    if (!immediate_avl)
        lrf_reads(out, VS1(code), 1);
    if (from_register)
        lrf_reads(out, VS2(code), 1);
    lrf_writes(out, VD(code), 1);
    lrf_writes(out, LRF_VL, 1);
}

void lrf_decode_vector(uint32_t code, unsigned vtype, unsigned vlen_bits, struct lrf_instruction *out)
{
    const int lmul = vtype == LRF_VTYPE_UNKNOWN ? 0 : ((int)(vtype & 7) ^ 4) - 4; /* vlmul is a signed 3-bit number */
    const unsigned funct6 = FUNCT6(code);
    (void)vlen_bits;
    out->vector = true;
    out->no_vtype = vtype == LRF_VTYPE_UNKNOWN;
    out->sew_log2 = lrf_sew_log2(vtype);
    if (lrf_bits(code, 2, 5) != 0x15) /* OP-VE: vector cryptography */
        return;
    switch ((enum format)lrf_bits(code, 12, 3)) {
    case OPCFG:
        out->vector = false;
        configure(code, out);
        break;
    case OPIVV:
    case OPIVI:
    case OPIVX: integer(code, lmul, out); break;
    case OPMVV:
    case OPMVX:
        if (funct6 == 0x10 || funct6 == 0x12 || funct6 == 0x14)
            mask_unary(code, lmul, out);
        else
            emit(code, mask_rows[funct6], lmul, out);
        break;
    case OPFVV:
    case OPFVF:
        if (funct6 == 0x10 || funct6 == 0x12 || funct6 == 0x13 || (funct6 == 0x17 && lrf_bits(code, 25, 1)))
            float_unary(code, lmul, out);
        else
            emit(code, float_rows[funct6], lmul, out);
        if (out->operation == LRF_OP_v_float_div && (enum format)lrf_bits(code, 12, 3) == OPFVF)
            out->operation = LRF_OP_v_float_div_scalar;
    }
}
