"""The bare-metal program: what is emitted, what is linked, and its own memory functions."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import onnx
import pytest
from builders.zoo import fully_connected

from benchmarks.simulators.bare import emit_data, link_bare_program
from lrf_dse.builders.elf import read_elf
from lrf_dse.builders.program import BuiltProgram
from lrf_dse.builders.zig import zig_cc
from lrf_dse.errors import BuildError
from lrf_dse.resources import data_dir
from lrf_dse.target import Target

RAM_START = 0x8000_0000
INPUT = bytes(range(240)) * 2


def _link(built: BuiltProgram, target: Target, work: Path, data: bytes = INPUT) -> Path:
    return link_bare_program(built.schedule, [data], target, work, title="a test")


def test_the_program_starts_where_simulators_start(
    fully_connected_program: BuiltProgram, k1: Target, work: Path
) -> None:
    elf = read_elf(_link(fully_connected_program, k1, work))
    assert elf.entry == RAM_START
    assert min(segment.vaddr for segment in elf.loads) == RAM_START
    assert not elf.undefined_symbols
    assert not elf.relocation_types


def test_the_program_holds_kernels_weights_and_inputs_once(
    fully_connected_program: BuiltProgram, k1: Target, work: Path
) -> None:
    program = _link(fully_connected_program, k1, work)
    data = program.read_bytes()
    (image,) = fully_connected_program.schedule.executables.values()
    weight = onnx.numpy_helper.to_array(fully_connected().graph.initializer[0])
    assert [data.count(part) for part in (image, weight.tobytes(), INPUT)] == [1, 1, 1]
    # The stack and the heap take no place in the file.
    assert read_elf(program).flash_bytes < len(image) + weight.nbytes + len(INPUT) + 20_000


def test_other_inputs_of_the_same_size_reach_the_program(
    fully_connected_program: BuiltProgram, k1: Target, work: Path
) -> None:
    """zig caches objects and does not see files named by .incbin: a stale one would show here."""
    first = _link(fully_connected_program, k1, work).read_bytes()
    other = INPUT[::-1]
    second = _link(fully_connected_program, k1, work, other).read_bytes()
    assert INPUT in first and other not in first
    assert other in second and INPUT not in second


def test_same_schedule_same_bytes(fully_connected_program: BuiltProgram, k1: Target, tmp_path: Path) -> None:
    programs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        programs.append(_link(fully_connected_program, k1, tmp_path / name).read_bytes())
    assert programs[0] == programs[1]


def test_inputs_of_another_size_are_refused(fully_connected_program: BuiltProgram, k1: Target, work: Path) -> None:
    with pytest.raises(BuildError, match=r"the model's inputs have \[480\] bytes, got \[4\]"):
        _link(fully_connected_program, k1, work, b"1234")


def test_the_heap_holds_every_image(fully_connected_program: BuiltProgram) -> None:
    schedule = fully_connected_program.schedule
    (image,) = schedule.executables.values()

    def heap_bytes(count: int) -> int:
        more = dataclasses.replace(schedule, executables={f"m{i}": image for i in range(count)})
        (line,) = [line for line in emit_data(more, [INPUT]).data_c.splitlines() if line.startswith("#define HEAP")]
        return int(line.split()[-1])

    one_image = heap_bytes(2) - heap_bytes(1)
    assert one_image >= len(image)
    assert one_image % 4096 == 0
    assert heap_bytes(3) == heap_bytes(2) + one_image


MEMORY_TEST = r"""
#include <stdio.h>
#include <string.h>
void *bare_memcpy(void *, const void *, size_t);
void *bare_memmove(void *, const void *, size_t);
void *bare_memset(void *, int, size_t);
int bare_memcmp(const void *, const void *, size_t);
int bare_strcmp(const char *, const char *);

static unsigned char start[256], got[256], want[256];
static int sign(int value) { return (value > 0) - (value < 0); }
static void reset(void) { memcpy(got, start, 256), memcpy(want, start, 256); }
#define EQUAL(what) if (memcmp(got, want, 256)) return printf(what " %u %u %u\n", to, from, bytes), 1

int main(void) {
  for (unsigned i = 0; i < 256; i++) start[i] = (unsigned char)(i * 7 + 1);
  for (unsigned to = 0; to < 20; to++)
    for (unsigned from = 0; from < 20; from++)
      for (unsigned bytes = 0; bytes < 90; bytes++) {
        reset();
        if (bare_memmove(got + to, got + from, bytes) != got + to) return puts("result"), 1;
        memmove(want + to, want + from, bytes);
        EQUAL("memmove");
        reset();
        bare_memcpy(got + 128 + to, got + from, bytes);
        memcpy(want + 128 + to, want + from, bytes);
        EQUAL("memcpy");
        reset();
        bare_memset(got + to, (int)(from * 300), bytes);
        memset(want + to, (int)(from * 300), bytes);
        EQUAL("memset");
        want[to + bytes / 2] ^= from & 1 ? 0x80 : 0;
        if (sign(bare_memcmp(got + to, want + to, bytes)) != sign(memcmp(got + to, want + to, bytes)))
          return printf("memcmp %u %u %u\n", to, from, bytes), 1;
      }
  const char *names[] = {"", "a", "ab", "abc", "b", "\xff", "a\xff"};
  for (int i = 0; i < 7; i++)
    for (int j = 0; j < 7; j++)
      if (sign(bare_strcmp(names[i], names[j])) != sign(strcmp(names[i], names[j]))) return puts("strcmp"), 1;
  return 0;
}
"""


def test_its_memory_functions_do_what_libc_does(k1: Target, work: Path) -> None:
    (work / "test.c").write_text(MEMORY_TEST)
    bare = data_dir("toolchain") / "bare"
    machine = ["-target", "riscv64-linux-musl", "-mcpu=generic_rv64+m+a+f+d+c", "-O2", "-fno-sanitize=all"]
    names = ("memcpy", "memmove", "memset", "memcmp", "strcmp")
    renamed = [f"-D{name}=bare_{name}" for name in names]
    zig_cc([*machine, "-fno-builtin", *renamed, "-c", str(bare / "memory.c"), "-o", "memory.o"], cwd=work)
    zig_cc([*machine, "-static", "test.c", "memory.o", "-o", "test"], cwd=work)
    done = subprocess.run(["qemu-riscv64", "test"], cwd=work, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
