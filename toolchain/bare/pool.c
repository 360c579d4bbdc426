/* The pool of one hart: the caller does all the work. */
#include "pool.h"

#include "host.h"

void lrf_pool_start(unsigned threads) {
  if (threads != 1) lrf_fail(LRF_EXIT_MACHINE, "this form of the program has one thread, not %u", threads);
}

unsigned lrf_pool_threads(void) { return 1; }

void lrf_pool_run(lrf_share share, unsigned shares, const void *context) {
  (void)shares;
  share(0, 1, context);
}

size_t lrf_pool_stack_bytes(void) { return 0; }
