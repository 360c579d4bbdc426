/* pack OUT: do what a schedule does once at load, and write the buffers it filled, one after the other.
 *
 * Run while building (lrf_dse/builders/packing.py), so that the shipped program holds packed weights as constants
 * instead of packing a second copy of them into RAM at every start. */
#include <stdio.h>

#include "host.h"
#include "pool.h"

int main(int count, char **arguments) {
  if (count != 2) lrf_fail(LRF_EXIT_FILES, "usage: pack OUT");
  lrf_pool_start(1);
  lrf_model_load();
  FILE *file = fopen(arguments[1], "wb");
  if (!file) lrf_fail(LRF_EXIT_FILES, "cannot write %s", arguments[1]);
  for (size_t i = 0; i < lrf_state_count; i++)
    if (fwrite(lrf_states[i].data, 1, lrf_states[i].bytes, file) != lrf_states[i].bytes)
      lrf_fail(LRF_EXIT_FILES, "cannot write %s", arguments[1]);
  if (fclose(file) != 0) lrf_fail(LRF_EXIT_FILES, "cannot write %s", arguments[1]);
  return 0;
}
