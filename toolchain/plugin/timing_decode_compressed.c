/* Instructions of 16 bits: the C extension of RV64 with D. See timing_decode.h. */
#include "timing_decode.h"

/* The three-bit register fields name x8-x15 and f8-f15. */
#define RD_SHORT(code) (8 + lrf_bits(code, 2, 3))
#define RS1_SHORT(code) (8 + lrf_bits(code, 7, 3))
#define RD(code) lrf_bits(code, 7, 5)
#define RS2(code) lrf_bits(code, 2, 5)
#define SP 2
#define RA 1

static void simple(struct lrf_instruction *out, unsigned source, unsigned other, unsigned destination)
{
    out->operation = LRF_OP_int_alu;
    lrf_reads(out, source, 1);
    lrf_reads(out, other, 1);
    lrf_writes(out, destination, 1);
}

/* funct3 of both memory quadrants: bit 2 is store; 1 fld, 2 lw, 3 ld of the low two bits. */
static void memory(struct lrf_instruction *out, unsigned funct3, unsigned base, unsigned data)
{
    const bool store = funct3 & 4, is_float = (funct3 & 3) == 1;
    const unsigned number = (is_float ? LRF_F : LRF_X) + data;
    if (is_float)
        out->operation = store ? LRF_OP_float_store : LRF_OP_float_load;
    else
        out->operation = store ? LRF_OP_store : LRF_OP_load;
    out->access_bytes = (funct3 & 3) == 2 ? 4 : 8;
    out->load = !store;
    out->store = store;
    lrf_reads(out, base, 1);
    if (store)
        lrf_reads(out, number, 1);
    else
        lrf_writes(out, number, 1);
}

static void jump(struct lrf_instruction *out, unsigned through, unsigned link)
{
    out->operation = LRF_OP_jump;
    out->jump = true;
    out->call = link == RA;
    out->returns = (through == RA || through == 5) && through != link;
    out->indirect = through != 0 && !out->returns;
    lrf_reads(out, through, 1);
    lrf_writes(out, link, 1);
}

static void quadrant1(uint32_t code, struct lrf_instruction *out)
{
    switch (lrf_bits(code, 13, 3)) {
    case 0: /* c.addi */
    case 1: /* c.addiw */ simple(out, RD(code), 0, RD(code)); break;
    case 2: /* c.li */ simple(out, 0, 0, RD(code)); break;
    case 3: /* c.addi16sp, c.lui */ simple(out, RD(code) == SP ? SP : 0, 0, RD(code)); break;
    case 4: /* c.srli, c.srai, c.andi; then register forms */
        simple(out, RS1_SHORT(code), lrf_bits(code, 10, 2) == 3 ? RD_SHORT(code) : 0, RS1_SHORT(code));
        break;
    case 5: jump(out, 0, 0); break; /* c.j */
    default: /* c.beqz, c.bnez */
        out->operation = LRF_OP_branch;
        out->conditional = true;
        lrf_reads(out, RS1_SHORT(code), 1);
    }
}

static void quadrant2(uint32_t code, struct lrf_instruction *out)
{
    const unsigned funct3 = lrf_bits(code, 13, 3);
    if (funct3 == 0) { /* c.slli */
        simple(out, RD(code), 0, RD(code));
    } else if (funct3 != 4) {
        memory(out, funct3, SP, funct3 & 4 ? RS2(code) : RD(code));
    } else if (RS2(code) != 0) { /* c.mv, c.add */
        simple(out, RS2(code), lrf_bits(code, 12, 1) ? RD(code) : 0, RD(code));
    } else if (RD(code) != 0) { /* c.jr, c.jalr */
        jump(out, RD(code), lrf_bits(code, 12, 1) ? RA : 0);
    } else { /* c.ebreak */
        out->operation = LRF_OP_system;
    }
}

void lrf_decode_compressed(uint32_t code, struct lrf_instruction *out)
{
    const unsigned funct3 = lrf_bits(code, 13, 3);
    switch (code & 3) {
    case 0:
        if (funct3 == 0) /* c.addi4spn */
            simple(out, SP, 0, RD_SHORT(code));
        else if (funct3 != 4) /* 4 is reserved without Zcb */
            memory(out, funct3, RS1_SHORT(code), RD_SHORT(code));
        break;
    case 1: quadrant1(code, out); break;
    default: quadrant2(code, out);
    }
}
