/* check.c: the outputs against files of expected ones. */
#ifndef LRF_CHECK_H
#define LRF_CHECK_H

#include "host.h"

/* Print one line; 0, or LRF_EXIT_WRONG when an output is off by more than rounding. */
int lrf_check_outputs(char **paths);
/* Read a file of exactly the port's size into it (main.c). */
void lrf_read_port(const char *path, const lrf_port *port);

#endif
