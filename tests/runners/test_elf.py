"""Reading ELF files: real ones from zig, hand-made ones, and damaged ones."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_dse.builders.elf import EM_RISCV, PT_DYNAMIC, PT_LOAD, R_RISCV_RELATIVE, Segment, parse_elf, read_elf
from lrf_dse.builders.zig import zig_cc
from lrf_dse.errors import BuildError

R_RISCV_64, R_RISCV_JUMP_SLOT = 2, 5
SHARED = ["-target", "riscv64-linux-musl", "-mcpu=generic_rv64+m+a+f+d+c", "-O1", "-fPIC", "-shared", "-nostdlib"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three shared objects: `closed` is complete, `open*` need `missing` (two kinds of hash table)."""
    folder = tmp_path_factory.mktemp("elf")
    pointers = "static const int v[2] = {1, 2};\nconst int *const table[3] = {&v[0], &v[1], &v[1]};\n"
    (folder / "closed.c").write_text(f"{pointers}int f(int i) {{ return *table[i]; }}\n")
    missing = "extern int missing(int);\nint (*keep)(int) = missing;\nint f(int i) { return missing(i); }\n"
    (folder / "open.c").write_text(pointers + missing)
    zig_cc([*SHARED, "-Wl,--hash-style=sysv", "closed.c", "-o", "closed.so"], cwd=folder)
    for style in ("sysv", "gnu"):
        zig_cc([*SHARED, f"-Wl,--hash-style={style}", "open.c", "-o", f"open-{style}.so"], cwd=folder)
    return folder


def test_a_static_program(probe: Path) -> None:
    elf = read_elf(probe)
    assert elf.machine == EM_RISCV
    assert elf.relocation_types == () and elf.undefined_symbols == ()
    assert any(segment.vaddr <= elf.entry < segment.vaddr + segment.memsz for segment in elf.loads)
    assert all(segment.align >= 1 and segment.memsz >= segment.filesz for segment in elf.loads)


def test_a_closed_shared_object_has_relative_relocations_only(shared: Path) -> None:
    elf = read_elf(shared / "closed.so")
    assert elf.undefined_symbols == ()
    assert elf.relocation_types.count(R_RISCV_RELATIVE) == 3
    assert any(segment.type == PT_DYNAMIC for segment in elf.segments)


@pytest.mark.parametrize("style", ["sysv", "gnu"])
def test_an_undefined_symbol_and_its_relocations_are_seen(style: str, shared: Path) -> None:
    elf = read_elf(shared / f"open-{style}.so")
    assert elf.undefined_symbols == ("missing",)
    assert R_RISCV_64 in elf.relocation_types
    assert R_RISCV_JUMP_SLOT in elf.relocation_types
    assert elf.relocation_types.count(R_RISCV_RELATIVE) == 3


def test_flash_bytes_are_the_bytes_stored_for_loading() -> None:
    """Not the zeros that memory gets on top, and no segment that is not loaded."""
    elf = parse_elf(_elf(_header(PT_LOAD, 0, 300, 4096), _header(PT_LOAD, 300, 20, 20), _header(4, 0, 50, 50)))
    assert elf.flash_bytes == 320
    assert elf.loads == (Segment(PT_LOAD, 5, 0, 0, 300, 4096, 8), Segment(PT_LOAD, 5, 300, 300, 20, 20, 8))


def test_packed_relative_relocations_are_counted() -> None:
    """DT_RELR: one address, then a bitmap with three bits (and the marker bit)."""
    relr = struct.pack("<QQ", 0x1000, 0b1011 << 1 | 1)
    dynamic = struct.pack("<6Q", 36, 400, 35, len(relr), 0, 0)
    data = _elf(_header(PT_LOAD, 0, 600, 600), _header(PT_DYNAMIC, 500, len(dynamic), len(dynamic)))
    data = data[:400] + relr + data[400 + len(relr) : 500] + dynamic + data[500 + len(dynamic) :]
    assert parse_elf(data).relocation_types == (R_RISCV_RELATIVE,) * 4


def _header(kind: int, offset: int, filesz: int, memsz: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, 5, offset, offset, 0, filesz, memsz, 8)


def _elf(*headers: bytes) -> bytes:
    start = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    start += struct.pack("<HHIQQQIHHHHHH", 3, EM_RISCV, 1, 0, 64, 0, 0, 64, 56, len(headers), 0, 0, 0)
    return (start + b"".join(headers)).ljust(600, b"\0")


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(64), b"#!/bin/sh\n"])
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(BuildError, match="file: not a 64-bit little-endian ELF file"):
        read_elf(tmp_path / "file")


@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else(data: st.DataObject, shared: Path) -> None:
    whole = (shared / "open-gnu.so").read_bytes()
    at = data.draw(st.integers(6, len(whole) - 1))
    cut = data.draw(st.booleans())
    damaged = whole[:at] if cut else whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at + 8 :]
    with contextlib.suppress(BuildError):  # any other exception fails the test
        parse_elf(damaged, "damaged")


def test_a_file_cut_inside_a_segment_is_refused(shared: Path) -> None:
    whole = (shared / "closed.so").read_bytes()
    end = max(segment.offset + segment.filesz for segment in parse_elf(whole).loads)
    assert parse_elf(whole[:end]) == parse_elf(whole), "section headers are not needed"
    with pytest.raises(BuildError, match="truncated or damaged ELF file: segment"):
        parse_elf(whole[: end - 1])
