/* Run the kernels of a layer that are part of the program: each thread takes one contiguous run of a phase's
 * workgroups, always the same one. */
#include "direct.h"
#include "host.h"
#include "pool.h"

size_t lrf_image_bytes = 0, lrf_local_bytes = 0; /* such kernels need no loading and no memory of their own */
const lrf_port lrf_states[1];
const size_t lrf_state_count = 0; /* none that is written out: copies of weights are made whenever a program loads */

typedef struct {
  const lrf_phase *phase;
  const lrf_buffers *buffers;
} phase_context;

static void run_share(unsigned worker, unsigned shares, const void *context) {
  const lrf_phase *phase = ((const phase_context *)context)->phase;
  const lrf_buffers *buffers = ((const phase_context *)context)->buffers;
  const size_t end = phase->workgroups * (worker + 1) / shares;
  for (size_t group = phase->workgroups * worker / shares; group < end; group++)
    phase->function(buffers->x, buffers->weights, buffers->scratch, buffers->y, group);
}

void lrf_run_phases(const lrf_layer *layer, const lrf_buffers *buffers) {
  for (size_t i = 0; i < layer->phase_count; i++) {
    const phase_context context = {&layer->phases[i], buffers};
    const size_t groups = layer->phases[i].workgroups, threads = lrf_pool_threads();
    lrf_pool_run(run_share, (unsigned)(groups < threads ? groups : threads), &context);
  }
}
