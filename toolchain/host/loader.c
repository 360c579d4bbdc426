/* Load a kernel image (image.c) under Linux: memory from mmap, its code executable, the caches flushed. */
#include <elf.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image.h"

#define SYS_RISCV_FLUSH_ICACHE 259

size_t lrf_image_bytes = 0;

static void protect(unsigned char *base, size_t span, const unsigned char *image) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
  const Elf64_Phdr *segments = (const Elf64_Phdr *)(image + header->e_phoff);
  for (unsigned i = 0; i < header->e_phnum; i++) {
    if (segments[i].p_type != PT_LOAD || !(segments[i].p_flags & PF_X)) continue;
    size_t start = segments[i].p_vaddr & ~(size_t)(LRF_IMAGE_PAGE_BYTES - 1);
    size_t end = segments[i].p_vaddr + segments[i].p_memsz;
    if (mprotect(base + start, end - start, PROT_READ | PROT_EXEC) != 0)
      lrf_fail(LRF_EXIT_MACHINE, "this system refuses to make loaded kernels executable");
  }
#ifdef __riscv /* instruction caches of all harts must see what was just written */
  syscall(SYS_RISCV_FLUSH_ICACHE, base, base + span, 0);
  __asm__ volatile("fence.i" ::: "memory");
#else
  (void)span;
#endif
}

const lrf_library *lrf_load_library(const unsigned char *image, size_t bytes) {
  size_t span = lrf_image_span(image, bytes);
  unsigned char *base = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) lrf_fail(LRF_EXIT_MACHINE, "no memory for %zu bytes of kernels", span);
  lrf_image_bytes += span;
  lrf_library_query query = lrf_image_place(base, span, image);
  protect(base, span, image);
  return lrf_image_library(query);
}
