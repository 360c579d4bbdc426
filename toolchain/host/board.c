/* Wall time of repeated inferences on the machine itself, as raw samples: the statistics are made elsewhere.
 *
 * A sample is one pass, or as many as fill SAMPLE_NS: the clock of a board ticks at 24 MHz or less, too coarse for a
 * single pass of some microseconds. Cycles are read where the kernel lets a program do so (Linux 6.6 and later trap
 * rdcycle by default). */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "board.h"
#include "host.h"

#define SAMPLE_NS 200000u
#define MAX_PASSES 1000000u

uint64_t lrf_board_clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_RAW, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cycles_now(void) {
  uint64_t cycles = 0;
#ifdef __riscv
  __asm__ volatile("csrr %0, 0xc00" : "=r"(cycles)::"memory"); /* rdcycle */
#endif
  return cycles;
}

static sigjmp_buf no_cycle_counter;
static void on_illegal_instruction(int signal_number) {
  (void)signal_number;
  siglongjmp(no_cycle_counter, 1);
}

/* A counter that stands still is none: some firmware answers 0. */
static int has_cycle_counter(void) {
  volatile int has = 0;
  void (*before)(int) = signal(SIGILL, on_illegal_instruction);
  if (sigsetjmp(no_cycle_counter, 1) == 0) {
    uint64_t first = cycles_now();
    for (volatile int i = 0; i < 1000; i++) continue;
    has = cycles_now() != first;
  }
  signal(SIGILL, before);
  return has;
}

/* A whole number of at most `most`. */
static unsigned long number(const char *text, unsigned long most) {
  char *end;
  unsigned long value = strtoul(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || value > most) lrf_fail(LRF_EXIT_FILES, "--board: bad number %s", text);
  return value;
}

int lrf_board_options(lrf_board *board, int count, char **arguments) {
  if (count < 6 || strcmp(arguments[1], "--board") != 0) return 0;
  board->path = arguments[2];
  board->repeats = (unsigned)number(arguments[3], 1000000);
  board->warm_up_ns = number(arguments[4], 3600000) * 1000000u;
  board->limit_ns = number(arguments[5], 86400000) * 1000000u;
  return 5;
}

/* The fastest pass of the warm-up decides how many passes a sample needs. */
static unsigned warm_up(const lrf_board *board, void (*infer)(void)) {
  uint64_t start = lrf_board_clock_ns(), before = start, fastest = UINT64_MAX;
  do {
    infer();
    uint64_t now = lrf_board_clock_ns();
    if (now - before < fastest) fastest = now - before;
    before = now;
  } while (before - start < board->warm_up_ns);
  if (fastest >= SAMPLE_NS) return 1;
  uint64_t passes = SAMPLE_NS / (fastest ? fastest : 1) + 1;
  return passes > MAX_PASSES ? MAX_PASSES : (unsigned)passes;
}

static unsigned sample(const lrf_board *board, void (*infer)(void), unsigned passes, uint64_t *ns, uint64_t *cycles) {
  uint64_t start = lrf_board_clock_ns();
  unsigned done = 0;
  while (done < board->repeats && (done < 2 || lrf_board_clock_ns() - start < board->limit_ns)) {
    uint64_t before_cycles = cycles ? cycles_now() : 0, before = lrf_board_clock_ns();
    for (unsigned i = 0; i < passes; i++) infer();
    ns[done] = lrf_board_clock_ns() - before;
    if (cycles) cycles[done] = cycles_now() - before_cycles;
    done++;
  }
  return done;
}

/* Peak resident set as the kernel saw it; 0 if it does not tell. */
static unsigned long peak_resident_kb(void) {
  char line[256];
  unsigned long kb = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file))
    if (strncmp(line, "VmHWM:", 6) == 0) kb = strtoul(line + 6, NULL, 10);
  if (file) fclose(file);
  return kb;
}

static void write_list(FILE *file, const char *name, const uint64_t *values, unsigned count) {
  fprintf(file, "\"%s\": [", name);
  for (unsigned i = 0; i < count; i++) fprintf(file, "%s%llu", i ? ", " : "", (unsigned long long)values[i]);
  fputs("], ", file);
}

void lrf_board_measure(const lrf_board *board, void (*infer)(void)) {
  unsigned long resident_kb = peak_resident_kb();
  uint64_t *ns = malloc((size_t)board->repeats * sizeof *ns + 1);
  uint64_t *cycles = has_cycle_counter() ? malloc((size_t)board->repeats * sizeof *cycles + 1) : NULL;
  if (!ns) lrf_fail(LRF_EXIT_MACHINE, "no memory for %u samples", board->repeats);
  unsigned passes = warm_up(board, infer);
  unsigned count = sample(board, infer, passes, ns, cycles);
  FILE *file = fopen(board->path, "w");
  if (!file) lrf_fail(LRF_EXIT_FILES, "cannot write %s", board->path);
  fputs("{", file);
  write_list(file, "ns", ns, count);
  write_list(file, "cycles", cycles, cycles ? count : 0);
  fprintf(file, "\"passes\": %u, \"cold_ns\": %llu, \"peak_resident_kb\": %lu}\n", passes,
          (unsigned long long)board->cold_ns, resident_kb);
  if (ferror(file) | fclose(file)) lrf_fail(LRF_EXIT_FILES, "cannot write %s", board->path);
  free(ns);
  free(cycles);
}
