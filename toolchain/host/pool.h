/* A fixed pool of threads that share out the workgroups of one dispatch after another. */
#ifndef LRF_POOL_H
#define LRF_POOL_H

#include <stddef.h>

#define LRF_MAX_THREADS 64u

/* Start `threads` - 1 workers; the calling thread is worker 0. With one thread nothing is started. */
void lrf_pool_start(unsigned threads);
unsigned lrf_pool_threads(void);

/* Call share(worker, shares, context) for the workers 0 to shares - 1, and return when all have returned. */
typedef void (*lrf_share)(unsigned worker, unsigned shares, const void *context);
void lrf_pool_run(lrf_share share, unsigned shares, const void *context);

/* Deepest use of all started workers' stacks together (worker 0's stack is the program's own). */
size_t lrf_pool_stack_bytes(void);

#endif
