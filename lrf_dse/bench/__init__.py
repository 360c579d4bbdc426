"""Benchmarks that a user runs. They measure; goals and the scripts that check them are in benchmarks/.

timing     the timing model of a target against published measurements of the chip
micro      the programs for that: loops in assembly, generated
published  the measurements, by target
second_opinion  whether another simulator ranks kernels as the timing model does
"""
