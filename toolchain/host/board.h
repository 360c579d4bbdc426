/* board.c: wall time of repeated inferences on the machine itself. Never meant for a simulator. */
#ifndef LRF_BOARD_H
#define LRF_BOARD_H

#include <stdint.h>

typedef struct {
  const char *path; /* where the figures go, as JSON; NULL: do not measure */
  unsigned repeats;
  uint64_t warm_up_ns, limit_ns;
  uint64_t cold_ns; /* the first inference, before any warm-up */
} lrf_board;

/* Read `--board PATH REPEATS WARM_UP_MS LIMIT_MS` if it comes next; the number of arguments taken, 0 or 5. */
int lrf_board_options(lrf_board *, int count, char **arguments);
uint64_t lrf_board_clock_ns(void);
/* Warm up, then time up to `repeats` samples and write them. Samples stop at the limit, but there are at least two. */
void lrf_board_measure(const lrf_board *, void (*infer)(void));

#endif
