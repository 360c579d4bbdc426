"""Cross-checks of the timing model by simulators of others: llvm-mca for loops, rvsim for whole programs."""
