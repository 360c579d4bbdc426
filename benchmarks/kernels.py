"""TT kernels against every compiler on the same compressed layers, as `lrf-dse bench kernels` compares them.

    .venv/bin/python benchmarks/kernels.py [--set quick|paper|FILE] [--work FOLDER]

The set "paper" takes hours on two cores; a second run goes on where the first one ended.
"""

from __future__ import annotations

import sys

from lrf_dse.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "kernels", *sys.argv[1:]]))
