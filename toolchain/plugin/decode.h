/* From the bytes of one RV64 instruction to its class. Knows nothing of QEMU.
 *
 * The major opcode decides, and funct3 where one opcode holds two classes: that is exact for every
 * ratified extension, and stays so for new ones inside these opcodes. Encodings that are reserved
 * are either `unknown` or raise an exception on the emulated core, so they are never counted wrong.
 * Sources: the RISC-V unprivileged ISA, "RV32/64G Instruction Set Listings" (opcode map) and "C"
 * (quadrants); RVV 1.0, section 5 (vector encodings share LOAD-FP, STORE-FP and OP-V).
 */
#ifndef LRF_DECODE_H
#define LRF_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../host/region.h"

enum lrf_class {
#define LRF_CLASS(name, meaning) LRF_##name,
#include "classes.def"
#undef LRF_CLASS
    LRF_CLASSES
};

/* Bits [low, low + width) of `code`. */
static inline uint32_t lrf_bits(uint32_t code, unsigned low, unsigned width)
{
    return (code >> low) & ((1u << width) - 1);
}

/* The 2 or 4 bytes at `data` as one number; 0 (an illegal instruction) where fewer bytes are there. */
static inline uint32_t lrf_fetch(const void *data, size_t size)
{
    uint32_t code = 0;
    if (size >= 2)
        memcpy(&code, data, 2); /* little-endian hosts only, as all that QEMU packages target */
    if ((code & 3) != 3)
        return code;
    if (size < 4)
        return 0;
    memcpy(&code, data, 4);
    return code;
}

/* Whether this is one of the markers of region.h, which are outside of what is measured. */
static inline bool lrf_is_marker(uint32_t code)
{
    const uint32_t number = lrf_bits(code, 20, 12);
    return LRF_SLTIU_X0(number) == code && number >= LRF_REGION_BEGIN_IMM && number <= LRF_JOINED_IMM;
}

static inline enum lrf_class lrf_classify_compressed(uint32_t code)
{
    const uint32_t funct3 = lrf_bits(code, 13, 3);
    switch (code & 3) {
    case 0: /* c.addi4spn, then loads and stores; funct3 4 holds Zcb's byte and half ones */
        if (code == 0)
            return LRF_unknown;
        return funct3 == 0 ? LRF_scalar : LRF_scalar_memory;
    case 1: /* integer; 5 = c.j, 6 = c.beqz, 7 = c.bnez */
        return funct3 >= 5 ? LRF_branch : LRF_scalar;
    default: /* quadrant 2 */
        if (funct3 == 0) /* c.slli */
            return LRF_scalar;
        if (funct3 != 4) /* loads and stores relative to sp */
            return LRF_scalar_memory;
        /* rs2 != 0: c.mv, c.add. Else rs1 != 0: c.jr, c.jalr. Else c.ebreak. */
        return lrf_bits(code, 2, 5) == 0 && lrf_bits(code, 7, 5) != 0 ? LRF_branch : LRF_scalar;
    }
}

/* LOAD-FP and STORE-FP: funct3 1-4 are scalar half to quad, 0 and 5-7 vector element widths 8 to 64. */
static inline enum lrf_class lrf_classify_float_memory(uint32_t funct3)
{
    return funct3 >= 1 && funct3 <= 4 ? LRF_scalar_memory : LRF_vector_memory;
}

static inline enum lrf_class lrf_classify(uint32_t code)
{
    if ((code & 3) != 3)
        return lrf_classify_compressed(code);
    const uint32_t funct3 = lrf_bits(code, 12, 3);
    switch (lrf_bits(code, 2, 5)) {
    case 0x00: /* LOAD */
        return funct3 == 7 ? LRF_unknown : LRF_scalar_memory;
    case 0x08: /* STORE */
        return funct3 > 3 ? LRF_unknown : LRF_scalar_memory;
    case 0x01: /* LOAD-FP */
    case 0x09: /* STORE-FP */
        return lrf_classify_float_memory(funct3);
    case 0x0b: /* AMO, with Zabha's byte and half forms */
        return funct3 > 3 ? LRF_unknown : LRF_scalar_memory;
    case 0x03: /* MISC-MEM: fence, fence.i, cbo.* */
        return funct3 < 2 ? LRF_scalar : funct3 == 2 ? LRF_scalar_memory : LRF_unknown;
    case 0x04: /* OP-IMM */
    case 0x05: /* AUIPC */
    case 0x06: /* OP-IMM-32 */
    case 0x0c: /* OP */
    case 0x0d: /* LUI */
    case 0x0e: /* OP-32 */
        return LRF_scalar;
    case 0x1c: /* SYSTEM: funct3 4 is the hypervisor's loads and stores */
        return funct3 == 4 ? LRF_unknown : LRF_scalar;
    case 0x10: /* MADD */
    case 0x11: /* MSUB */
    case 0x12: /* NMSUB */
    case 0x13: /* NMADD */
    case 0x14: /* OP-FP */
        return LRF_scalar_float;
    case 0x18: /* BRANCH */
        return funct3 == 2 || funct3 == 3 ? LRF_unknown : LRF_branch;
    case 0x19: /* JALR */
        return funct3 == 0 ? LRF_branch : LRF_unknown;
    case 0x1b: /* JAL */
        return LRF_branch;
    case 0x15: /* OP-V */
        return funct3 == 7 ? LRF_vector_config : LRF_vector_arithmetic;
    case 0x1d: /* OP-VE: vector cryptography uses funct3 2 */
        return funct3 == 2 ? LRF_vector_arithmetic : LRF_unknown;
    default: /* custom-0 to custom-3, reserved, longer than 32 bits */
        return LRF_unknown;
    }
}

#endif
