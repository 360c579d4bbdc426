/* What the generated model.c and the fixed part of the host (loader.c, dispatch.c, main.c) know of each other. */
#ifndef LRF_HOST_H
#define LRF_HOST_H

#include <stddef.h>
#include <stdint.h>

#include "library_abi.h"

/* fail.c: print one line to standard error and exit. Codes: 1 usage or files, 3 unfit machine, 4 broken program, 5 wrong output. */
enum { LRF_EXIT_FILES = 1, LRF_EXIT_MACHINE = 3, LRF_EXIT_BROKEN = 4, LRF_EXIT_WRONG = 5 };
__attribute__((noreturn, format(printf, 2, 3))) void lrf_fail(int code, const char *format, ...);

/* loader.c: load one embedded ELF image. The image stays loaded until the program ends. */
const lrf_library *lrf_load_library(const unsigned char *image, size_t bytes);
extern size_t lrf_image_bytes; /* RAM taken by all loaded images */

/* dispatch.c: find a kernel by name and run all its workgroups in order. */
typedef struct {
  lrf_function function;
  lrf_dispatch_attributes attributes;
  const char *name;
} lrf_kernel;
lrf_kernel lrf_find_kernel(const lrf_library *, const char *name);
void lrf_dispatch(const lrf_kernel *, uint32_t x, uint32_t y, uint32_t z, const uint32_t *constants,
                  void *const *bindings, const size_t *binding_bytes);
void lrf_fill(void *target, size_t bytes, const void *pattern, size_t pattern_bytes);
extern size_t lrf_local_bytes; /* RAM taken by workgroup-local memory */

/* model.c, generated: the ports in the model's order, and what to run. */
typedef struct {
  void *data;
  size_t bytes;
  const char *type; /* MLIR's name of the element type, such as f32 */
} lrf_port;
extern const unsigned lrf_required_vlen_bits; /* 0: compiled without vector instructions */
extern const lrf_port lrf_inputs[], lrf_outputs[];
extern const size_t lrf_input_count, lrf_output_count;
extern const size_t lrf_transient_bytes, lrf_state_bytes;
extern const lrf_port lrf_states[]; /* buffers that are filled once at load */
extern const size_t lrf_state_count;
void lrf_model_load(void);
void lrf_model_run(void);

#endif
