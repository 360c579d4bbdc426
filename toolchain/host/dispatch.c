/* Run kernels of a loaded library: all workgroups of a dispatch, one after the other, on the calling thread. */
#include <stdlib.h>
#include <string.h>

#include "host.h"

size_t lrf_local_bytes = 0;
static void *local_memory = NULL;
static const lrf_environment environment;

/* Workgroup-local memory is one block, as large as the most demanding kernel needs. */
static void reserve_local(size_t bytes) {
  if (bytes <= lrf_local_bytes) return;
  free(local_memory);
  local_memory = aligned_alloc(LRF_LOCAL_MEMORY_PAGE_BYTES, bytes);
  if (!local_memory) lrf_fail(LRF_EXIT_MACHINE, "no memory for %zu bytes of workgroup-local memory", bytes);
  lrf_local_bytes = bytes;
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

void lrf_dispatch(const lrf_kernel *kernel, uint32_t x, uint32_t y, uint32_t z, const uint32_t *constants,
                  void *const *bindings, const size_t *binding_bytes) {
  const lrf_dispatch_state dispatch = {
      .workgroup_size_x = kernel->attributes.workgroup_size_x,
      .workgroup_size_y = kernel->attributes.workgroup_size_y,
      .workgroup_size_z = kernel->attributes.workgroup_size_z,
      .constant_count = kernel->attributes.constant_count,
      .workgroup_count_x = x,
      .workgroup_count_y = y,
      .workgroup_count_z = (uint16_t)z,
      .max_concurrency = 1,
      .binding_count = kernel->attributes.binding_count,
      .constants = constants,
      .bindings = bindings,
      .binding_bytes = binding_bytes,
  };
  lrf_workgroup_state group = {.local_memory = local_memory, .local_memory_bytes = (uint32_t)lrf_local_bytes};
  for (uint32_t k = 0; k < z; k++)
    for (uint32_t j = 0; j < y; j++)
      for (uint32_t i = 0; i < x; i++) {
        group.workgroup_x = i;
        group.workgroup_y = j;
        group.workgroup_z = (uint16_t)k;
        int status = kernel->function(&environment, &dispatch, &group);
        if (status != 0) lrf_fail(LRF_EXIT_BROKEN, "kernel %s failed with status %d", kernel->name, status);
      }
}

void lrf_fill(void *target, size_t bytes, const void *pattern, size_t pattern_bytes) {
  for (size_t i = 0; i + pattern_bytes <= bytes; i += pattern_bytes)
    memcpy((unsigned char *)target + i, pattern, pattern_bytes);
}
