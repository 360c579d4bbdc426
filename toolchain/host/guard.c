/* Run a layer where every access outside its buffers is seen: each buffer lies alone between unmapped pages, in a first
 * run beginning at a page's start, in a second ending at a page's end. So a read or write before it is caught to the
 * byte by the first, one past it by the second. x and weights are read-only; scratch and y start as NaNs, so that what
 * is used before it was written shows in the outputs. */
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "direct.h"
#include "host.h"

#define PAGE_BYTES 4096u
#define GUARD_BYTES (1u << 20) /* on either side: a stray index lands in it, not in another buffer */
#define NAN_BYTE 0xff          /* four of them are a quiet NaN */

enum { X, WEIGHTS, SCRATCH, Y, BUFFER_COUNT };
static const char *const names[BUFFER_COUNT] = {"x", "weights", "scratch", "y"};

typedef struct {
  unsigned char *mapping, *pages, *data;
  size_t mapped_bytes, page_bytes, bytes;
} guarded;

static guarded buffers[BUFFER_COUNT];
static const char *layer_name = "";

static guarded guard(size_t bytes, int at_end) {
  guarded one = {.bytes = bytes, .page_bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES};
  one.mapped_bytes = one.page_bytes + 2 * GUARD_BYTES;
  one.mapping = mmap(NULL, one.mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (one.mapping == MAP_FAILED) lrf_fail(LRF_EXIT_MACHINE, "no address space for a guarded buffer of %zu bytes", bytes);
  one.pages = one.mapping + GUARD_BYTES;
  one.data = one.pages + (at_end ? one.page_bytes - bytes : 0);
  if (one.page_bytes && mprotect(one.pages, one.page_bytes, PROT_READ | PROT_WRITE) != 0)
    lrf_fail(LRF_EXIT_MACHINE, "no memory for a guarded buffer of %zu bytes", bytes);
  return one;
}

/* The kernel has done wrong and this is its thread: nothing of the C library is interrupted here. */
static void on_fault(int signal_number, siginfo_t *info, void *context) {
  (void)signal_number, (void)context;
  const unsigned char *at = info->si_addr;
  for (int i = 0; i < BUFFER_COUNT; i++) {
    const guarded *one = &buffers[i];
    if (!one->mapping || at < one->mapping || at >= one->mapping + one->mapped_bytes) continue;
    if (at < one->data)
      lrf_fail(LRF_EXIT_WRONG, "%s: access %td bytes before %s", layer_name, one->data - at, names[i]);
    if (at >= one->data + one->bytes)
      lrf_fail(LRF_EXIT_WRONG, "%s: access %td bytes past the end of %s (%zu bytes)", layer_name,
               at - (one->data + one->bytes), names[i], one->bytes);
    lrf_fail(LRF_EXIT_WRONG, "%s: write to byte %td of %s, which is read-only", layer_name, at - one->data, names[i]);
  }
  lrf_fail(LRF_EXIT_WRONG, "%s: access to %p, far from every buffer", layer_name, (const void *)at);
}

static void fill_read_only(guarded *one, const void *data) {
  memcpy(one->data, data, one->bytes);
  if (one->page_bytes) mprotect(one->pages, one->page_bytes, PROT_READ);
}

static void run_once(const lrf_layer *layer, int at_end) {
  const size_t bytes[BUFFER_COUNT] = {layer->x_bytes, layer->weight_bytes, layer->scratch_bytes, layer->y_bytes};
  for (int i = 0; i < BUFFER_COUNT; i++) buffers[i] = guard(bytes[i], at_end);
  memset(buffers[SCRATCH].data, NAN_BYTE, buffers[SCRATCH].bytes);
  memset(buffers[Y].data, NAN_BYTE, buffers[Y].bytes);
  fill_read_only(&buffers[X], layer->buffers.x);
  fill_read_only(&buffers[WEIGHTS], layer->buffers.weights);
  const lrf_buffers run = {(const float *)buffers[X].data, (const float *)buffers[WEIGHTS].data,
                           (float *)buffers[SCRATCH].data, (float *)buffers[Y].data};
  lrf_run_phases(layer, &run);
  if (at_end && memcmp(layer->buffers.y, buffers[Y].data, layer->y_bytes) != 0)
    lrf_fail(LRF_EXIT_WRONG, "%s: another result in buffers at other addresses", layer->name);
  memcpy(layer->buffers.y, buffers[Y].data, layer->y_bytes);
  for (int i = 0; i < BUFFER_COUNT; i++) munmap(buffers[i].mapping, buffers[i].mapped_bytes);
}

void lrf_run_guarded(const lrf_layer *layer) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  layer_name = layer->name;
  run_once(layer, 0);
  run_once(layer, 1);
}
