"""Measurements of the tool itself: every script here is run by itself, and `make bench` runs them all.

against      our kernels against what other compilers make of the same compressed layer: IREE, Polly, plain C, dense
simulators   the timing model beside llvm-mca and rvsim, and the estimates of kernels beside the timing model
kit          what several scripts share: pages, predicted explorations, accuracy at a ratio
"""
