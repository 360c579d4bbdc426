/* Decodes instruction words for tests/runners/test_timing_decode.py: a line "WORD VTYPE" of hexadecimal numbers becomes
 * "OPERATION MASKED ELEMENTS ACCESS_BYTES LMUL_LOG2 | READ... | WRITTEN...", registers as in timing_decode.h.
 * With an argument N, N random words under all vtypes must name registers that exist. */
#include <stdio.h>
#include <stdlib.h>

#include "timing_decode.h"

static const char *const names[] = {
#define LRF_OPERATION(name, meaning) #name,
#include "operations.def"
#undef LRF_OPERATION
};

static void print(const struct lrf_group *group, unsigned count) {
  for (unsigned g = 0; g < count; g++)
    for (unsigned r = 0; r < group[g].count; r++) printf(" %u", group[g].first + r);
}

static int out_of_range(const struct lrf_group *group, unsigned count) {
  for (unsigned g = 0; g < count; g++)
    if (group[g].count == 0 || group[g].first == 0 || group[g].first + group[g].count > LRF_REGISTERS) return 1;
  return 0;
}

static int fuzz(long words) {
  uint32_t state = 1;
  for (long i = 0; i < words; i++) {
    state = state * 1664525u + 1013904223u;
    const uint32_t word = (state >> 7) ^ (state << 16);
    for (unsigned vtype = 0; vtype <= 64; vtype++) {
      const struct lrf_instruction got = lrf_decode(word, vtype == 64 ? LRF_VTYPE_UNKNOWN : vtype, 256);
      if (out_of_range(got.source, got.sources) || out_of_range(got.destination, got.destinations) ||
          got.lmul_log2 > 3 || got.operation >= LRF_OPERATIONS) {
        printf("%08x under %02x\n", word, vtype);
        return 1;
      }
    }
  }
  return 0;
}

int main(int count, char **arguments) {
  unsigned word, vtype;
  if (count > 1) return fuzz(atol(arguments[1]));
  while (scanf("%x %x", &word, &vtype) == 2) {
    const struct lrf_instruction got = lrf_decode(word, vtype, 256);
    printf("%s %d %u %u %u |", names[got.operation], got.masked, got.elements, got.access_bytes, got.lmul_log2);
    print(got.source, got.sources);
    printf(" |");
    print(got.destination, got.destinations);
    putchar('\n');
  }
  return 0;
}
