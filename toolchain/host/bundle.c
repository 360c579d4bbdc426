/* The bundle that this program lies in, file by file, the program itself among them.
 *
 * manifest.json ends with a digest of all that stands before it, and holds the digest of SHA256SUMS, which lists every
 * other file (lrf_dse/deploy/whole.py writes them). So a file of another bundle is found as well as a damaged one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bundle.h"
#include "host.h"
#include "sha256.h"

#define DAMAGED "the bundle is damaged: copy or export it again"
#define MAX_TEXT_BYTES (1u << 20) /* of SHA256SUMS and manifest.json: a few KB each */

static char folder[4096];

/* Below the folder of the program. qemu-user answers /proc/self/exe for the program, not for itself. */
static FILE *open_file(const char *name, char path[sizeof folder + 512]) {
  snprintf(path, sizeof folder + 512, "%s/%.500s", folder, name);
  FILE *file = fopen(path, "rb");
  if (!file) lrf_fail(LRF_EXIT_BROKEN, "%s cannot be read; " DAMAGED, path);
  return file;
}

static void find_folder(void) {
  ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
  char *slash = length > 0 ? strrchr(folder, '/') : NULL;
  if (!slash) lrf_fail(LRF_EXIT_FILES, "cannot tell the folder of this program: is /proc mounted?");
  *slash = 0;
}

/* A whole file and a NUL; the caller frees it. */
static char *read_text(const char *name, size_t *bytes) {
  char path[sizeof folder + 512];
  FILE *file = open_file(name, path);
  char *text = malloc(MAX_TEXT_BYTES + 1);
  if (!text) lrf_fail(LRF_EXIT_MACHINE, "no memory for %s", path);
  *bytes = fread(text, 1, MAX_TEXT_BYTES, file);
  text[*bytes] = 0;
  fclose(file);
  return text;
}

static void digest_of(const void *data, size_t bytes, char hex[LRF_HEX_BYTES + 1]) {
  lrf_sha256 sum;
  lrf_sha256_begin(&sum);
  lrf_sha256_add(&sum, data, bytes);
  lrf_sha256_end(&sum, hex);
}

/* `,\n  "seal": "<digest>"\n}\n` ends the manifest; the digest is of what stands before it. */
static char *read_manifest(void) {
  static const char before[] = "\"seal\": \"", after[] = "\"\n}\n";
  const size_t tail = LRF_HEX_BYTES + sizeof after - 1;
  char hex[LRF_HEX_BYTES + 1];
  size_t bytes, head = sizeof before - 1;
  char *text = read_text("manifest.json", &bytes);
  if (bytes >= head + tail) digest_of(text, bytes - tail, hex);
  const char *end = text + (bytes >= tail ? bytes - tail : 0);
  if (bytes < head + tail || memcmp(end - head, before, head) != 0 || memcmp(end, hex, LRF_HEX_BYTES) != 0 ||
      memcmp(end + LRF_HEX_BYTES, after, sizeof after - 1) != 0)
    lrf_fail(LRF_EXIT_BROKEN, "%s/manifest.json is not what was exported; " DAMAGED, folder);
  return text;
}

static void require_file(const char *name, const char *wanted) {
  char path[sizeof folder + 512], hex[LRF_HEX_BYTES + 1];
  unsigned char part[4096];
  lrf_sha256 sum;
  lrf_sha256_begin(&sum);
  FILE *file = open_file(name, path);
  for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;) lrf_sha256_add(&sum, part, got);
  int failed = ferror(file);
  fclose(file);
  lrf_sha256_end(&sum, hex);
  if (failed || memcmp(hex, wanted, LRF_HEX_BYTES) != 0)
    lrf_fail(LRF_EXIT_BROKEN, "%s is not the file that SHA256SUMS lists; " DAMAGED, path);
}

/* Lines of a digest, two spaces and a name. */
void lrf_require_bundle(void) {
  find_folder();
  /* With its name: the digests of other files are in the manifest as well. */
  char said[9 + LRF_HEX_BYTES + 1] = "\"sums\": \"";
  char *manifest = read_manifest();
  size_t bytes;
  char *sums = read_text("SHA256SUMS", &bytes);
  digest_of(sums, bytes, said + strlen(said));
  if (!strstr(manifest, said))
    lrf_fail(LRF_EXIT_BROKEN, "%s: manifest.json and SHA256SUMS are not of one bundle; " DAMAGED, folder);
  free(manifest);
  for (char *line = strtok(sums, "\n"); line; line = strtok(NULL, "\n"))
    if (strlen(line) > LRF_HEX_BYTES + 2) require_file(line + LRF_HEX_BYTES + 2, line);
  free(sums);
}
