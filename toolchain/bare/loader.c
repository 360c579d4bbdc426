/* Load a kernel image (image.c) without an operating system: all memory is executable. */
#include <stdlib.h>

#include "bare.h"
#include "image.h"

size_t lrf_image_bytes = 0;

const lrf_library *lrf_load_library(const unsigned char *image, size_t bytes) {
  size_t span = lrf_image_span(image, bytes);
  unsigned char *base = aligned_alloc(LRF_IMAGE_PAGE_BYTES, span);
  if (!base) lrf_fail(LRF_EXIT_MACHINE, "no memory for %zu bytes of kernels", span);
  lrf_image_bytes += span;
  lrf_library_query query = lrf_image_place(base, span, image);
  __asm__ volatile("fence.i" ::: "memory"); /* fetches must see what was just written */
  return lrf_image_library(query);
}
