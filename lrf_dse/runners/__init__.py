"""Run a program for a target, check its numbers, then measure.

job       what to run and what to expect: a frozen value
runner    the one-method Protocol and the registry RUNNERS
qemu      qemu-riscv64 with the counting plugin
plugin    builds QEMU plugins from toolchain/plugin/ on first use
verify    compares outputs with an independent reference
"""
