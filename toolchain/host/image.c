/* Place the ELF that iree-compile embeds in a .vmfb: plain segments, RISC-V relative relocations, no symbols to
 * resolve. Anything else in it ends the program with a message: it would be a different kind of file. */
#include <elf.h>
#include <string.h>

#include "image.h"

size_t lrf_image_span(const unsigned char *image, size_t bytes) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
  if (bytes < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_machine != EM_RISCV)
    lrf_fail(LRF_EXIT_BROKEN, "kernel image: not a RISC-V ELF file");
  const Elf64_Phdr *segments = (const Elf64_Phdr *)(image + header->e_phoff);
  size_t end = 0;
  for (unsigned i = 0; i < header->e_phnum; i++)
    if (segments[i].p_type == PT_LOAD && segments[i].p_vaddr + segments[i].p_memsz > end)
      end = segments[i].p_vaddr + segments[i].p_memsz;
  return (end + LRF_IMAGE_PAGE_BYTES - 1) & ~(size_t)(LRF_IMAGE_PAGE_BYTES - 1);
}

static void relocate(unsigned char *base, const Elf64_Rela *table, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (ELF64_R_TYPE(table[i].r_info) != R_RISCV_RELATIVE)
      lrf_fail(LRF_EXIT_BROKEN, "kernel image: relocation type %u is not supported",
               (unsigned)ELF64_R_TYPE(table[i].r_info));
    *(uint64_t *)(base + table[i].r_offset) = (uint64_t)base + table[i].r_addend;
  }
}

/* The one exported symbol is the library query; the hash table's chain count is the number of symbols. */
static lrf_library_query find_query(unsigned char *base, const Elf64_Sym *symbols, const char *names,
                                    const uint32_t *hash) {
  for (uint32_t i = 0; i < hash[1]; i++)
    if (strcmp(names + symbols[i].st_name, "iree_hal_executable_library_query") == 0)
      return (lrf_library_query)(base + symbols[i].st_value);
  lrf_fail(LRF_EXIT_BROKEN, "kernel image: no library query function");
}

static lrf_library_query link_image(unsigned char *base, const Elf64_Dyn *dynamic) {
  const Elf64_Sym *symbols = NULL;
  const char *names = NULL;
  const uint32_t *hash = NULL;
  const Elf64_Rela *relocations = NULL;
  size_t relocation_bytes = 0;
  for (; dynamic->d_tag != DT_NULL; dynamic++) {
    unsigned char *address = base + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_SYMTAB) symbols = (const Elf64_Sym *)address;
    if (dynamic->d_tag == DT_STRTAB) names = (const char *)address;
    if (dynamic->d_tag == DT_HASH) hash = (const uint32_t *)address;
    if (dynamic->d_tag == DT_RELA) relocations = (const Elf64_Rela *)address;
    if (dynamic->d_tag == DT_RELASZ) relocation_bytes = dynamic->d_un.d_val;
    if (dynamic->d_tag == DT_JMPREL || dynamic->d_tag == DT_NEEDED)
      lrf_fail(LRF_EXIT_BROKEN, "kernel image: it wants symbols of other libraries");
  }
  if (!symbols || !names || !hash) lrf_fail(LRF_EXIT_BROKEN, "kernel image: no dynamic symbols");
  relocate(base, relocations, relocation_bytes / sizeof(Elf64_Rela));
  return find_query(base, symbols, names, hash);
}

lrf_library_query lrf_image_place(unsigned char *base, const unsigned char *image) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
  const Elf64_Phdr *segments = (const Elf64_Phdr *)(image + header->e_phoff);
  lrf_library_query query = NULL;
  for (unsigned i = 0; i < header->e_phnum; i++)
    if (segments[i].p_type == PT_LOAD)
      memcpy(base + segments[i].p_vaddr, image + segments[i].p_offset, segments[i].p_filesz);
  for (unsigned i = 0; i < header->e_phnum; i++)
    if (segments[i].p_type == PT_DYNAMIC) query = link_image(base, (const Elf64_Dyn *)(base + segments[i].p_vaddr));
  if (!query) lrf_fail(LRF_EXIT_BROKEN, "kernel image: no dynamic section");
  return query;
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
