/* The machine without an operating system: what main.c, loader.c and the generated data.c know of it. */
#ifndef LRF_BARE_H
#define LRF_BARE_H

#include "host.h"

/* machine.c: the serial line, and the end of the program. `%s %c %u %x %lu %lx %zu` are known. */
__attribute__((format(printf, 1, 2))) void lrf_print(const char *format, ...);
void lrf_print_hex(const unsigned char *data, size_t bytes);
__attribute__((noreturn)) void lrf_exit(int code);
extern unsigned char lrf_stack_bottom[], lrf_stack_top[];

/* data.c, generated: the inputs of the inference, and a heap for kernel images and workgroup-local memory. */
extern const unsigned char *const lrf_embedded_inputs[];
extern unsigned char lrf_heap[];
extern const size_t lrf_heap_bytes;

#endif
