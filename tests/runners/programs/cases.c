/* A program of cases for the real host (toolchain/host/): its only input says what to do, there is no output. */
#include <unistd.h>

#include "host.h"

static unsigned char which;

const unsigned lrf_required_vlen_bits = 0;
const lrf_port lrf_inputs[] = {{&which, 1, "i8"}}, lrf_outputs[1];
const size_t lrf_input_count = 1, lrf_output_count = 0, lrf_transient_bytes = 0, lrf_state_bytes = 0;

void lrf_model_load(void) {}
void lrf_model_run(void) {
  if (which == 's') usleep(1000);
  if (which == 'c') *(volatile int *)8 = 1;
}
