/* What runs on one vCPU: segments of translated code, and the passes through the measured region.
 *
 * A segment is a stretch of code that is executed from its first instruction to its last, cut at markers, after vset*
 * and where QEMU ends a block. It is timed when the next one starts: by then its memory accesses have been seen, and
 * where its branch went. Its instructions are decoded once for each vtype that it runs under.
 */
#ifndef LRF_TIMING_HART_H
#define LRF_TIMING_HART_H

#include <pthread.h>

#include "timing_pipeline.h"

struct lrf_segment {
    uint64_t pc, last_pc, end_pc; /* first instruction, last one, and the address behind it */
    uint32_t instructions;
    uint32_t *code;
    bool uses_vtype;
    enum lrf_vtype_effect vtype_effect;
    uint8_t vtype;
    struct lrf_variant *variants; /* newest first; only ever prepended to */
};

/* One instruction's memory accesses, as the memory callback is told. */
struct lrf_site {
    uint32_t step, access_bytes;
};

/* One pass through the region, or one share of a dispatch. What a forked share executes is added to the pass that forked
 * it; its cycles count as far as it is the slowest: `joins` is what the forking thread waits for others. */
struct lrf_pass {
    uint64_t counts[LRF_CLASSES], unknown_operations, unknown_vtype;
    uint64_t cycles, busy_cycles, stalls[LRF_CAUSES], joins, moved[LRF_LEVELS], branches, mispredicts, forks;
};

struct lrf_hart {
    bool in_region, paused; /* paused: between FORK and FORKED, JOIN and JOINED */
    uint8_t vtype;
    struct lrf_segment *segment; /* under way inside the region, else null */
    struct lrf_variant *variant;
    uint64_t *address, *end; /* of each line touched by the segment under way: first byte, the one behind the last */
    uint32_t *step_of; /* and by which of its steps */
    uint32_t touched, room;
    struct lrf_pipeline *pipeline; /* null before the first region */
    uint64_t share_cycles; /* of the forking thread's own share */
    struct lrf_pass now, *pass;
    uint32_t passes;
};

/* The segment of `instructions` at `pc`, of which `code` is copied. */
struct lrf_segment *lrf_new_segment(uint64_t pc, const uint32_t *code, uint32_t instructions);

void lrf_hart_segment(struct lrf_hart *hart, const struct lrf_model *model, struct lrf_segment *segment);
/* Time the segment under way, if there is one; the program went on at `next_pc`. */
void lrf_hart_finish(struct lrf_hart *hart, uint64_t next_pc);
void lrf_hart_access(struct lrf_hart *hart, const struct lrf_site *site, uint64_t address);
/* The marker `code` of region.h, at address `pc`. */
void lrf_hart_marker(struct lrf_hart *hart, const struct lrf_model *model, uint32_t code, uint64_t pc);

#endif
