/* image.c: the kernel image that iree-compile embeds in a .vmfb, for a host with an operating system and for one without. */
#ifndef LRF_IMAGE_H
#define LRF_IMAGE_H

#include "host.h"

#define LRF_IMAGE_PAGE_BYTES 4096u

/* Bytes of memory that the image needs, in whole pages. Ends the program if it is no whole RISC-V ELF file. */
size_t lrf_image_span(const unsigned char *image, size_t bytes);
/* Copy the segments to `base`, zeroed memory of that `span`, and relocate them. The code is not yet fit to run: the loader
 * makes it executable and flushes the instruction caches. */
lrf_library_query lrf_image_place(unsigned char *base, size_t span, const unsigned char *image);
/* Ask the placed code for its library of kernels. */
const lrf_library *lrf_image_library(lrf_library_query query);

#endif
