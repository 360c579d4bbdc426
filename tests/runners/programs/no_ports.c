/* A model without inputs and outputs for the real host program (toolchain/host/); ACTION is from the command line. */
#include <unistd.h>

#include "host.h"

const unsigned lrf_required_vlen_bits = 0;
const lrf_port lrf_inputs[1], lrf_outputs[1];
const size_t lrf_input_count = 0, lrf_output_count = 0, lrf_transient_bytes = 0, lrf_state_bytes = 0;

void lrf_model_load(void) {}
void lrf_model_run(void) { ACTION; }
