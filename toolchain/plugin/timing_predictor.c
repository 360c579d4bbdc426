/* See timing_predictor.h. */
#include "timing_predictor.h"

#include <stdlib.h>
#include <string.h>

#include "timing_memory.h" /* lrf_allocate */

enum { STRONGLY_NOT, WEAKLY_NOT, WEAKLY_TAKEN, STRONGLY_TAKEN, UNSEEN };

void lrf_predictor_init(struct lrf_predictor *p, const struct lrf_model *model)
{
    p->counters = lrf_allocate(model->predictor_entries);
    memset(p->counters, UNSEEN, model->predictor_entries);
    p->targets = lrf_allocate(model->target_entries * sizeof *p->targets);
    p->returns = lrf_allocate(model->return_stack * sizeof *p->returns);
    p->counter_mask = model->predictor_entries - 1;
    p->history_mask = (1u << model->history_bits) - 1;
    p->target_mask = model->target_entries - 1;
    p->depth = model->return_stack;
}

bool lrf_mispredicts(struct lrf_predictor *p, uint64_t pc, bool taken, bool backward)
{
    uint8_t *counter = &p->counters[((uint32_t)(pc >> 1) ^ p->history) & p->counter_mask];
    const bool predicted = *counter == UNSEEN ? backward : *counter >= WEAKLY_TAKEN;
    if (*counter == UNSEEN)
        *counter = taken ? WEAKLY_TAKEN : WEAKLY_NOT;
    else if (taken && *counter < STRONGLY_TAKEN)
        ++*counter;
    else if (!taken && *counter > STRONGLY_NOT)
        --*counter;
    p->history = (p->history << 1 | taken) & p->history_mask;
    return predicted != taken;
}

bool lrf_mispredicts_indirect(struct lrf_predictor *p, uint64_t pc, uint64_t next)
{
    uint64_t *target = &p->targets[(pc >> 1) & p->target_mask];
    const bool wrong = *target != next;
    *target = next;
    return wrong;
}

void lrf_predictor_call(struct lrf_predictor *p, uint64_t return_address)
{
    p->top = (p->top + 1) % p->depth;
    p->returns[p->top] = return_address;
}

bool lrf_mispredicts_return(struct lrf_predictor *p, uint64_t next)
{
    const bool wrong = p->returns[p->top] != next;
    p->top = (p->top + p->depth - 1) % p->depth;
    return wrong;
}
