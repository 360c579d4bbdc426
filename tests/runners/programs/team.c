/* Three passes in which the pool of the host program (toolchain/host/pool.c) shares out work: worker w adds up
 * 1000 (w + 1) numbers. Dispatches before the region must not be measured. The first pass also does work that depends
 * on where the stacks lie: it is the same in every run only if addresses are. */
#include <stdint.h>
#include <stdlib.h>

#include "pool.h"
#include "region.h"

#define THREADS 3
#define PASSES 3

__attribute__((noreturn)) void lrf_fail(int code, const char *format, ...) {
  (void)format;
  exit(code);
}

static long sums[THREADS];

static void add(unsigned worker, unsigned shares, const void *context) {
  (void)shares;
  long sum = 0;
  for (long i = 0; i < 1000 * (long)(worker + 1); i++) {
    sum += i;
    __asm__ volatile("" : "+r"(sum));
  }
  sums[worker] = sum + *(const long *)context;
}

static void walk(unsigned worker, unsigned shares, const void *context) {
  (void)worker, (void)shares, (void)context;
  for (uintptr_t i = ((uintptr_t)__builtin_frame_address(0) >> 12) & 1023; i > 0; i--) __asm__ volatile("");
}

int main(void) {
  long offset = 1;
  lrf_pool_start(THREADS);
  lrf_pool_run(add, THREADS, &offset);
  for (int pass = 0; pass < PASSES; pass++) {
    LRF_REGION_BEGIN;
    if (pass == 0) lrf_pool_run(walk, THREADS, &offset);
    lrf_pool_run(add, THREADS, &offset);
    lrf_pool_run(add, 1, &offset);
    LRF_REGION_END;
  }
  return sums[2] != 2999 * 3000 / 2 + 1;
}
