"""The text of a dozen small kernels, kept beside the tests: a change of the generator shows in review.

Macros that all kernels share are left out: they stand as they are in the sources of the generator.

`python tests/codegen/test_golden.py` writes them anew.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lrf_dse.codegen import Activation, KernelSpec, default_schedule, emit
from lrf_dse.schema import Storage, TTShape
from lrf_dse.target import load_target

GOLDEN = Path(__file__).with_name("golden")


def kernel(
    shape: TTShape | None, sizes: tuple[int, int] = (0, 0), batch: int = 1, storage: Storage = "fp32"
) -> KernelSpec:
    """A kernel with a bias; `sizes` are out and in features of the dense layer."""
    out_features, in_features = sizes if shape is None else (shape.out_features, shape.in_features)
    cores = 1 if shape is None else len(shape.out_dims)
    return KernelSpec(shape, out_features, in_features, batch, has_bias=True, storages=(storage,) * cores)


def low_rank(rank: int) -> TTShape:
    return TTShape((40, 1), (1, 64), (1, rank, 1))


TT2, TT3 = TTShape((8, 4), (4, 8), (1, 8, 1)), TTShape((4, 3, 2), (2, 3, 4), (1, 4, 4, 1))
TT4 = TTShape((4, 2, 2, 2), (2, 2, 2, 4), (1, 4, 5, 4, 1))
MONARCH = TTShape((4, 6), (3, 5), (1, 2, 1), "monarch")

KERNELS = {
    "dense": ("spacemit-k1", kernel(None, (24, 40))),
    "dense-batch4": ("spacemit-k1", kernel(None, (24, 40), batch=4)),
    "dense-int8": ("spacemit-k1", kernel(None, (24, 64), storage="int8")),
    "dense-int4-batch16": ("spacemit-k1", kernel(None, (64, 128), batch=16, storage="int4")),
    "low-rank": ("spacemit-k1", kernel(low_rank(8))),
    "low-rank-fp16": ("spacemit-k1", kernel(low_rank(8), storage="fp16")),
    "low-rank-int4": ("spacemit-k1", kernel(low_rank(32), storage="int4")),
    "low-rank-vlen128": ("canaan-k230", kernel(low_rank(8))),
    "tt2": ("spacemit-k1", kernel(TT2)),
    "tt2-int8": ("spacemit-k1", kernel(TT2, storage="int8")),
    "tt2-scalar": ("starfive-jh7110", kernel(TT2)),
    "tt3": ("spacemit-k1", kernel(TT3)),
    "tt4-batch3": ("spacemit-k1", kernel(TT4, batch=3)),
    "monarch": ("spacemit-k1", kernel(MONARCH)),
    "dense-threads": ("spacemit-k1", replace(kernel(None, (24, 40)), threads=3)),
    "dense-relu6": ("spacemit-k1", replace(kernel(None, (24, 40)), activation=Activation(0.0, 6.0))),
    "tt2-scalar-int4": ("starfive-jh7110", kernel(TT2, storage="int4")),
}


def text_of(name: str) -> str:
    target, spec = KERNELS[name]
    chip = load_target(target)
    return without_macros(emit(spec, default_schedule(spec, chip), chip, name="kernel").source)


def without_macros(text: str) -> str:
    """`text` without what stands from the first #include to the end of the last #define."""
    lines = text.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith("#include"))
    last = max(i for i, line in enumerate(lines) if line.startswith("#define"))
    while lines[last].endswith("\\\n"):
        last += 1
    return "".join([*lines[:first], "/* ... */\n", *lines[last + 1 :]])


@pytest.mark.parametrize("name", KERNELS)
def test_the_text_is_as_it_was(name: str) -> None:
    assert text_of(name) == (GOLDEN / f"{name}.c").read_text(encoding="utf-8")


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == KERNELS.keys()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for one in KERNELS:
        (GOLDEN / f"{one}.c").write_text(text_of(one), encoding="utf-8")
