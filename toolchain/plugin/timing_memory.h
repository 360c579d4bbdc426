/* Data caches, prefetcher and memory as one core sees them.
 *
 * Set-associative, least recently used, write-back with allocation; a line carries the time at which its data arrives,
 * so that a second access to a line under way waits for the rest only. Between levels stands a channel of limited bytes a
 * cycle, which fills, write-backs and prefetches share. The prefetcher follows the stride of each load and store
 * instruction, lines ahead into the first cache and further into the second. Not modelled: address translation, instruction fetch, other
 * cores' traffic (a shared level is given its share of sets), bank conflicts.
 */
#ifndef LRF_TIMING_MEMORY_H
#define LRF_TIMING_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "timing_model.h"

/* Which level had the data: 0 the nearest cache, `caches` memory. */
#define LRF_LEVELS (LRF_MAX_CACHES + 1)
#define LRF_CHANNEL_SLOTS 1024
#define LRF_MAX_STREAMS 256
#define LRF_MAX_MISSES 256

struct lrf_line {
    uint64_t tag;   /* line number + 1; 0: empty */
    uint64_t ready; /* cycle at which the data is there */
    uint64_t used;  /* stamp of the last access */
    uint8_t dirty, source;
};

struct lrf_cache {
    struct lrf_line *lines;
    uint32_t set_mask, ways;
};

/* Bytes granted in each slot of time: requests need not come in the order of time. */
struct lrf_channel {
    uint64_t slot[LRF_CHANNEL_SLOTS];
    uint32_t granted[LRF_CHANNEL_SLOTS]; /* in 1/LRF_RATE bytes */
    uint32_t rate, capacity;
};

/* One entry of the prefetcher: what the load or store at one address of the program does. */
struct lrf_stream {
    uint64_t pc, last;  /* the instruction, and the first byte it accessed */
    int64_t stride;     /* bytes */
    int32_t near, far;  /* steps ahead of `last` that were asked for */
    bool confident;     /* the stride was the same twice */
};

/* The first byte of each line that one instruction touches, in order. */
struct lrf_touched {
    const uint64_t *address;
    uint32_t count;
};

struct lrf_memory {
    const struct lrf_model *model;
    struct lrf_cache cache[LRF_MAX_CACHES];
    struct lrf_channel channel[LRF_MAX_CACHES]; /* [k] fills cache k */
    struct lrf_stream stream[LRF_MAX_STREAMS];
    uint64_t miss_done[LRF_MAX_MISSES];
    uint64_t clock;
    uint32_t line_shift;
    uint64_t moved[LRF_LEVELS]; /* [0] bytes of accesses, [k] bytes between cache k-1 and what lies behind it */
};

void *lrf_allocate(size_t bytes); /* zeroed; ends the process if there is none */
void lrf_memory_init(struct lrf_memory *memory, const struct lrf_model *model);

/* The cycle at which the line of `address` is in the nearest cache if it is accessed at cycle `now`; `level` is who had
 * it. */
uint64_t lrf_access(struct lrf_memory *memory, uint64_t now, uint64_t address, bool store, unsigned *level);
/* Let the prefetcher see what the instruction at `pc` touched at cycle `now`. */
void lrf_prefetch(struct lrf_memory *memory, uint64_t now, uint64_t pc, struct lrf_touched touched);

#endif
