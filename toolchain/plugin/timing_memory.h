/* Data caches, prefetcher and memory as one core sees them.
 *
 * Set-associative, least recently used, write-back with allocation; a line carries the time at which its data arrives,
 * so that a second access to a line under way waits for the rest only. Between caches stand two channels of limited bytes
 * a cycle: fills and prefetches share the one, write-backs have the other; memory has one for both, and a rate for each.
 * A run of stores to adjacent addresses claims the lines that it reaches without reading them. The first use of a line
 * that was prefetched into the first cache, and pushing a dirty one out of it, take cycles of the access that does it.
 * The prefetcher follows the stride of each load and store instruction, lines ahead into the first cache and further into
 * the second. It sees misses, and first uses of lines that it fetched: what stays in the first cache takes none of its
 * entries. Any entry may follow any instruction, the oldest is given to a new one, and strides cross pages. One
 * instruction that serves several arrays in turn is not followed. Not modelled: address translation, instruction fetch,
 * other cores' traffic (a shared level is given its share of sets), bank conflicts.
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
#define LRF_WRITE_RUNS 8

struct lrf_line {
    uint64_t tag;   /* line number + 1; 0: empty */
    uint64_t ready; /* cycle at which the data is there */
    uint64_t held;  /* cycle at which what was in its place had started to leave */
    uint64_t used;  /* stamp of the last access */
    uint8_t dirty, source, fresh; /* fresh: brought here ahead of its first use */
};

struct lrf_cache {
    struct lrf_line *lines;
    uint32_t set_mask, ways;
};

/* Time granted in each slot: requests need not come in the order of time. */
struct lrf_channel {
    uint64_t slot[LRF_CHANNEL_SLOTS];
    uint32_t granted[LRF_CHANNEL_SLOTS]; /* in 1/LRF_RATE cycles */
};

/* Stores to adjacent addresses, whatever instructions make them. */
struct lrf_write_run {
    uint64_t start, end; /* bytes from start up to end were stored */
    uint64_t used;
};

/* One entry of the prefetcher: what the load or store at one address of the program did when it was last seen. */
struct lrf_stream {
    uint64_t pc, last;  /* the instruction, and the first byte it accessed */
    int64_t stride;     /* bytes, from the access before */
    int64_t step;       /* bytes, what it is believed to go on by */
    uint64_t used;      /* stamp of the last access */
    int32_t near, far;  /* steps ahead of `last` that were asked for */
    bool confident;     /* the stride was the same twice */
};

/* The first byte of each line that one instruction touches, in order, and the byte behind the last one. */
struct lrf_touched {
    const uint64_t *address, *end;
    uint32_t count;
};

struct lrf_memory {
    const struct lrf_model *model;
    struct lrf_cache cache[LRF_MAX_CACHES];
    struct lrf_channel channel[LRF_MAX_CACHES];    /* [k] fills cache k; the last one is memory's, to and fro */
    struct lrf_channel back[LRF_MAX_CACHES];       /* [k] takes what cache k writes back */
    struct lrf_write_run run[LRF_WRITE_RUNS];
    uint32_t port; /* what moving lines into and out of the first cache has cost since it was asked for; 1/LRF_FRACTION */
    struct lrf_stream stream[LRF_MAX_STREAMS];
    bool seen; /* an access since the last look of the prefetcher missed, or was the first use of a line it fetched */
    uint64_t miss_done[LRF_MAX_MISSES];
    uint64_t clock;
    uint32_t line_shift;
    uint64_t moved[LRF_LEVELS]; /* [0] bytes of accesses, [k] bytes between cache k-1 and what lies behind it */
};

void *lrf_allocate(size_t bytes); /* zeroed; ends the process if there is none */
void lrf_memory_init(struct lrf_memory *memory, const struct lrf_model *model);

/* The cycle at which the line of `address` is in the nearest cache if it is accessed at cycle `now`; `level` is who had
 * it. */
enum lrf_access { LRF_LOAD, LRF_STORE, LRF_STORE_IN_A_RUN };
uint64_t lrf_access(struct lrf_memory *memory, uint64_t now, uint64_t address, enum lrf_access kind, unsigned *level);
/* Lines are stored to: returns whether they prolong a run that claims lines without reading them. */
bool lrf_stores_in_a_run(struct lrf_memory *memory, struct lrf_touched touched);
/* Let the prefetcher see what the instruction at `pc` touched at cycle `now`. */
void lrf_prefetch(struct lrf_memory *memory, uint64_t now, uint64_t pc, struct lrf_touched touched);

#endif
