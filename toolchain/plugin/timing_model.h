/* The parameters of the modelled chip, as lrf_dse/runners/timing.py writes them: one `key value...` a line.
 *
 *     issue_width 2                         scalars: see SCALARS in timing_model.c
 *     pipe alu0                             declares an execution pipe
 *     operation int_alu alu1,alu0 busy 16... latency 1... per_element 0 per_register 0 fields 8 masked 16
 *     cache 0 sets 128 ways 4 latency 3 read 1178 write 2560    level 0 is the nearest; bytes a cycle from and to the
 *                                                               next level, in 1/256
 * Times are in cycles, `busy`, `per_element`, `per_register` and `masked` (a factor) in 1/16. `busy` and `latency` are 16
 * numbers: M1 to M8 at e8, then at e16, e32 and e64. An operation may use any one of its pipes, the first that is free.
 * A per_element that is not 0 replaces `busy`; so does per_register, before it, for segments of at most `fields`.
 */
#ifndef LRF_TIMING_MODEL_H
#define LRF_TIMING_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "timing_decode.h"

#define LRF_MAX_PIPES 16
#define LRF_MAX_CACHES 3
#define LRF_LMULS 4
#define LRF_SEWS 4
#define LRF_FRACTION 16 /* of a cycle, in costs */
#define LRF_RATE 256    /* of a byte a cycle, in bandwidths */

struct lrf_cost {
    uint8_t pipe[4], pipes; /* in the order of preference */
    uint16_t busy[LRF_SEWS][LRF_LMULS], latency[LRF_SEWS][LRF_LMULS];
    uint16_t per_element, per_register, fields, masked;
    bool given;
};

struct lrf_cache_model {
    uint32_t sets, ways, latency, read_rate, write_rate;
};

struct lrf_model {
    uint32_t vlen_bits, line_bytes;
    uint32_t issue_width;
    uint32_t window;                     /* reorder buffer; 0: in order */
    uint32_t vector_queue;               /* vector instructions that may wait beside the scalar core; 0: none may */
    uint32_t in_order_writeback;         /* nothing starts that would end before an earlier instruction */
    uint32_t mispredict_cycles;
    uint32_t taken_branch_cycles;        /* lost at every jump, predicted or not */
    uint32_t barrier_cycles;             /* from the last thread's end to the start of what follows */
    uint32_t predictor_entries, history_bits, return_stack, target_entries;
    uint32_t perfect_memory;             /* every access hits the nearest cache */
    uint32_t misses, store_buffer;       /* outstanding lines */
    uint32_t prefetch_streams, prefetch_near_lines, prefetch_far_lines; /* ahead, into the first and the second cache */
    uint32_t dram_latency, dram_rate, dram_write_rate;
    uint32_t write_stream_lines; /* a run of stores claims lines after so many without reading them; 0: never */
    uint32_t fill_cycles, write_back_cycles; /* of the load or store that a line moves for, in 1/LRF_FRACTION */
    uint32_t load_after_store;   /* cycles in which no vector load starts behind a vector store */
    uint32_t store_drain_rate;   /* and bytes of that store a cycle before it does; 0: at once */
    uint32_t float_to_vector;    /* cycles from a loaded scalar to the vector unit, beyond its latency */
    uint32_t vector_in_order;    /* in a window: vector instructions start in the order of the program */
    uint32_t pipes, caches;
    struct lrf_cache_model cache[LRF_MAX_CACHES];
    struct lrf_cost cost[LRF_OPERATIONS];
    char pipe_names[LRF_MAX_PIPES][16];
};

/* Read the file at `path` into `model`. Returns false after one line on standard error. */
bool lrf_read_model(const char *path, struct lrf_model *model);

/* The names of operations, in the order of the enumeration. */
extern const char *const lrf_operation_names[LRF_OPERATIONS];

#endif
