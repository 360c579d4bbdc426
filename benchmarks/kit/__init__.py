"""What several benchmarks share: sections of pages, explorations by predictions alone, accuracy at a ratio."""
