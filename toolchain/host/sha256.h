/* sha256.c: digests of files, as sha256sum prints them. */
#ifndef LRF_SHA256_H
#define LRF_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define LRF_HEX_BYTES 64u

typedef struct {
  uint32_t state[8];
  uint64_t bytes;
  unsigned char block[64];
} lrf_sha256;

void lrf_sha256_begin(lrf_sha256 *);
void lrf_sha256_add(lrf_sha256 *, const void *data, size_t bytes);
/* The digest as LRF_HEX_BYTES hexadecimal digits and a NUL. */
void lrf_sha256_end(lrf_sha256 *, char hex[LRF_HEX_BYTES + 1]);

#endif
