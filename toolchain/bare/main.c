/* The program around one model, without an operating system: inputs are embedded, everything else goes over the serial
 * line, one fact a line (lrf_dse/runners/rvsim.py reads them):
 *
 *   cold CYCLES INSTRUCTIONS     the first inference
 *   warm CYCLES INSTRUCTIONS     the second one
 *   memory NAME BYTES            one line for each part, as the Linux program's --stats
 *   output INDEX HEXADECIMAL     the bytes of an output of the last inference
 *   error TEXT                   then nothing more
 *   trap CAUSE PC VALUE CODE     an exception, all hexadecimal, then nothing more; CODE is an illegal instruction
 *   done                         the last line of a run without errors */
#include <string.h>

#include "bare.h"
#include "region.h"

#define PAINT 0xa5a5a5a5a5a5a5a5u
#define MISA_V (1ul << ('v' - 'a'))

typedef struct {
  unsigned long cycles, instructions;
} counters;

static unsigned long vector_bytes(void) {
  unsigned long misa, bytes = 0;
  __asm__ volatile("csrr %0, misa" : "=r"(misa));
  if (misa & MISA_V) __asm__ volatile("csrr %0, 0xc22" : "=r"(bytes)); /* vlenb */
  return bytes;
}

/* A module compiled for a longer vector silently computes half its outputs on a shorter one: refuse first. */
static void require_vectors(void) {
  unsigned long bytes = lrf_required_vlen_bits ? vector_bytes() : 0;
  if (bytes * 8 < lrf_required_vlen_bits)
    lrf_fail(LRF_EXIT_MACHINE, "this program needs vector registers of %u bits, this machine has %lu",
             lrf_required_vlen_bits, bytes * 8);
}

static counters counters_now(void) {
  counters now;
  __asm__ volatile("rdcycle %0\n rdinstret %1" : "=r"(now.cycles), "=r"(now.instructions)::"memory");
  return now;
}

__attribute__((noinline)) static counters infer(void) {
  counters before = counters_now();
  LRF_REGION_BEGIN;
  lrf_model_run();
  LRF_REGION_END;
  counters after = counters_now();
  return (counters){after.cycles - before.cycles, after.instructions - before.instructions};
}

/* From the bottom to just below the frame of main. */
__attribute__((noinline)) static uint64_t *paint_stack(void) {
  uint64_t *top = (uint64_t *)__builtin_frame_address(0) - 32;
  for (volatile uint64_t *word = (uint64_t *)lrf_stack_bottom; word < top; word++) *word = PAINT;
  return top;
}

static size_t stack_used(const uint64_t *top) {
  const uint64_t *lowest = (const uint64_t *)lrf_stack_bottom;
  if (*lowest != PAINT) lrf_fail(LRF_EXIT_BROKEN, "the stack overflowed");
  while (lowest < top && *lowest == PAINT) lowest++;
  return (size_t)(lrf_stack_top - (const unsigned char *)lowest);
}

static void print_memory(size_t stack_bytes) {
  size_t io_bytes = 0;
  for (size_t i = 0; i < lrf_input_count; i++) io_bytes += lrf_inputs[i].bytes;
  for (size_t i = 0; i < lrf_output_count; i++) io_bytes += lrf_outputs[i].bytes;
  lrf_print("memory stack_bytes %zu\nmemory transient_bytes %zu\nmemory io_bytes %zu\n", stack_bytes,
            lrf_transient_bytes, io_bytes);
  lrf_print("memory image_bytes %zu\nmemory state_bytes %zu\nmemory local_bytes %zu\n", lrf_image_bytes,
            lrf_state_bytes, lrf_local_bytes);
}

__attribute__((noreturn, used)) void lrf_main(void) {
  require_vectors();
  for (size_t i = 0; i < lrf_input_count; i++) memcpy(lrf_inputs[i].data, lrf_embedded_inputs[i], lrf_inputs[i].bytes);
  lrf_model_load();
  const uint64_t *top = paint_stack();
  counters cold = infer(), warm = infer();
  size_t stack_bytes = stack_used(top);
  lrf_print("cold %lu %lu\nwarm %lu %lu\n", cold.cycles, cold.instructions, warm.cycles, warm.instructions);
  print_memory(stack_bytes);
  for (size_t i = 0; i < lrf_output_count; i++) {
    lrf_print("output %zu ", i);
    lrf_print_hex(lrf_outputs[i].data, lrf_outputs[i].bytes);
    lrf_print("\n");
  }
  lrf_print("done\n");
  lrf_exit(0);
}
