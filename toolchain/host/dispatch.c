/* Run kernels of a loaded library: the workgroups of a dispatch are shared out over the threads of the pool, each
 * thread taking one contiguous run of them, always the same one. */
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "pool.h"

size_t lrf_local_bytes = 0;
static size_t local_bytes_per_worker = 0;
static unsigned char *local_memory = NULL;
static const lrf_environment environment;

/* Workgroup-local memory is one block a worker, as large as the most demanding kernel needs. */
static void reserve_local(size_t bytes) {
  if (bytes <= local_bytes_per_worker) return;
  free(local_memory);
  local_bytes_per_worker = bytes;
  lrf_local_bytes = bytes * lrf_pool_threads();
  local_memory = aligned_alloc(LRF_LOCAL_MEMORY_PAGE_BYTES, lrf_local_bytes);
  if (!local_memory) lrf_fail(LRF_EXIT_MACHINE, "no memory for %zu bytes of workgroup-local memory", lrf_local_bytes);
}

lrf_kernel lrf_find_kernel(const lrf_library *library, const char *name) {
  for (uint32_t i = 0; i < library->exports.count; i++) {
    if (strcmp(library->exports.names[i], name) != 0) continue;
    lrf_kernel kernel = {library->exports.functions[i], {0}, name};
    if (library->exports.attributes) kernel.attributes = library->exports.attributes[i];
    reserve_local((size_t)kernel.attributes.local_memory_pages * LRF_LOCAL_MEMORY_PAGE_BYTES);
    return kernel;
  }
  lrf_fail(LRF_EXIT_BROKEN, "kernel image: no kernel named %s", name);
}

typedef struct {
  const lrf_kernel *kernel;
  const lrf_dispatch_state *state;
} dispatch_context;

static void next_workgroup(lrf_workgroup_state *group, const lrf_dispatch_state *state) {
  if (++group->workgroup_x < state->workgroup_count_x) return;
  group->workgroup_x = 0;
  if (++group->workgroup_y < state->workgroup_count_y) return;
  group->workgroup_y = 0;
  group->workgroup_z++;
}

static void run_share(unsigned worker, unsigned shares, const void *context) {
  const dispatch_context *dispatch = context;
  const lrf_dispatch_state *state = dispatch->state;
  const uint64_t x = state->workgroup_count_x, y = state->workgroup_count_y;
  const uint64_t count = x * y * state->workgroup_count_z;
  const uint64_t first = count * worker / shares, end = count * (worker + 1) / shares;
  lrf_workgroup_state group = {
      .workgroup_x = (uint32_t)(first % x),
      .workgroup_y = (uint32_t)(first / x % y),
      .workgroup_z = (uint16_t)(first / x / y),
      .processor_id = worker,
      .local_memory = local_memory ? local_memory + worker * local_bytes_per_worker : NULL,
      .local_memory_bytes = (uint32_t)local_bytes_per_worker,
  };
  for (uint64_t i = first; i < end; i++, next_workgroup(&group, state)) {
    int status = dispatch->kernel->function(&environment, state, &group);
    if (status != 0) lrf_fail(LRF_EXIT_BROKEN, "kernel %s failed with status %d", dispatch->kernel->name, status);
  }
}

void lrf_dispatch(const lrf_kernel *kernel, uint32_t x, uint32_t y, uint32_t z, const uint32_t *constants,
                  void *const *bindings, const size_t *binding_bytes) {
  const lrf_dispatch_state state = {
      .workgroup_size_x = kernel->attributes.workgroup_size_x,
      .workgroup_size_y = kernel->attributes.workgroup_size_y,
      .workgroup_size_z = kernel->attributes.workgroup_size_z,
      .constant_count = kernel->attributes.constant_count,
      .workgroup_count_x = x,
      .workgroup_count_y = y,
      .workgroup_count_z = (uint16_t)z,
      .max_concurrency = (uint8_t)lrf_pool_threads(),
      .binding_count = kernel->attributes.binding_count,
      .constants = constants,
      .bindings = bindings,
      .binding_bytes = binding_bytes,
  };
  const dispatch_context context = {kernel, &state};
  const uint64_t count = (uint64_t)x * y * z;
  if (count == 0) return;
  lrf_pool_run(run_share, count < lrf_pool_threads() ? (unsigned)count : lrf_pool_threads(), &context);
}

void lrf_fill(void *target, size_t bytes, const void *pattern, size_t pattern_bytes) {
  for (size_t i = 0; i + pattern_bytes <= bytes; i += pattern_bytes)
    memcpy((unsigned char *)target + i, pattern, pattern_bytes);
}
