"""Compile the C of a kernel into an object that stands alone: what a program or a .vmfb can link.

Such code may call nothing and own no data that needs relocation at load: IREE's ELF loader resolves no symbols, and a
call of memcpy that the compiler put in would crash there. The module owns the compiler's flags for kernels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from lrf_dse.builders.zig import zig_cc
from lrf_dse.errors import BuildError
from lrf_dse.target import Target

# With default visibility a call inside the object goes through a PLT slot, which IREE's loader does not relocate.
# -ffreestanding keeps most calls of libc out; undefined_symbols finds the others.
KERNEL_FLAGS = ("-O3", "-ffreestanding", "-fPIC", "-fvisibility=hidden")

_NO_VECTORS_OF_ITS_OWN = ("-fno-vectorize", "-fno-slp-vectorize")
"""The compiler must not use registers that hold vectors of the kernel."""

# System V ABI, chapter 4: section types, the undefined section, executable sections; Elf64_Shdr and Elf64_Sym.
_SHT_SYMTAB, _SHN_UNDEF, _SHF_EXECINSTR = 2, 0, 4
_VSET_MASK, _VSET = 0x0000_707F, 0x0000_7057
_VSETVLI_MASK, _VSETVLI = 0xFC00_0F80 | _VSET_MASK, 0x0C00_7057
"""RVV 1.0, 6.1: vsetvli x0, rs1, any element width and number of registers, ta, ma."""
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


def machine_flags(target: Target | None) -> list[str]:
    """The options of zig cc that make it emit code for the target; None stands for the machine that this runs on.

    The core to schedule for goes past zig: its own -mtune means -mcpu, and would bring in extensions that QEMU lacks.
    """
    if target is None:
        return []
    tune = ["-Xclang", "-tune-cpu", "-Xclang", target.cc.tune] if target.cc.tune else []
    return ["-target", "riscv64-linux-musl", f"-mcpu={target.cc.mcpu}", "-mcmodel=medany", *tune]


def compile_kernel(
    source: str, target: Target | None, work_dir: Path, *, name: str, flags: Sequence[str] = KERNEL_FLAGS
) -> Path:
    """Write `source` as NAME.c into `work_dir` and compile it; the path of NAME.o.

    Raises BuildError, also if the object needs a symbol from elsewhere.
    """
    path = work_dir.resolve() / f"{name}.c"
    try:
        path.write_text(source, encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from error
    # Names and not paths: the object holds its source's name, and must be the same in every folder.
    warnings = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
    built = path.with_suffix(".o")
    zig_cc(
        [*machine_flags(target), *warnings, *flags, "-fno-sanitize=all", "-g0", "-c", path.name, "-o", built.name],
        cwd=work_dir,
    )
    if missing := undefined_symbols(built.read_bytes()):
        raise BuildError(f"{path}: the compiled kernel needs {', '.join(missing)} from elsewhere")
    return built


def compile_generated(source: str, target: Target | None, work_dir: Path, *, name: str) -> Path:
    """`compile_kernel` for text of `lrf_dse.codegen`, which sets vector lengths itself and never asks for them.

    Raises BuildError, also if the compiler added a setting of its own, to move or spill a vector: it would hold for all
    that follows, which then computes something else.
    """
    built = compile_kernel(source, target, work_dir, name=name, flags=(*KERNEL_FLAGS, *_NO_VECTORS_OF_ITS_OWN))
    if target is not None and (foreign := foreign_vector_settings(built.read_bytes())):
        raise BuildError(f"{built}: the compiler put {foreign} vset instructions between those of the kernel")
    return built


def foreign_vector_settings(data: bytes) -> int:
    """How many instructions of a RISC-V object set vector type and length in another way than generated kernels do."""
    foreign = 0
    for _, flags, offset, size, _ in _sections(data):
        position, end = offset, offset + size if flags & _SHF_EXECINSTR else offset
        while position < end:
            word = int.from_bytes(data[position : position + 4], "little")
            # The lowest two bits are 11 in an instruction of 4 bytes; all others are compressed (2 bytes).
            position += 4 if word & 3 == 3 else 2
            foreign += word & _VSET_MASK == _VSET and word & _VSETVLI_MASK != _VSETVLI
    return foreign


def undefined_symbols(data: bytes) -> list[str]:
    """The names that the relocatable ELF object `data` leaves for the linker to find, sorted."""
    names = set()
    sections = list(_sections(data))
    for kind, _, offset, size, link in sections:
        if kind != _SHT_SYMTAB:
            continue
        strings = sections[link][2]
        for name, _, _, section, _, _ in _SYMBOL.iter_unpack(data[offset : offset + size]):
            if section == _SHN_UNDEF and name:
                start = strings + name
                names.add(data[start : data.index(b"\0", start)].decode("ascii", "replace"))
    return sorted(names)


def _sections(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(type, flags, offset, size, link) of every section."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise BuildError("not a 64-bit little-endian ELF object")
    # Elf64_Ehdr: e_shoff at byte 40; e_shentsize and e_shnum at 58.
    (table,) = struct.unpack_from("<Q", data, 40)
    entry_size, count = struct.unpack_from("<HH", data, 58)
    for index in range(count):
        _, kind, flags, _, offset, size, link, _, _, _ = _SECTION.unpack_from(data, table + index * entry_size)
        yield kind, flags, offset, size, link
