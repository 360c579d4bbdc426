/* From one RV64 instruction to what a pipeline must know: operation, sources and destinations. Knows nothing of QEMU.
 *
 * Scalar RV64GC with Zba, Zbb and Zicond, and RVV 1.0 under a given vtype. Registers of all files have one numbering;
 * a vector operand is a group of them. Sources: the RISC-V unprivileged ISA, "RV32/64G Instruction Set Listings", "C",
 * "B"; RVV 1.0, sections 3.4 (vtype), 5 (formats), 7.2 (loads and stores), 11-16 and the instruction listing.
 */
#ifndef LRF_TIMING_DECODE_H
#define LRF_TIMING_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "decode.h"

enum lrf_operation {
#define LRF_OPERATION(name, meaning) LRF_OP_##name,
#include "operations.def"
#undef LRF_OPERATION
    LRF_OPERATIONS
};

/* x0-x31, f0-f31, v0-v31, then vl and vtype as one. */
enum { LRF_X = 0, LRF_F = 32, LRF_V = 64, LRF_VL = 96, LRF_REGISTERS = 97 };

/* `count` registers from `first`; none if count is 0. */
struct lrf_group {
    uint8_t first, count;
};

#define LRF_MAX_SOURCES 6
#define LRF_E32 2
#define LRF_MAX_DESTINATIONS 2

/* vtype as the instruction stream tells it: bits 5..0 of the immediate of vsetvli. */
#define LRF_VTYPE_UNKNOWN 0xffu
enum lrf_vtype_effect { LRF_VTYPE_KEPT, LRF_VTYPE_SET, LRF_VTYPE_LOST };

struct lrf_instruction {
    enum lrf_operation operation;
    enum lrf_class counted_as;
    struct lrf_group source[LRF_MAX_SOURCES], destination[LRF_MAX_DESTINATIONS];
    uint8_t sources, destinations;
    uint8_t lmul_log2;  /* which cost: 0 to 3 for M1 to M8, fractions count as M1 */
    uint8_t sew_log2;   /* which cost: 0 to 3 for e8 to e64 */
    uint8_t fields, registers; /* of a vector memory operation: its segment's fields, and the registers of all of them */
    uint16_t elements;  /* that a vector memory operation moves if vl is at its maximum */
    uint16_t access_bytes; /* of one memory access: of one element for vectors */
    bool load, store, masked, vector;
    bool configures;    /* vset*: vl and vtype are known at once, the integer register later */
    bool conditional, jump, indirect, call, returns;
    bool no_vtype;      /* a vector instruction whose vtype is not known: M1 was assumed */
    enum lrf_vtype_effect vtype_effect;
    uint8_t vtype;      /* what it is set to */
};

/* `vtype` is in force before the instruction, or LRF_VTYPE_UNKNOWN; `vlen_bits` is 0 without a vector unit. */
struct lrf_instruction lrf_decode(uint32_t code, unsigned vtype, unsigned vlen_bits);

/* The parts of lrf_decode; each fills `out`, whose operation is `unknown` before. */
void lrf_decode_compressed(uint32_t code, struct lrf_instruction *out);
void lrf_decode_scalar(uint32_t code, struct lrf_instruction *out);
void lrf_decode_vector(uint32_t code, unsigned vtype, unsigned vlen_bits, struct lrf_instruction *out);
void lrf_decode_vector_memory(uint32_t code, unsigned vtype, unsigned vlen_bits, struct lrf_instruction *out);

/* Reserved encodings name groups beyond v31: they raise an exception, but were decoded by then. */
static inline struct lrf_group lrf_group_of(unsigned first, unsigned count)
{
    const unsigned end = first < LRF_VL ? LRF_VL : LRF_REGISTERS;
    return (struct lrf_group){(uint8_t)first, (uint8_t)(first + count > end ? end - first : count)};
}

static inline void lrf_reads(struct lrf_instruction *out, unsigned first, unsigned count)
{
    if (first != LRF_X && out->sources < LRF_MAX_SOURCES)
        out->source[out->sources++] = lrf_group_of(first, count);
}

static inline void lrf_writes(struct lrf_instruction *out, unsigned first, unsigned count)
{
    if (first != LRF_X && out->destinations < LRF_MAX_DESTINATIONS)
        out->destination[out->destinations++] = lrf_group_of(first, count);
}

/* Which cost by element width: 0 to 3 for e8 to e64; e32 under an unknown or a reserved vtype. */
static inline uint8_t lrf_sew_log2(unsigned vtype)
{
    return vtype == LRF_VTYPE_UNKNOWN || (vtype >> 3 & 7) > 3 ? LRF_E32 : (uint8_t)(vtype >> 3 & 7);
}

/* Registers of a group of 2^lmul_log2: a fraction takes one. */
static inline unsigned lrf_group_size(int lmul_log2)
{
    return lmul_log2 <= 0 ? 1 : 1u << lmul_log2;
}

#endif
