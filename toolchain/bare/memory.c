/* What the compiler and the shared sources expect of a libc's memory functions. Scalar, as in the Linux program: copies
 * of a schedule are part of what is measured. Compiled with -fno-builtin, or clang makes memcpy of memcpy's loop. */
#include <stdint.h>
#include <string.h>

#define WORD sizeof(uint64_t)

/* Words of the target's alias rules do not bind: the words are of any type. */
typedef uint64_t __attribute__((may_alias)) word;

static int aligned(const void *left, const void *right) { return (((uintptr_t)left | (uintptr_t)right) % WORD) == 0; }

void *memcpy(void *target, const void *source, size_t bytes) {
  unsigned char *to = target;
  const unsigned char *from = source;
  if (aligned(to, from)) {
    for (; bytes >= 4 * WORD; bytes -= 4 * WORD, to += 4 * WORD, from += 4 * WORD) {
      const word *w = (const word *)from;
      word a = w[0], b = w[1], c = w[2], d = w[3];
      word *v = (word *)to;
      v[0] = a, v[1] = b, v[2] = c, v[3] = d;
    }
    for (; bytes >= WORD; bytes -= WORD, to += WORD, from += WORD) *(word *)to = *(const word *)from;
  }
  while (bytes--) *to++ = *from++;
  return target;
}

void *memmove(void *target, const void *source, size_t bytes) {
  unsigned char *to = target;
  const unsigned char *from = source;
  if ((uintptr_t)to - (uintptr_t)from >= bytes) return memcpy(target, source, bytes); /* forwards is safe */
  while (bytes--) to[bytes] = from[bytes];
  return target;
}

void *memset(void *target, int value, size_t bytes) {
  unsigned char *to = target;
  if (aligned(to, to)) {
    const word pattern = (unsigned char)value * UINT64_C(0x0101010101010101);
    for (; bytes >= 4 * WORD; bytes -= 4 * WORD, to += 4 * WORD)
      for (unsigned i = 0; i < 4; i++) ((word *)to)[i] = pattern;
  }
  while (bytes--) *to++ = (unsigned char)value;
  return target;
}

int memcmp(const void *left, const void *right, size_t bytes) {
  const unsigned char *a = left, *b = right;
  for (; bytes--; a++, b++)
    if (*a != *b) return *a - *b;
  return 0;
}

int strcmp(const char *left, const char *right) {
  while (*left && *left == *right) left++, right++;
  return (unsigned char)*left - (unsigned char)*right;
}
