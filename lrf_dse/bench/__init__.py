"""Benchmarks that a user runs. They measure; goals and the scripts that check them are in benchmarks/.

timing     the timing model of a target against published measurements of the chip
micro      the programs for that: loops in assembly, generated
published  the measurements, by target
llvm       llvm-objdump and llvm-mca, as processes
loops      innermost loops of compiled kernels
placing    a microbenchmark of such a loop
operations which operation an instruction is to the timing model, and what LLVM charges for it
mca        the timing model against llvm-mca on those loops
sample     small layers in every form
page       tables in pages of docs/
second_opinion  whether another simulator ranks kernels as the timing model does
"""
