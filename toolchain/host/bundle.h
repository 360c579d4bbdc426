/* bundle.c: the files around the program. */
#ifndef LRF_BUNDLE_H
#define LRF_BUNDLE_H

/* Return if every file of the bundle that this program lies in is the one that was exported, else end the program. */
void lrf_require_bundle(void);

#endif
