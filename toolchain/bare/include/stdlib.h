/* The part of <stdlib.h> that exists without a libc: bare/machine.c. */
#ifndef LRF_BARE_STDLIB_H
#define LRF_BARE_STDLIB_H

#include <stddef.h>

/* Zeroed memory from a fixed heap; NULL when that is used up. */
void *aligned_alloc(size_t alignment, size_t bytes);
/* Gives nothing back: what is allocated here stays until the program ends. */
void free(void *memory);

#endif
