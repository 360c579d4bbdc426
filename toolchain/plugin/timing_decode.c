/* Scalar instructions of 32 bits. See timing_decode.h. */
#include "timing_decode.h"

#define RD(code) lrf_bits(code, 7, 5)
#define FUNCT3(code) lrf_bits(code, 12, 3)
#define RS1(code) lrf_bits(code, 15, 5)
#define RS2(code) lrf_bits(code, 20, 5)
#define RS3(code) lrf_bits(code, 27, 5)
#define FUNCT7(code) lrf_bits(code, 25, 7)

static void memory(struct lrf_instruction *out, enum lrf_operation operation, unsigned width, bool store)
{
    out->operation = operation;
    out->access_bytes = (uint16_t)(1u << width);
    out->load = !store;
    out->store = store;
}

static void immediate(uint32_t code, bool word, struct lrf_instruction *out)
{
    const unsigned funct7 = FUNCT7(code);
    out->operation = LRF_OP_int_alu;
    if (FUNCT3(code) == 1 && (funct7 & 0x7e) == 0x30 && RS2(code) == 2)
        out->operation = LRF_OP_int_popcount;
    else if (word && FUNCT3(code) == 1 && (funct7 & 0x7e) == 0x04)
        out->operation = LRF_OP_int_shift_add; /* slli.uw */
    lrf_reads(out, RS1(code), 1);
    lrf_writes(out, RD(code), 1);
}

/* OP and OP-32: M by funct7 = 1, Zba's shift-and-add by funct7 0x10 and 0x04 (add.uw); all others are simple. */
static void register_register(uint32_t code, bool word, struct lrf_instruction *out)
{
    const unsigned funct3 = FUNCT3(code), funct7 = FUNCT7(code);
    out->operation = LRF_OP_int_alu;
    if (funct7 == 0x01 && funct3 < 4)
        out->operation = word ? LRF_OP_int_mul_word : LRF_OP_int_mul;
    else if (funct7 == 0x01)
        out->operation = word ? LRF_OP_int_div_word : LRF_OP_int_div;
    else if (funct7 == 0x10 || (word && funct7 == 0x04 && funct3 == 0))
        out->operation = LRF_OP_int_shift_add;
    lrf_reads(out, RS1(code), 1);
    lrf_reads(out, RS2(code), 1);
    lrf_writes(out, RD(code), 1);
}

static void fused(uint32_t code, struct lrf_instruction *out)
{
    out->operation = LRF_OP_float_fma;
    lrf_reads(out, LRF_F + RS1(code), 1);
    lrf_reads(out, LRF_F + RS2(code), 1);
    lrf_reads(out, LRF_F + RS3(code), 1);
    lrf_writes(out, LRF_F + RD(code), 1);
}

static void float_operation(uint32_t code, struct lrf_instruction *out)
{
    const bool is_double = lrf_bits(code, 25, 2) == 1;
    const enum lrf_operation divide = is_double ? LRF_OP_float_div_double : LRF_OP_float_div;
    bool two_sources = true, int_source = false, int_result = false;
    switch (lrf_bits(code, 27, 5)) {
    case 0x00: /* fadd */
    case 0x01: /* fsub */
    case 0x04: /* fsgnj* */
    case 0x05: /* fmin, fmax */ out->operation = LRF_OP_float_add; break;
    case 0x02: out->operation = LRF_OP_float_mul; break;
    case 0x03: out->operation = divide; break;
    case 0x0b: out->operation = divide, two_sources = false; break; /* fsqrt */
    case 0x08: out->operation = LRF_OP_float_convert, two_sources = false; break;
    case 0x14: out->operation = LRF_OP_float_to_int, int_result = true; break; /* feq, flt, fle */
    case 0x18: /* fcvt.w.* */
    case 0x1c: /* fmv.x.*, fclass */
        out->operation = LRF_OP_float_to_int, int_result = true, two_sources = false;
        break;
    case 0x1a: /* fcvt.*.w */
    case 0x1e: /* fmv.*.x */
        out->operation = LRF_OP_int_to_float, int_source = true, two_sources = false;
        break;
    default: return;
    }
    lrf_reads(out, (int_source ? LRF_X : LRF_F) + RS1(code), 1);
    if (two_sources)
        lrf_reads(out, LRF_F + RS2(code), 1);
    lrf_writes(out, (int_result ? LRF_X : LRF_F) + RD(code), 1);
}

/* x1 and x5 are link registers (unprivileged ISA, table of return-address stack hints). */
static bool is_link(unsigned number)
{
    return number == 1 || number == 5;
}

static void jump(uint32_t code, bool indirect, struct lrf_instruction *out)
{
    out->operation = LRF_OP_jump;
    out->jump = true;
    out->call = is_link(RD(code));
    out->returns = indirect && is_link(RS1(code)) && RS1(code) != RD(code);
    out->indirect = indirect && !out->returns;
    if (indirect)
        lrf_reads(out, RS1(code), 1);
    lrf_writes(out, RD(code), 1);
}

static void integer_memory(uint32_t code, bool store, struct lrf_instruction *out)
{
    memory(out, store ? LRF_OP_store : LRF_OP_load, FUNCT3(code) & 3, store);
    lrf_reads(out, RS1(code), 1);
    if (store)
        lrf_reads(out, RS2(code), 1);
    else
        lrf_writes(out, RD(code), 1);
}

static void float_memory(uint32_t code, bool store, struct lrf_instruction *out)
{
    memory(out, store ? LRF_OP_float_store : LRF_OP_float_load, FUNCT3(code) & 3, store);
    lrf_reads(out, RS1(code), 1);
    if (store)
        lrf_reads(out, LRF_F + RS2(code), 1);
    else
        lrf_writes(out, LRF_F + RD(code), 1);
}

static void atomic(uint32_t code, struct lrf_instruction *out)
{
    memory(out, LRF_OP_atomic, FUNCT3(code) & 3, false);
    out->store = lrf_bits(code, 27, 5) != 2; /* all but lr */
    lrf_reads(out, RS1(code), 1);
    lrf_reads(out, RS2(code), 1);
    lrf_writes(out, RD(code), 1);
}

static void system_operation(uint32_t code, struct lrf_instruction *out)
{
    out->operation = LRF_OP_system;
    if (lrf_bits(code, 2, 5) != 0x1c || FUNCT3(code) == 0) /* fences, ecall */
        return;
    if (FUNCT3(code) < 4)
        lrf_reads(out, RS1(code), 1);
    lrf_writes(out, RD(code), 1);
}

void lrf_decode_scalar(uint32_t code, struct lrf_instruction *out)
{
    switch (lrf_bits(code, 2, 5)) {
    case 0x00: integer_memory(code, false, out); break;
    case 0x08: integer_memory(code, true, out); break;
    case 0x01: float_memory(code, false, out); break;
    case 0x09: float_memory(code, true, out); break;
    case 0x0b: atomic(code, out); break;
    case 0x03: /* MISC-MEM */
    case 0x1c: /* SYSTEM */ system_operation(code, out); break;
    case 0x04: immediate(code, false, out); break;
    case 0x06: immediate(code, true, out); break;
    case 0x0c: register_register(code, false, out); break;
    case 0x0e: register_register(code, true, out); break;
    case 0x05: /* AUIPC */
    case 0x0d: /* LUI */
        out->operation = LRF_OP_int_alu;
        lrf_writes(out, RD(code), 1);
        break;
    case 0x10: /* MADD */
    case 0x11: /* MSUB */
    case 0x12: /* NMSUB */
    case 0x13: /* NMADD */ fused(code, out); break;
    case 0x14: float_operation(code, out); break;
    case 0x18:
        out->operation = LRF_OP_branch;
        out->conditional = true;
        lrf_reads(out, RS1(code), 1);
        lrf_reads(out, RS2(code), 1);
        break;
    case 0x19: jump(code, true, out); break;
    case 0x1b: jump(code, false, out); break;
    default: break;
    }
}

struct lrf_instruction lrf_decode(uint32_t code, unsigned vtype, unsigned vlen_bits)
{
    struct lrf_instruction out = {.operation = LRF_OP_unknown, .counted_as = lrf_classify(code), .sew_log2 = LRF_E32};
    switch (out.counted_as) {
    case LRF_vector_config:
    case LRF_vector_arithmetic: lrf_decode_vector(code, vtype, vlen_bits, &out); break;
    case LRF_vector_memory: lrf_decode_vector_memory(code, vtype, vlen_bits, &out); break;
    case LRF_unknown: break;
    default:
        if ((code & 3) == 3)
            lrf_decode_scalar(code, &out);
        else
            lrf_decode_compressed(code, &out);
    }
    return out;
}
