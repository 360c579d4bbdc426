/* A small branch predictor: two-bit counters indexed by address and global history, a return-address stack, and the
 * last target of each indirect jump. A branch that was never seen is predicted by its direction: backward is taken. */
#ifndef LRF_TIMING_PREDICTOR_H
#define LRF_TIMING_PREDICTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "timing_model.h"

struct lrf_predictor {
    uint8_t *counters;
    uint64_t *targets, *returns;
    uint32_t counter_mask, history, history_mask, target_mask, depth, top;
};

void lrf_predictor_init(struct lrf_predictor *p, const struct lrf_model *model);
/* Whether the branch at `pc` that went on at `next` was mispredicted; learns from it. */
bool lrf_mispredicts(struct lrf_predictor *p, uint64_t pc, bool taken, bool backward);
bool lrf_mispredicts_indirect(struct lrf_predictor *p, uint64_t pc, uint64_t next);
void lrf_predictor_call(struct lrf_predictor *p, uint64_t return_address);
bool lrf_mispredicts_return(struct lrf_predictor *p, uint64_t next);

#endif
