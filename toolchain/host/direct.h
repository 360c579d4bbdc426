/* direct.c: the program around kernels that are linked into it, without a kernel image (lrf_dse/builders/direct.py). */
#ifndef LRF_DIRECT_H
#define LRF_DIRECT_H

#include <stddef.h>

/* One phase of a layer: its workgroups share the work, and all of them end before the next phase begins.
 * x [batch, in], y [batch, out], weights packed for this kernel, scratch uninitialised. */
typedef void (*lrf_phase_function)(const float *x, const float *weights, float *scratch, float *y, size_t group);
typedef struct {
  lrf_phase_function function;
  size_t workgroups;
} lrf_phase;

typedef struct {
  const float *x, *weights;
  float *scratch, *y;
} lrf_buffers;

typedef struct {
  const char *name;
  const lrf_phase *phases;
  size_t phase_count;
  size_t x_bytes, weight_bytes, scratch_bytes, y_bytes;
  lrf_buffers buffers;
} lrf_layer;

/* Run the phases of `layer` on `buffers`, each phase's workgroups shared out over the threads of the pool. */
void lrf_run_phases(const lrf_layer *layer, const lrf_buffers *buffers);

/* guard.c: the same on the layer's own data, but in buffers between unmapped pages. Ends the program with a message at
 * the first access outside a buffer, or write to x or weights. */
void lrf_run_guarded(const lrf_layer *layer);

#endif
