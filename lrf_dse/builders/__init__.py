"""Compilers and linkers: from a model to files that run on the target.

zig       the C compiler for targets and host (clang from a wheel)
elf       what a runner and a test must know of an ELF file
iree      ONNX -> HAL IR -> .vmfb, by iree-compile
schedule  HAL IR -> Schedule: what one inference does, as plain values
host      Schedule -> C program text
program   model -> .vmfb and static riscv64 program, cached by content
"""
