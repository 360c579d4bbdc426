/* Compare the outputs of an inference with files of expected ones, on the machine itself. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* Sums in another order differ in their last bits; more than this share of the largest output is a fault. A model whose
   layers compute in half precision defines a wider one of its own. */
__attribute__((weak)) const double lrf_tolerance = 1e-4;
/* The rounding of a float of 1: where all outputs are tiny, an error below it is right (lrf_dse/runners/verify.py). */
#define ROUNDING 1.1920928955078125e-7

typedef struct {
  double worst, largest;
  int equal; /* 0 when an output that is not floating point differs, or a value is not finite */
} comparison;

static double value_at(const lrf_port *port, const void *data, size_t index) {
  return strcmp(port->type, "f64") == 0 ? ((const double *)data)[index] : (double)((const float *)data)[index];
}

static void compare(comparison *all, const lrf_port *port, const void *expected) {
  const int single = strcmp(port->type, "f32") == 0;
  if (!single && strcmp(port->type, "f64") != 0) {
    all->equal &= memcmp(port->data, expected, port->bytes) == 0;
    return;
  }
  for (size_t i = 0; i < port->bytes / (single ? sizeof(float) : sizeof(double)); i++) {
    double got = value_at(port, port->data, i), wanted = value_at(port, expected, i);
    if (!isfinite(got) || !isfinite(wanted)) all->equal = 0; /* fmax below would pass over a NaN */
    all->worst = fmax(all->worst, fabs(got - wanted));
    all->largest = fmax(all->largest, fabs(wanted));
  }
}

int lrf_check_outputs(char **paths) {
  comparison all = {0, 0, 1};
  for (size_t i = 0; i < lrf_output_count; i++) {
    lrf_port expected = lrf_outputs[i];
    expected.data = malloc(expected.bytes + 1);
    if (!expected.data) lrf_fail(LRF_EXIT_MACHINE, "no memory for the expected output %s", paths[i]);
    lrf_read_port(paths[i], &expected);
    compare(&all, &lrf_outputs[i], expected.data);
    free(expected.data);
  }
  double error = all.worst / (all.largest > 0 ? all.largest : 1);
  int right = all.equal && (error <= lrf_tolerance || all.worst <= ROUNDING);
  printf("%s: largest error %.1e of max |y|, limit %.0e\n", right ? "ok" : "WRONG", error, lrf_tolerance);
  return right ? 0 : LRF_EXIT_WRONG;
}
