/* Place the kernel image in a file as the host does, and say where its query function is; nothing of it is run. */
#include <stdio.h>
#include <stdlib.h>

#include "image.h"

int main(int count, char **arguments) {
  FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
  if (!file || fseek(file, 0, SEEK_END) != 0) return 2;
  size_t bytes = (size_t)ftell(file);
  rewind(file);
  unsigned char *image = malloc(bytes + 1); /* no slack: what lies behind the image is not its own */
  if (!image || fread(image, 1, bytes, file) != bytes) return 2;
  fclose(file);
  image = realloc(image, bytes ? bytes : 1);
  size_t span = lrf_image_span(image, bytes);
  unsigned char *base = calloc(1, span ? span : 1);
  lrf_library_query query = base ? lrf_image_place(base, span, image) : NULL;
  printf("%td of %zu\n", (unsigned char *)query - base, span);
  free(base);
  free(image);
  return 0;
}
