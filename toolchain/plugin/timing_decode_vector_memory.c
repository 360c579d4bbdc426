/* RVV 1.0 loads and stores (section 7). See timing_decode.h. */
#include "timing_decode.h"

enum { UNIT_STRIDE, INDEXED_UNORDERED, STRIDED, INDEXED_ORDERED };      /* mop */
enum { WHOLE_REGISTERS = 0x08, MASK = 0x0b, FAULT_ONLY_FIRST = 0x10 }; /* lumop, sumop */

struct access {
    unsigned mop, umop, fields, registers; /* `registers` of the data, all fields together */
    int eew_log2;                          /* of the data, in bits */
    int emul_log2;                         /* of one field of the data */
    int index_emul_log2;                   /* of the index group, for indexed accesses */
    bool store;
};

static enum lrf_operation operation_of(const struct access *a)
{
    if (a->mop == STRIDED)
        return a->store ? LRF_OP_v_store_strided : LRF_OP_v_load_strided;
    if (a->mop != UNIT_STRIDE)
        return a->store ? LRF_OP_v_store_indexed : LRF_OP_v_load_indexed;
    if (a->umop == WHOLE_REGISTERS)
        return a->store ? LRF_OP_v_store_whole : LRF_OP_v_load_whole;
    if (a->umop == FAULT_ONLY_FIRST && a->fields == 1)
        return LRF_OP_v_load_fault_first;
    if (a->fields > 1)
        return a->store ? LRF_OP_v_store_segment : LRF_OP_v_load_segment;
    return a->store ? LRF_OP_v_store : LRF_OP_v_load;
}

/* Which registers the data takes, and how many elements that is: EMUL = EEW / SEW x LMUL. */
static struct access read_access(uint32_t code, int sew_log2, int lmul_log2)
{
    static const int width_log2[8] = {3, 0, 0, 0, 0, 4, 5, 6};
    const int encoded = width_log2[lrf_bits(code, 12, 3)];
    struct access a = {.mop = lrf_bits(code, 26, 2), .umop = lrf_bits(code, 20, 5), .fields = lrf_bits(code, 29, 3) + 1};
    const bool indexed = a.mop == INDEXED_UNORDERED || a.mop == INDEXED_ORDERED;
    a.store = lrf_bits(code, 5, 1);
    a.index_emul_log2 = encoded - sew_log2 + lmul_log2;
    a.eew_log2 = indexed ? sew_log2 : encoded;
    a.emul_log2 = indexed ? lmul_log2 : a.index_emul_log2;
    if (a.mop == UNIT_STRIDE && a.umop == WHOLE_REGISTERS)
        a.emul_log2 = 0;
    if (a.mop == UNIT_STRIDE && a.umop == MASK)
        a.eew_log2 = 3, a.emul_log2 = 0;
    a.registers = a.fields * lrf_group_size(a.emul_log2);
    return a;
}

static uint8_t cost_lmul(unsigned registers)
{
    return registers >= 8 ? 3 : registers >= 4 ? 2 : registers >= 2 ? 1 : 0;
}

void lrf_decode_vector_memory(uint32_t code, unsigned vtype, unsigned vlen_bits, struct lrf_instruction *out)
{
    const bool known = vtype != LRF_VTYPE_UNKNOWN;
    const int sew_log2 = known ? 3 + (int)(vtype >> 3 & 7) : 5, lmul_log2 = known ? ((int)(vtype & 7) ^ 4) - 4 : 0;
    const struct access a = read_access(code, sew_log2, lmul_log2);
    const unsigned data = LRF_V + lrf_bits(code, 7, 5), second = lrf_bits(code, 20, 5);
    const bool whole = a.mop == UNIT_STRIDE && a.umop == WHOLE_REGISTERS;
    const int data_log2 = a.emul_log2 < -3 ? -3 : a.emul_log2;
    out->operation = operation_of(&a);
    out->vector = true;
    out->no_vtype = !known && !whole;
    out->masked = lrf_bits(code, 25, 1) == 0;
    out->load = !a.store;
    out->store = a.store;
    out->access_bytes = (uint16_t)(1u << (a.eew_log2 - 3));
    out->lmul_log2 = cost_lmul(a.registers);
    out->sew_log2 = lrf_sew_log2(vtype);
    out->fields = (uint8_t)(whole ? 1 : a.fields);
    out->registers = (uint8_t)a.registers;
    const unsigned per_register = vlen_bits >> a.eew_log2;
    out->elements = (uint16_t)(a.fields * (data_log2 >= 0 ? per_register << data_log2 : per_register >> -data_log2));
    lrf_reads(out, lrf_bits(code, 15, 5), 1);
    if (a.mop == STRIDED)
        lrf_reads(out, second, 1);
    else if (a.mop != UNIT_STRIDE)
        lrf_reads(out, LRF_V + second, lrf_group_size(a.index_emul_log2));
    if (a.store)
        lrf_reads(out, data, a.registers);
    if (out->masked)
        lrf_reads(out, LRF_V, 1);
    if (!whole)
        lrf_reads(out, LRF_VL, 1);
    if (!a.store)
        lrf_writes(out, data, a.registers);
    if (a.mop == UNIT_STRIDE && a.umop == FAULT_ONLY_FIRST)
        lrf_writes(out, LRF_VL, 1);
}
