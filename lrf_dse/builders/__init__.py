"""Compilers and linkers: they make files that run on the target from a model.

The modules, and what each owns:

zig         the C compiler for targets and host (clang from a wheel)
elf         what a runner and a test must know of an ELF file
iree        ONNX -> HAL IR -> .vmfb, by iree-compile
hal         HAL IR -> Schedule, by evaluation; constants, hal_operations: its parts
schedule    what one inference does, as plain values
packing     what a schedule does once at load, done at build time
host        Schedule -> C program text
linking     C program text -> static riscv64 Linux program
kernel_calls  calls of kernels in a model -> packed weights and generated C; dispatches: their place in the MLIR
importing   a model with its kernels -> MLIR text and objects
kernel_object  C of a kernel -> object that stands alone; direct: such objects -> program, without IREE
program     model -> .vmfb and program: the role Builder and its registry
stock       model -> .vmfb for the machine that this runs on, to be checked by IREE's own runtime
"""
