/* See timing_hart.h. */
#include "timing_hart.h"

#include <stdlib.h>
#include <string.h>

#define ANY_VTYPE 0x100u

/* A segment decoded under one vtype. */
struct lrf_variant {
    uint32_t vtype;
    struct lrf_variant *next;
    uint32_t counts[LRF_CLASSES], unknown_operations, unknown_vtype;
    uint32_t steps;
    struct lrf_step step[];
};

static pthread_mutex_t decoding = PTHREAD_MUTEX_INITIALIZER;

static uint16_t clamp(uint64_t value)
{
    return value > UINT16_MAX ? UINT16_MAX : (uint16_t)value;
}

static bool reads_float(const struct lrf_instruction *from)
{
    for (unsigned s = 0; s < from->sources; s++)
        if (from->source[s].first >= LRF_F && from->source[s].first < LRF_V)
            return true;
    return false;
}

static void make_step(const struct lrf_model *model, const struct lrf_instruction *from, uint64_t pc, struct lrf_step *to)
{
    const struct lrf_cost *cost = &model->cost[from->operation];
    uint64_t busy = cost->busy[from->sew_log2][from->lmul_log2];
    if (cost->per_register && from->fields <= cost->fields)
        busy = (uint64_t)cost->per_register * from->registers;
    else if (cost->per_element)
        busy = (uint64_t)cost->per_element * from->elements;
    if (from->masked)
        busy = busy * cost->masked / LRF_FRACTION;
    *to = (struct lrf_step){
        .pc = pc, .sources = from->sources, .destinations = from->destinations, .pipes = cost->pipes, .load = from->load,
        .store = from->store, .vector = from->vector, .conditional = from->conditional, .jump = from->jump,
        .indirect = from->indirect, .call = from->call, .returns = from->returns, .busy = clamp(busy),
        .latency = cost->latency[from->sew_log2][from->lmul_log2], .access_bytes = from->access_bytes,
        .configures = from->configures, .float_source = from->vector && reads_float(from),
        .stored_bytes = from->store ? clamp((uint64_t)from->elements * from->access_bytes) : 0};
    /* A long operation without a latency of its own for its length is ready when it is through. */
    if ((cost->per_element || cost->per_register) && to->latency < busy / LRF_FRACTION)
        to->latency = clamp(busy / LRF_FRACTION);
    memcpy(to->source, from->source, sizeof to->source);
    memcpy(to->destination, from->destination, sizeof to->destination);
    memcpy(to->pipe, cost->pipe, sizeof to->pipe);
}

static struct lrf_variant *decode_segment(struct lrf_segment *segment, const struct lrf_model *model, uint32_t vtype)
{
    struct lrf_variant *v = lrf_allocate(sizeof *v + segment->instructions * sizeof v->step[0]);
    v->vtype = vtype;
    v->steps = segment->instructions;
    uint64_t pc = segment->pc;
    for (uint32_t i = 0; i < v->steps; i++) {
        const struct lrf_instruction decoded =
            lrf_decode(segment->code[i], vtype == ANY_VTYPE ? LRF_VTYPE_UNKNOWN : vtype, model->vlen_bits);
        make_step(model, &decoded, pc, &v->step[i]);
        pc += (segment->code[i] & 3) == 3 ? 4 : 2;
        v->counts[decoded.counted_as]++;
        v->unknown_operations += decoded.operation == LRF_OP_unknown;
        v->unknown_vtype += decoded.no_vtype;
    }
    return v;
}

static struct lrf_variant *variant_of(struct lrf_segment *segment, const struct lrf_model *model, uint8_t vtype)
{
    const uint32_t wanted = segment->uses_vtype ? vtype : ANY_VTYPE;
    struct lrf_variant *v = __atomic_load_n(&segment->variants, __ATOMIC_ACQUIRE);
    for (struct lrf_variant *known = v; known; known = known->next)
        if (known->vtype == wanted)
            return known;
    pthread_mutex_lock(&decoding); /* two threads may decode the same: the second copy does no harm */
    v = decode_segment(segment, model, wanted);
    v->next = segment->variants;
    __atomic_store_n(&segment->variants, v, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&decoding);
    return v;
}

struct lrf_segment *lrf_new_segment(uint64_t pc, const uint32_t *code, uint32_t instructions)
{
    struct lrf_segment *segment = lrf_allocate(sizeof *segment);
    segment->pc = segment->end_pc = pc;
    segment->instructions = instructions;
    segment->code = lrf_allocate(instructions * sizeof *code);
    memcpy(segment->code, code, instructions * sizeof *code);
    for (uint32_t i = 0; i < instructions; i++) {
        const enum lrf_class kind = lrf_classify(code[i]);
        segment->uses_vtype |= kind == LRF_vector_arithmetic || kind == LRF_vector_memory;
        segment->last_pc = segment->end_pc;
        segment->end_pc += (code[i] & 3) == 3 ? 4 : 2;
    }
    const struct lrf_instruction last = lrf_decode(code[instructions - 1], LRF_VTYPE_UNKNOWN, 0);
    segment->vtype_effect = last.vtype_effect;
    segment->vtype = last.vtype;
    return segment;
}

void lrf_hart_finish(struct lrf_hart *hart, uint64_t next_pc)
{
    const struct lrf_segment *segment = hart->segment;
    const struct lrf_variant *v = hart->variant;
    if (!segment)
        return;
    for (uint32_t i = 0, at = 0; i < v->steps; i++) {
        const struct lrf_step *step = &v->step[i];
        struct lrf_touched touched = {hart->address + at, hart->end + at, 0};
        while (at < hart->touched && hart->step_of[at] == i)
            at++, touched.count++;
        lrf_pipeline_step(hart->pipeline, step, touched);
    }
    const struct lrf_step *last = &v->step[v->steps - 1];
    if (last->conditional || last->jump)
        lrf_pipeline_branch(hart->pipeline, last, segment->last_pc, segment->end_pc, next_pc);
    for (int c = 0; c < LRF_CLASSES; c++)
        hart->now.counts[c] += v->counts[c];
    hart->now.unknown_operations += v->unknown_operations;
    hart->now.unknown_vtype += v->unknown_vtype;
    hart->segment = NULL;
    hart->touched = 0;
}

void lrf_hart_segment(struct lrf_hart *hart, const struct lrf_model *model, struct lrf_segment *segment)
{
    lrf_hart_finish(hart, segment->pc);
    if (hart->in_region && !hart->paused) {
        hart->segment = segment;
        hart->variant = variant_of(segment, model, hart->vtype);
    }
    if (segment->vtype_effect == LRF_VTYPE_SET)
        hart->vtype = segment->vtype;
    else if (segment->vtype_effect == LRF_VTYPE_LOST)
        hart->vtype = LRF_VTYPE_UNKNOWN;
}

static void make_room(struct lrf_hart *hart)
{
    hart->room = hart->room ? 2 * hart->room : 256;
    hart->address = realloc(hart->address, hart->room * sizeof *hart->address);
    hart->end = realloc(hart->end, hart->room * sizeof *hart->end);
    hart->step_of = realloc(hart->step_of, hart->room * sizeof *hart->step_of);
    if (!hart->address || !hart->end || !hart->step_of)
        abort();
}

void lrf_hart_access(struct lrf_hart *hart, const struct lrf_site *site, uint64_t address)
{
    if (!hart->segment)
        return;
    const uint32_t shift = hart->pipeline->memory.line_shift, last = hart->touched - 1;
    uint64_t line = address >> shift;
    const uint64_t behind = address + site->access_bytes, end = (behind - 1) >> shift;
    hart->pipeline->memory.moved[0] += site->access_bytes;
    /* The next element of a vector is mostly in the line of the one before. */
    if (hart->touched && hart->step_of[last] == site->step && hart->address[last] >> shift == line) {
        hart->end[last] = line == end ? behind : (line + 1) << shift;
        if (line == end)
            return;
        address = ++line << shift;
    }
    for (; line <= end; address = ++line << shift) {
        if (hart->touched == hart->room)
            make_room(hart);
        hart->address[hart->touched] = address;
        hart->end[hart->touched] = line == end ? behind : (line + 1) << shift;
        hart->step_of[hart->touched++] = site->step;
    }
}
