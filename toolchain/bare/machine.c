/* A serial line (16550) and a power switch (syscon, "sifive,test"), where QEMU's virt machine and rvsim have them; traps;
 * a heap. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bare.h"

#define UART ((volatile unsigned char *)0x10000000)
#define POWER_SWITCH ((volatile uint32_t *)0x100000)
#define POWER_OFF 0x5555u
#define POWER_OFF_FAILED 0x3333u
#define CAUSE_ILLEGAL_INSTRUCTION 2u

static void put(char c) { *UART = (unsigned char)c; }

static void put_number(unsigned long value, unsigned base) {
  char digits[20];
  unsigned count = 0;
  do digits[count++] = "0123456789abcdef"[value % base];
  while ((value /= base) != 0);
  while (count) put(digits[--count]);
}

static void print(const char *format, va_list arguments) {
  for (; *format; format++) {
    if (*format != '%') {
      put(*format);
      continue;
    }
    int is_long = *++format == 'l' || *format == 'z';
    if (is_long) format++;
    if (*format == 's')
      for (const char *text = va_arg(arguments, const char *); *text; text++) put(*text);
    else
      put_number(is_long ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned), *format == 'x' ? 16 : 10);
  }
}

void lrf_print(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print(format, arguments);
  va_end(arguments);
}

void lrf_print_hex(const unsigned char *data, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    put("0123456789abcdef"[data[i] >> 4]);
    put("0123456789abcdef"[data[i] & 15]);
  }
}

void lrf_exit(int code) {
  *POWER_SWITCH = code == 0 ? POWER_OFF : (uint32_t)code << 16 | POWER_OFF_FAILED;
  *POWER_SWITCH = POWER_OFF_FAILED; /* rvsim does not know the form with a code */
  for (;;) __asm__ volatile("wfi");
}

void lrf_fail(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  lrf_print("error ");
  print(format, arguments);
  lrf_print("\n");
  va_end(arguments);
  lrf_exit(code);
}

/* From crt0.S. The instruction is read from memory: mtval may be 0 for an illegal one. */
__attribute__((noreturn, used)) void lrf_trap(unsigned long cause, unsigned long pc, unsigned long value) {
  unsigned instruction = 0;
  if (cause == CAUSE_ILLEGAL_INSTRUCTION) {
    instruction = *(const uint16_t *)pc;
    if ((instruction & 3) == 3) instruction |= (unsigned)*(const uint16_t *)(pc + 2) << 16;
  }
  lrf_print("trap %lx %lx %lx %x\n", cause, pc, value, instruction);
  lrf_exit(LRF_EXIT_BROKEN);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  static size_t used = 0;
  size_t start = (used + alignment - 1) & ~(alignment - 1); /* the heap itself is aligned to a page */
  if (start > lrf_heap_bytes || bytes > lrf_heap_bytes - start) return NULL;
  used = start + bytes;
  return memset(lrf_heap + start, 0, bytes);
}

void free(void *memory) { (void)memory; }
