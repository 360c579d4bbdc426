/* The part of <string.h> that exists without a libc: bare/memory.c. */
#ifndef LRF_BARE_STRING_H
#define LRF_BARE_STRING_H

#include <stddef.h>

void *memcpy(void *target, const void *source, size_t bytes);
void *memmove(void *target, const void *source, size_t bytes);
void *memset(void *target, int value, size_t bytes);
int memcmp(const void *left, const void *right, size_t bytes);
int strcmp(const char *left, const char *right);

#endif
