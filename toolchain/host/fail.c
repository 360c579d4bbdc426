/* The one way a program gives up: a line on standard error and an exit code. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "host.h"

void lrf_fail(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("error: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(code);
}
