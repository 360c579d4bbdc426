/* The part of <elf.h> that image.c uses (System V ABI, chapters 4 and 5; RISC-V ELF psABI): there is no libc here. */
#ifndef LRF_BARE_ELF_H
#define LRF_BARE_ELF_H

#include <stdint.h>

#define ELFMAG "\177ELF"
#define SELFMAG 4
#define EM_RISCV 243
#define PT_LOAD 1
#define PT_DYNAMIC 2
#define R_RISCV_RELATIVE 3
#define ELF64_R_TYPE(info) ((info) & 0xffffffff)

enum { DT_NULL = 0, DT_NEEDED = 1, DT_HASH = 4, DT_STRTAB = 5, DT_SYMTAB = 6, DT_RELA = 7, DT_RELASZ = 8, DT_JMPREL = 23 };

typedef struct {
  unsigned char e_ident[16];
  uint16_t e_type, e_machine;
  uint32_t e_version;
  uint64_t e_entry, e_phoff, e_shoff;
  uint32_t e_flags;
  uint16_t e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
} Elf64_Ehdr;

typedef struct {
  uint32_t p_type, p_flags;
  uint64_t p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
} Elf64_Phdr;

typedef struct {
  int64_t d_tag;
  union {
    uint64_t d_val, d_ptr;
  } d_un;
} Elf64_Dyn;

typedef struct {
  uint32_t st_name;
  unsigned char st_info, st_other;
  uint16_t st_shndx;
  uint64_t st_value, st_size;
} Elf64_Sym;

typedef struct {
  uint64_t r_offset, r_info;
  int64_t r_addend;
} Elf64_Rela;

#endif
