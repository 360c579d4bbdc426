/* The program around one model: program [OPTIONS] INPUT... OUTPUT..., or program --check INPUT... EXPECTED..., which
 * also checks the bundle around it (bundle.c).
 *
 * Files hold raw little-endian arrays, inputs then outputs in the model's order. The instructions that count
 * as the inference are marked (region.h). With --stats, memory use is written as JSON; the stack is painted
 * before the inference and its high-water mark read after it, since a simulator cannot tell. --passes N
 * repeats the inference (cold and warm caches of a simulator); with --board it is repeated and timed on the machine
 * itself (board.c). */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"
#include "bundle.h"
#include "check.h"
#include "host.h"
#include "pool.h"
#include "region.h"

#define PAINT_BYTES (1u << 20)
#define PAINT 0xa5u
/* The paint starts this far below the frame of paint_stack: whatever lies between counts as used. */
#define PAINT_MARGIN_BYTES 128u

static sigjmp_buf no_vector_unit;
static void on_illegal_instruction(int signal_number) {
  (void)signal_number;
  siglongjmp(no_vector_unit, 1);
}

/* Bytes of a vector register; 0 without a vector unit (the register's number is used: no V in the host's ISA needed). */
static unsigned long vector_bytes(void) {
  unsigned long bytes = 0;
  void (*before)(int) = signal(SIGILL, on_illegal_instruction);
#ifdef __riscv
  if (sigsetjmp(no_vector_unit, 1) == 0) __asm__ volatile("csrr %0, 0xc22" : "=r"(bytes)); /* vlenb */
#endif
  signal(SIGILL, before);
  return bytes;
}

/* A module compiled for a longer vector silently computes half its outputs on a shorter one: refuse first. */
static unsigned long require_vectors(void) {
  unsigned long bytes = vector_bytes();
  if (bytes * 8 < lrf_required_vlen_bits)
    lrf_fail(LRF_EXIT_MACHINE, "this program needs vector registers of %u bits, this machine has %lu",
             lrf_required_vlen_bits, bytes * 8);
  return bytes;
}

void lrf_read_port(const char *path, const lrf_port *port) {
  FILE *file = fopen(path, "rb");
  if (!file) lrf_fail(LRF_EXIT_FILES, "cannot open input %s", path);
  char beyond;
  if (fread(port->data, 1, port->bytes, file) != port->bytes || fread(&beyond, 1, 1, file) != 0)
    lrf_fail(LRF_EXIT_FILES, "input %s must be %zu bytes", path, port->bytes);
  fclose(file);
}

static void write_file(const char *path, const lrf_port *port) {
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(port->data, 1, port->bytes, file) != port->bytes || fclose(file) != 0)
    lrf_fail(LRF_EXIT_FILES, "cannot write output %s", path);
}

/* Downwards, as the kernel grows a stack. */
__attribute__((noinline)) static volatile unsigned char *paint_stack(void) {
  volatile unsigned char *top = (volatile unsigned char *)__builtin_frame_address(0) - PAINT_MARGIN_BYTES;
  for (size_t i = 1; i <= PAINT_BYTES; i++) top[-(ptrdiff_t)i] = PAINT;
  return top;
}

__attribute__((noinline)) static size_t stack_used(volatile unsigned char *top) {
  volatile unsigned char *lowest = top - PAINT_BYTES;
  while (lowest < top && *lowest == PAINT) lowest++;
  return (size_t)(top - lowest) + PAINT_MARGIN_BYTES;
}

__attribute__((noinline)) static void infer(void) {
  LRF_REGION_BEGIN;
  lrf_model_run();
  LRF_REGION_END;
}

static void write_stats(const char *path, size_t stack_bytes, unsigned long vlenb) {
  size_t io_bytes = 0;
  for (size_t i = 0; i < lrf_input_count; i++) io_bytes += lrf_inputs[i].bytes;
  for (size_t i = 0; i < lrf_output_count; i++) io_bytes += lrf_outputs[i].bytes;
  FILE *file = fopen(path, "w");
  if (!file || fprintf(file,
                       "{\"stack_bytes\": %zu, \"transient_bytes\": %zu, \"io_bytes\": %zu, \"image_bytes\": %zu, "
                       "\"state_bytes\": %zu, \"local_bytes\": %zu, \"vlenb\": %lu}\n",
                       stack_bytes, lrf_transient_bytes, io_bytes, lrf_image_bytes, lrf_state_bytes, lrf_local_bytes,
                       vlenb) < 0 || fclose(file) != 0)
    lrf_fail(LRF_EXIT_FILES, "cannot write %s", path);
}

typedef struct {
  const char *stats; /* where to write memory use, NULL for nowhere */
  unsigned long threads, passes;
  int check; /* the files after the inputs are expected outputs, to compare with */
  lrf_board board;
  char **paths; /* inputs, then outputs */
} options;

static unsigned long count_option(const char *name, const char *text, unsigned long most) {
  char *end;
  unsigned long value = strtoul(text, &end, 10);
  if (*end || value < 1 || value > most) lrf_fail(LRF_EXIT_FILES, "%s must be 1 to %lu, got %s", name, most, text);
  return value;
}

/* One option from the front of the arguments; how many of them it took, 0 if there is none. */
static int take_option(options *chosen, int count, char **arguments) {
  if (count > 1 && strcmp(arguments[1], "--check") == 0) {
    chosen->check = 1;
    return 1;
  }
  if (count > 2 && strcmp(arguments[1], "--stats") == 0) {
    chosen->stats = arguments[2];
    return 2;
  }
  if (count > 2 && strcmp(arguments[1], "--threads") == 0) {
    chosen->threads = count_option("--threads", arguments[2], LRF_MAX_THREADS);
    return 2;
  }
  if (count > 2 && strcmp(arguments[1], "--passes") == 0) {
    chosen->passes = count_option("--passes", arguments[2], 1000000);
    return 2;
  }
  return lrf_board_options(&chosen->board, count, arguments);
}

static options read_options(int count, char **arguments) {
  options chosen = {.threads = 1, .passes = 1};
  for (int taken; (taken = take_option(&chosen, count, arguments)) != 0; count -= taken) arguments += taken;
  if ((size_t)count != 1 + lrf_input_count + lrf_output_count)
    lrf_fail(LRF_EXIT_FILES, "usage: program [--threads N] [--stats FILE] INPUT... OUTPUT..., or program --check "
             "INPUT... EXPECTED... (%zu inputs, %zu outputs)", lrf_input_count, lrf_output_count);
  chosen.paths = arguments + 1;
  return chosen;
}

int main(int count, char **arguments) {
  options chosen = read_options(count, arguments);
  if (chosen.check) lrf_require_bundle();
  unsigned long vlenb = require_vectors();
  lrf_pool_start((unsigned)chosen.threads);
  for (size_t i = 0; i < lrf_input_count; i++) lrf_read_port(chosen.paths[i], &lrf_inputs[i]);
  lrf_model_load();
  volatile unsigned char *top = chosen.stats ? paint_stack() : NULL;
  chosen.board.cold_ns = lrf_board_clock_ns();
  infer();
  chosen.board.cold_ns = lrf_board_clock_ns() - chosen.board.cold_ns;
  size_t stack_bytes = chosen.stats ? stack_used(top) + lrf_pool_stack_bytes() : 0;
  for (unsigned long pass = 1; pass < chosen.passes; pass++) infer();
  if (chosen.board.path) lrf_board_measure(&chosen.board, infer);
  if (chosen.stats) write_stats(chosen.stats, stack_bytes, vlenb);
  char **outputs = chosen.paths + lrf_input_count;
  if (chosen.check) return lrf_check_outputs(outputs);
  for (size_t i = 0; i < lrf_output_count; i++) write_file(outputs[i], &lrf_outputs[i]);
  return 0;
}
