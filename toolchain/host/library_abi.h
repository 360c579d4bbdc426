/* IREE's executable-library ABI, version 6, as far as a host needs it.
 *
 * Declared from the LLVM types that iree-compile 3.13 emits (--iree-hal-dump-executable-intermediates-to).
 * loader.c refuses any other version. Every kernel of a module has the type lrf_function. */
#ifndef LRF_LIBRARY_ABI_H
#define LRF_LIBRARY_ABI_H

#include <stddef.h>
#include <stdint.h>

#define LRF_LIBRARY_VERSION 6u
#define LRF_LOCAL_MEMORY_PAGE_BYTES 4096u

typedef struct {
  const uint32_t *constants;
  void *import_thunk;
  void *const *import_functions;
  void *const *import_contexts;
  uint64_t processor[8]; /* IREE's CPU feature words; zero: nothing beyond what was compiled for */
} lrf_environment;

typedef struct {
  uint32_t workgroup_size_x, workgroup_size_y;
  uint16_t workgroup_size_z;
  uint16_t constant_count;
  uint32_t workgroup_count_x, workgroup_count_y;
  uint16_t workgroup_count_z;
  uint8_t max_concurrency;
  uint8_t binding_count;
  const uint32_t *constants;
  void *const *bindings;
  const size_t *binding_bytes;
} lrf_dispatch_state;

typedef struct {
  uint32_t workgroup_x, workgroup_y;
  uint16_t workgroup_z;
  uint16_t reserved;
  uint32_t processor_id;
  void *local_memory;
  uint32_t local_memory_bytes;
} lrf_workgroup_state;

typedef int (*lrf_function)(const lrf_environment *, const lrf_dispatch_state *, const lrf_workgroup_state *);

typedef struct {
  uint64_t flags;
  uint16_t local_memory_pages;
  uint8_t constant_count;
  uint8_t binding_count;
  uint32_t workgroup_size_x, workgroup_size_y;
  uint16_t workgroup_size_z;
  uint16_t parameter_count;
  uint64_t reserved[5];
} lrf_dispatch_attributes;

typedef struct {
  uint32_t version;
  const char *name;
  uint32_t features;
  uint32_t sanitizer;
} lrf_library_header;

typedef struct {
  const lrf_library_header *header;
  struct {
    uint32_t count;
    const char *const *symbols;
  } imports;
  struct {
    uint32_t count;
    const lrf_function *functions;
    const lrf_dispatch_attributes *attributes;
    const void *parameters;
    const void *occupancy;
    const char *const *names;
    const void *tags, *parameter_names, *source_locations, *stage_locations;
  } exports;
  struct {
    uint32_t count;
  } constants;
} lrf_library;

typedef const lrf_library_header *const *(*lrf_library_query)(uint32_t max_version, const lrf_environment *);

#endif
