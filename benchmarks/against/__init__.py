"""TT, low-rank and dense kernels against every compiler that a user could pick, on the same layers and data."""
