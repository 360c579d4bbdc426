/* Place the ELF that iree-compile embeds in a .vmfb: plain segments, RISC-V relative relocations, no symbols to
 * resolve. Anything else in it ends the program with a message: it would be a different kind of file, or a damaged one.
 * Every offset is held against the bytes that are there before it is followed. */
#include <elf.h>
#include <string.h>

#include "image.h"

#define MAX_SPAN ((size_t)1 << 30)
#define BROKEN(what) lrf_fail(LRF_EXIT_BROKEN, "kernel image: " what)

static int fits(size_t offset, size_t bytes, size_t end) { return offset <= end && bytes <= end - offset; }

size_t lrf_image_span(const unsigned char *image, size_t bytes) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
  if (bytes < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_machine != EM_RISCV ||
      header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phoff % sizeof(uint64_t) != 0 ||
      !fits(header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr), bytes))
    BROKEN("not a RISC-V ELF file");
  const Elf64_Phdr *segments = (const Elf64_Phdr *)(image + header->e_phoff);
  size_t end = 0;
  for (unsigned i = 0; i < header->e_phnum; i++) {
    if (segments[i].p_type != PT_LOAD) continue;
    if (!fits(segments[i].p_offset, segments[i].p_filesz, bytes) || segments[i].p_filesz > segments[i].p_memsz ||
        !fits(segments[i].p_vaddr, segments[i].p_memsz, MAX_SPAN))
      BROKEN("a segment lies outside of it");
    if (segments[i].p_vaddr + segments[i].p_memsz > end) end = segments[i].p_vaddr + segments[i].p_memsz;
  }
  return (end + LRF_IMAGE_PAGE_BYTES - 1) & ~(size_t)(LRF_IMAGE_PAGE_BYTES - 1);
}

/* Where the dynamic section says that things are, as offsets in the placed image; 0 where it does not say. */
typedef struct {
  size_t symbols, names, hash, relocations, relocation_bytes;
} layout;

static layout read_dynamic(const unsigned char *base, size_t span, const Elf64_Phdr *segment) {
  if (!fits(segment->p_vaddr, segment->p_memsz, span) || segment->p_vaddr % sizeof(uint64_t) != 0)
    BROKEN("its dynamic section lies outside of it");
  const Elf64_Dyn *entry = (const Elf64_Dyn *)(base + segment->p_vaddr), *end = entry + segment->p_memsz / sizeof *entry;
  layout found = {0};
  for (; entry < end && entry->d_tag != DT_NULL; entry++) {
    if (entry->d_tag == DT_SYMTAB) found.symbols = entry->d_un.d_ptr;
    if (entry->d_tag == DT_STRTAB) found.names = entry->d_un.d_ptr;
    if (entry->d_tag == DT_HASH) found.hash = entry->d_un.d_ptr;
    if (entry->d_tag == DT_RELA) found.relocations = entry->d_un.d_ptr;
    if (entry->d_tag == DT_RELASZ) found.relocation_bytes = entry->d_un.d_val;
    if (entry->d_tag == DT_JMPREL || entry->d_tag == DT_NEEDED) BROKEN("it wants symbols of other libraries");
  }
  return found;
}

static void relocate(unsigned char *base, size_t span, const layout *at) {
  if (!fits(at->relocations, at->relocation_bytes, span)) BROKEN("its relocations lie outside of it");
  for (size_t i = 0; i < at->relocation_bytes / sizeof(Elf64_Rela); i++) {
    Elf64_Rela one;
    memcpy(&one, base + at->relocations + i * sizeof one, sizeof one);
    if (ELF64_R_TYPE(one.r_info) != R_RISCV_RELATIVE)
      lrf_fail(LRF_EXIT_BROKEN, "kernel image: relocation type %u is not supported", (unsigned)ELF64_R_TYPE(one.r_info));
    if (!fits(one.r_offset, sizeof(uint64_t), span)) BROKEN("a relocation lies outside of it");
    const uint64_t value = (uint64_t)base + (uint64_t)one.r_addend;
    memcpy(base + one.r_offset, &value, sizeof value);
  }
}

/* The one exported symbol is the library query; the hash table's chain count is the number of symbols. */
static lrf_library_query find_query(unsigned char *base, size_t span, const layout *at) {
  static const char wanted[] = "iree_hal_executable_library_query";
  uint32_t counts[2]; /* buckets, chains */
  if (!at->symbols || !at->names || !at->hash || !fits(at->hash, sizeof counts, span)) BROKEN("no dynamic symbols");
  memcpy(counts, base + at->hash, sizeof counts);
  if (!fits(at->symbols, counts[1] * sizeof(Elf64_Sym), span)) BROKEN("its symbols lie outside of it");
  for (uint32_t i = 0; i < counts[1]; i++) {
    Elf64_Sym symbol;
    memcpy(&symbol, base + at->symbols + i * sizeof symbol, sizeof symbol);
    if (fits(at->names, symbol.st_name + sizeof wanted, span) && symbol.st_value < span &&
        memcmp(base + at->names + symbol.st_name, wanted, sizeof wanted) == 0)
      return (lrf_library_query)(base + symbol.st_value);
  }
  BROKEN("no library query function");
}

lrf_library_query lrf_image_place(unsigned char *base, size_t span, const unsigned char *image) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
  const Elf64_Phdr *segments = (const Elf64_Phdr *)(image + header->e_phoff), *dynamic = NULL;
  for (unsigned i = 0; i < header->e_phnum; i++) {
    if (segments[i].p_type == PT_LOAD)
      memcpy(base + segments[i].p_vaddr, image + segments[i].p_offset, segments[i].p_filesz);
    if (segments[i].p_type == PT_DYNAMIC) dynamic = &segments[i];
  }
  if (!dynamic) BROKEN("no dynamic section");
  const layout at = read_dynamic(base, span, dynamic);
  relocate(base, span, &at);
  return find_query(base, span, &at);
}

const lrf_library *lrf_image_library(lrf_library_query query) {
  static const lrf_environment nothing;
  const lrf_library *library = (const lrf_library *)query(LRF_LIBRARY_VERSION, &nothing);
  if (!library || library->header->version != LRF_LIBRARY_VERSION)
    lrf_fail(LRF_EXIT_BROKEN, "kernel image: library ABI version is not %u", LRF_LIBRARY_VERSION);
  if (library->imports.count || library->constants.count || !library->exports.names)
    lrf_fail(LRF_EXIT_BROKEN, "kernel image: imports, constants or unnamed kernels are not supported");
  return library;
}
