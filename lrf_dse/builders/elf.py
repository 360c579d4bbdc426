"""What a runner and a test must know of an ELF file, read from its program headers.

The module owns the reading of 64-bit little-endian ELF: loadable segments, dynamic relocations, undefined dynamic
symbols. It trusts only what a loader uses (program headers and the dynamic section), never the section
headers, which a stripped file lacks. It changes nothing and knows no instruction.

Source: System V ABI, chapters 4 and 5; RISC-V ELF psABI, "Relocations" for the numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lrf_dse.errors import BuildError

EM_RISCV = 243
R_RISCV_RELATIVE = 3
PT_LOAD, PT_DYNAMIC = 1, 2

# System V ABI, chapter 5, "Dynamic Section"; DT_RELR and its sizes are of its later edition, DT_GNU_HASH is GNU's.
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ = 4, 5, 6, 7, 8
_DT_RELSZ, _DT_PLTRELSZ, _DT_JMPREL, _DT_RELRSZ, _DT_RELR = 18, 2, 23, 35, 36
_DT_GNU_HASH = 0x6FFFFEF5
_RELA = struct.Struct("<QQq")
_SYMBOL = struct.Struct("<IBBHQQ")
_WORD = struct.Struct("<Q")
_HASH_START = struct.Struct("<II")
_SHN_UNDEF = 0


@dataclass(frozen=True)
class Segment:
    """One program header; the fields are those of Elf64_Phdr without the physical address."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int


@dataclass(frozen=True)
class Elf:
    """An ELF file as a loader sees it.

    `relocation_types` holds the number of every dynamic relocation, one entry each (R_RISCV_RELATIVE
    for the ones packed into DT_RELR); `undefined_symbols` the names that a loader would have to find.
    """

    machine: int
    entry: int
    segments: tuple[Segment, ...]
    relocation_types: tuple[int, ...]
    undefined_symbols: tuple[str, ...]

    @property
    def loads(self) -> tuple[Segment, ...]:
        """The PT_LOAD segments, in file order."""
        return tuple(segment for segment in self.segments if segment.type == PT_LOAD)

    @property
    def flash_bytes(self) -> int:
        """Bytes that must be stored to load the file: code, constants and initialised data (sum of p_filesz)."""
        return sum(segment.filesz for segment in self.loads)


def read_elf(path: Path) -> Elf:
    """The ELF file at `path`. Raises BuildError if it is not a complete 64-bit little-endian ELF file."""
    return parse_elf(path.read_bytes(), str(path))


def parse_elf(data: bytes, name: str = "(bytes)") -> Elf:
    """The ELF file held in `data`; `name` is for the message of the BuildError."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise BuildError(f"{name}: not a 64-bit little-endian ELF file")
    try:
        machine, entry, segments = _header(data)
        memory = _Image(data, segments)
        dynamic = _dynamic(data, segments)
        relocations = tuple(_relocations(memory, dynamic))
        symbols = _undefined_symbols(memory, dynamic, relocations)
        return Elf(machine, entry, segments, tuple(kind for kind, _ in relocations), symbols)
    except struct.error as error:
        raise BuildError(f"{name}: truncated or damaged ELF file: {error}") from error
    except KeyError as error:
        raise BuildError(f"{name}: damaged ELF file: its dynamic section lacks tag {error}") from error


@dataclass(frozen=True)
class _Image:
    """The file addressed by virtual address. Reads past the file raise struct.error, as unpacking does."""

    data: bytes
    segments: tuple[Segment, ...]

    def unpack(self, layout: struct.Struct, vaddr: int) -> tuple[int, ...]:
        values: tuple[int, ...] = layout.unpack_from(self.data, self.offset(vaddr))
        return values

    def text(self, vaddr: int) -> str:
        start = self.offset(vaddr)
        end = self.data.find(b"\0", start)
        if end < 0:
            raise struct.error("unterminated name")
        return self.data[start:end].decode("ascii", "replace")

    def offset(self, vaddr: int) -> int:
        for segment in self.segments:
            if segment.type == PT_LOAD and segment.vaddr <= vaddr < segment.vaddr + segment.filesz:
                return segment.offset + vaddr - segment.vaddr
        raise struct.error(f"address {vaddr:#x} is in no segment")


def _header(data: bytes) -> tuple[int, int, tuple[Segment, ...]]:
    """Machine, entry point and program headers; a segment that ends past the file raises struct.error."""
    # Elf64_Ehdr: e_machine at byte 18, then e_version (skipped), e_entry, e_phoff; e_phentsize and e_phnum at 54.
    machine, entry, table = struct.unpack_from("<H4xQQ", data, 18)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    segments = []
    for index in range(count):
        kind, flags, offset, vaddr, _, filesz, memsz, align = struct.unpack_from(
            "<IIQQQQQQ", data, table + index * entry_size
        )
        if kind == PT_LOAD and offset + filesz > len(data):
            raise struct.error(f"segment {index} ends at {offset + filesz}, the file at {len(data)}")
        segments.append(Segment(kind, flags, offset, vaddr, filesz, memsz, align))
    return machine, entry, tuple(segments)


def _dynamic(data: bytes, segments: tuple[Segment, ...]) -> Mapping[int, int]:
    """The dynamic section as {tag: value}; empty for a static executable."""
    entries: dict[int, int] = {}
    for segment in segments:
        if segment.type != PT_DYNAMIC:
            continue
        # An entry is a tag and a value of 8 bytes each; the tag 0 (DT_NULL) ends the table.
        for offset in range(segment.offset, segment.offset + segment.filesz, 16):
            tag, value = struct.unpack_from("<QQ", data, offset)
            if tag == 0:
                break
            entries[tag] = value
    return entries


def _relocations(memory: _Image, dynamic: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """(type, symbol index) of every dynamic relocation; index 0 is no symbol."""
    if dynamic.get(_DT_RELSZ):
        raise struct.error("relocations without addends (DT_REL), which RISC-V does not use")
    for table, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
        for offset in range(0, dynamic.get(size, 0), _RELA.size):
            info = memory.unpack(_RELA, dynamic[table] + offset)[1]
            # r_info: the type in the lower half, the symbol in the upper one.
            yield info & 0xFFFFFFFF, info >> 32
    # DT_RELR: an even word relocates one address, an odd word is a bitmap of the 63 addresses that follow.
    for offset in range(0, dynamic.get(_DT_RELRSZ, 0), _WORD.size):
        word = memory.unpack(_WORD, dynamic[_DT_RELR] + offset)[0]
        yield from [(R_RISCV_RELATIVE, 0)] * ((word >> 1).bit_count() if word & 1 else 1)


def _undefined_symbols(
    memory: _Image, dynamic: Mapping[int, int], relocations: tuple[tuple[int, int], ...]
) -> tuple[str, ...]:
    if _DT_SYMTAB not in dynamic:
        return ()
    # The loader's tables give no count. DT_HASH covers all symbols (second word). DT_GNU_HASH covers the
    # defined ones and says where they start (second word); undefined ones come before, but for functions
    # whose address is taken, and those have a relocation.
    hash_table = dynamic[_DT_HASH if _DT_HASH in dynamic else _DT_GNU_HASH]
    count = max([memory.unpack(_HASH_START, hash_table)[1], *(index + 1 for _, index in relocations)])
    names = []
    # Symbol 0 is reserved and stands for none.
    for symbol in range(1, count):
        name, _, _, section, _, _ = memory.unpack(_SYMBOL, dynamic[_DT_SYMTAB] + symbol * _SYMBOL.size)
        if section == _SHN_UNDEF:
            names.append(memory.text(dynamic[_DT_STRTAB] + name))
    return tuple(names)
