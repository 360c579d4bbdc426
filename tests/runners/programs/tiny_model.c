/* A hand-written model for the real host program (toolchain/host/): y = 2 x + 1.
 *
 * Inputs: CASE, 16 bytes that name what goes wrong; x, 4 float32. REQUIRED_VLEN_BITS is set by the compiler's command line. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

#define N 4

static char name[16];
static float x[N], y[N];
static unsigned long runs;

const unsigned lrf_required_vlen_bits = REQUIRED_VLEN_BITS;
const lrf_port lrf_inputs[] = {{name, sizeof name, "i8"}, {x, sizeof x, "f32"}}, lrf_outputs[] = {{y, sizeof y, "f32"}};
const size_t lrf_input_count = 2, lrf_output_count = 1, lrf_transient_bytes = 200, lrf_state_bytes = 0;

void lrf_model_load(void) {}

static int is(const char *other) { return strcmp(name, other) == 0; }

void lrf_model_run(void) {
  for (int i = 0; i < N; i++) y[i] = 2.0f * x[i] + 1.0f;
  runs++;
  if (is("wrong")) y[2] += 0.5f;
  if (is("drifts") && runs > 3) y[2] += 0.5f;
  if (is("hangs"))
    for (;;) __asm__ volatile("");
  if (is("slow")) usleep(2000);
  if (is("crashes")) *(volatile int *)8 = 1;
  if (is("exits 255")) exit(255);
}
