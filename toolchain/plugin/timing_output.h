/* Write what was measured as JSON: one object for each pass through the region, in the order in which they ran. */
#ifndef LRF_TIMING_OUTPUT_H
#define LRF_TIMING_OUTPUT_H

#include <stdio.h>

#include "timing_hart.h"

/* Of `count` vCPUs, of which usually one ran passes: the others took shares of them. */
void lrf_write_passes(FILE *out, const struct lrf_model *model, const struct lrf_hart *harts, unsigned count);

#endif
