/* Workers sleep on a generation counter and take a fixed share of each generation, so that the same program does the
 * same work on the same thread every time: measurements of threads can be repeated.
 *
 * A dispatch of a small layer takes microseconds, a sleeping thread's wake-up tens of them: workers spin first. */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host.h"
#include "pool.h"
#include "region.h"

#define STACK_BYTES (256u * 1024u) /* IREE keeps a kernel's stack below 32 KiB */
#define STACK_PAINT 0xa5u
#define SPINS 2000

typedef struct {
  unsigned index;
  unsigned char *stack;
} worker;

static unsigned pool_threads = 1;
static worker workers[LRF_MAX_THREADS];
static lrf_share current_share;
static const void *current_context;
static unsigned current_shares;
static atomic_int generation;
static atomic_int unfinished;

static void sleep_while(atomic_int *word, int value) {
  for (int spin = 0; spin < SPINS; spin++)
    if (atomic_load_explicit(word, memory_order_acquire) != value) return;
  while (atomic_load_explicit(word, memory_order_acquire) == value)
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(atomic_int *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

static void *worker_loop(void *argument) {
  const worker *self = argument;
  for (int seen = 0;; seen++) {
    sleep_while(&generation, seen);
    if (self->index < current_shares) {
      LRF_SHARE_BEGIN;
      current_share(self->index, current_shares, current_context);
      LRF_SHARE_END;
    }
    if (atomic_fetch_sub_explicit(&unfinished, 1, memory_order_acq_rel) == 1) wake(&unfinished);
  }
  return NULL;
}

static void start_worker(worker *self) {
  pthread_attr_t attributes;
  pthread_t thread;
  self->stack = aligned_alloc(LRF_LOCAL_MEMORY_PAGE_BYTES, STACK_BYTES);
  if (!self->stack) lrf_fail(LRF_EXIT_MACHINE, "no memory for the stack of thread %u", self->index);
  memset(self->stack, STACK_PAINT, STACK_BYTES);
  if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstack(&attributes, self->stack, STACK_BYTES) != 0 ||
      pthread_create(&thread, &attributes, worker_loop, self) != 0)
    lrf_fail(LRF_EXIT_MACHINE, "cannot start thread %u", self->index);
  pthread_attr_destroy(&attributes);
  pthread_detach(thread);
}

void lrf_pool_start(unsigned threads) {
  if (threads < 1 || threads > LRF_MAX_THREADS)
    lrf_fail(LRF_EXIT_FILES, "the number of threads must be 1 to %u", LRF_MAX_THREADS);
  pool_threads = threads;
  for (unsigned i = 1; i < threads; i++) {
    workers[i].index = i;
    start_worker(&workers[i]);
  }
}

unsigned lrf_pool_threads(void) { return pool_threads; }

void lrf_pool_run(lrf_share share, unsigned shares, const void *context) {
  if (shares <= 1) { /* waking the pool for work that cannot be shared would only cost */
    share(0, 1, context);
    return;
  }
  LRF_FORK;
  current_share = share;
  current_context = context;
  current_shares = shares;
  atomic_store_explicit(&unfinished, (int)pool_threads - 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&generation, 1, memory_order_acq_rel);
  wake(&generation);
  LRF_FORKED;
  share(0, shares, context);
  LRF_JOIN;
  for (int left; (left = atomic_load_explicit(&unfinished, memory_order_acquire)) != 0;) sleep_while(&unfinished, left);
  LRF_JOINED;
}

size_t lrf_pool_stack_bytes(void) {
  size_t used = 0;
  for (unsigned i = 1; i < pool_threads; i++) {
    size_t clean = 0;
    while (clean < STACK_BYTES && workers[i].stack[clean] == STACK_PAINT) clean++;
    used += STACK_BYTES - clean;
  }
  return used;
}
