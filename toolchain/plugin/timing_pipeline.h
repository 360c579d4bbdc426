/* The pipeline of one core: when each executed instruction issues, completes and, out of order, retires.
 *
 * In order: an instruction issues when the one before it has, a slot and one of its pipes are free and its sources are
 * there; results may come back in any order. Out of order: it enters a window in program order, starts when sources and
 * a pipe allow it, and leaves in program order. Every cycle in which nothing issues (in order) or retires (out of order)
 * is a stall with one cause: what the next instruction waited for last. So cycles = busy cycles + stalls, exactly.
 */
#ifndef LRF_TIMING_PIPELINE_H
#define LRF_TIMING_PIPELINE_H

#include "timing_memory.h"
#include "timing_model.h"
#include "timing_predictor.h"

/* `dependency` is a result that no load made; l1 to dram are loads' results and stores' lines, by who had them. */
enum lrf_cause { LRF_DEPENDENCY, LRF_UNIT, LRF_BRANCH, LRF_L1, LRF_L2, LRF_L3, LRF_DRAM, LRF_CAUSES };

#define LRF_CALENDAR_WORDS 512 /* a pipe out of order remembers 32768 cycles */
#define LRF_MAX_WINDOW 1024

/* An instruction as the pipeline needs it: made once for each place in the program and vtype. */
struct lrf_step {
    uint64_t pc;
    struct lrf_group source[LRF_MAX_SOURCES], destination[LRF_MAX_DESTINATIONS];
    uint8_t sources, destinations;
    uint8_t pipe[4], pipes;
    bool load, store, vector, conditional, jump, indirect, call, returns;
    bool configures, float_source; /* vset*; a vector instruction with a float register among its sources */
    uint16_t busy, latency; /* busy in 1/LRF_FRACTION cycles */
    uint16_t access_bytes, stored_bytes; /* stored_bytes: by a vector store, if vl is at its maximum */
};

struct lrf_pipe {
    uint64_t free;      /* in order: the first free cycle */
    uint64_t load_free; /* for vector loads: behind a vector store they wait longer */
    uint32_t fraction;
    uint64_t word[LRF_CALENDAR_WORDS], busy[LRF_CALENDAR_WORDS]; /* out of order: which 64 cycles, and which are taken */
};

struct lrf_pipeline {
    const struct lrf_model *model;
    struct lrf_memory memory;
    struct lrf_predictor predictor;
    uint64_t cycle;  /* of the last issue (in order) or retirement (out of order) */
    uint32_t slots;  /* taken in it */
    uint64_t fetch;  /* nothing enters before: a mispredicted branch was being resolved */
    uint64_t ready[LRF_REGISTERS];
    uint8_t cause[LRF_REGISTERS]; /* of the wait for a register */
    struct lrf_pipe pipe[LRF_MAX_PIPES];
    uint64_t last_write;          /* the latest completion so far */
    uint8_t last_cause;
    uint64_t store_done[256];     /* ring of the store buffer */
    uint8_t store_cause[256];
    uint32_t next_store;
    uint64_t vector_cycle, queue[256]; /* decoupled vector unit: last issue, and issue times of the queued */
    uint8_t queue_cause[256];
    uint32_t next_queued;
    uint64_t entry, resolved, retired[LRF_MAX_WINDOW]; /* out of order: last entry, last result, retirements */
    uint32_t entry_slots, next_retired;
    uint64_t scalar_done; /* out of order: the latest result of a scalar instruction */
    uint8_t scalar_cause;
    /* What is reported, over one pass. */
    uint64_t start, busy_cycles, stalls[LRF_CAUSES];
    uint64_t branches, mispredicts;
};

void lrf_pipeline_init(struct lrf_pipeline *p, const struct lrf_model *model);
/* A pass starts: nothing is counted yet; caches and predictor keep what they know. */
void lrf_pipeline_begin(struct lrf_pipeline *p);
/* Wait for the last results; the cycles since the last drain, at which the pipeline was empty. */
uint64_t lrf_pipeline_drain(struct lrf_pipeline *p);
void lrf_pipeline_step(struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched);
/* The control transfer of the last step: at `pc`, to `next`; `fall_through` follows it in memory. */
void lrf_pipeline_branch(struct lrf_pipeline *p, const struct lrf_step *step, uint64_t pc, uint64_t fall_through,
                         uint64_t next);

/* timing_window.c: the out-of-order form of a step. */
void lrf_window_step(struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched);

/* Shared by both forms. */
struct lrf_moment {
    uint64_t cycle;
    uint8_t cause;
};
uint64_t lrf_complete(struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched, uint64_t issue,
                      uint8_t *cause, uint32_t *port);
/* Whole cycles of a pipe that lines take which a step moves; `port` is what lrf_complete says of it. */
uint32_t lrf_line_cycles(struct lrf_pipe *pipe, uint32_t port);
void lrf_wait_for_stores(const struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched,
                         struct lrf_moment *at);
uint32_t lrf_occupancy(struct lrf_pipe *pipe, const struct lrf_step *step);

static inline void lrf_not_before(struct lrf_moment *at, uint64_t cycle, uint8_t cause)
{
    if (cycle > at->cycle) {
        at->cycle = cycle;
        at->cause = cause;
    }
}

/* Sources that are there later than `at`. A scalar that was loaded reaches the vector unit later than the scalar one. */
static inline void lrf_wait_for_sources(const struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_moment *at)
{
    for (unsigned s = 0; s < step->sources; s++) {
        const unsigned first = step->source[s].first, end = first + step->source[s].count;
        for (unsigned r = first; r < end; r++) {
            const bool crosses = step->float_source && r >= LRF_F && r < LRF_V && p->cause[r] >= LRF_L1;
            lrf_not_before(at, p->ready[r] + (crosses ? p->model->float_to_vector : 0), p->cause[r]);
        }
    }
}

/* The results of a step that started at `issue` are there at `ready`; what vset* sets for vector instructions at once. */
static inline void lrf_write(struct lrf_pipeline *p, const struct lrf_step *step, uint64_t issue, uint64_t ready,
                             uint8_t cause)
{
    for (unsigned d = 0; d < step->destinations; d++) {
        const unsigned first = step->destination[d].first, end = first + step->destination[d].count;
        for (unsigned r = first; r < end; r++) {
            p->ready[r] = r == LRF_VL && step->configures ? issue + 1 : ready;
            p->cause[r] = cause;
        }
    }
}

#endif
