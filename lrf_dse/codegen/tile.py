"""A tile as a value: C [rows, one vector] = sum over k of scalars [rows] times one vector. Owns no text."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from lrf_dse.codegen.spec import Activation

VECTOR_REGISTERS = 32
FEWEST_BUFFERS, MOST_BUFFERS = 2, 4
MOST_POINTERS, POINTER_REACH = 8, 400
"""Pointers to scalars, and how many floats beyond one a scalar of the first step may lie: a load reaches 511."""
# 2047 bytes, the largest offset of a load (12 bits, signed), in floats.
LOAD_REACH = 511
"""Floats beyond its pointer that a load reaches."""
LOOP_INSTRUCTIONS = 34
"""Multiply-adds and loads of a loop with the longer ring, at most."""


@dataclass(frozen=True)
class Finish:
    """What happens to a sum before it is stored, on the layer's last stage."""

    has_bias: bool
    activation: Activation | None


@dataclass(frozen=True)
class Tile:
    """One tile. Offsets and steps are in floats, from the pointers that its function gets.

    Scalar i of step k is at scalars[i] + k scalar_step, the step's vector at k vector_step; sum i goes to outputs[i],
    its elements out_stride apart, and its bias is at biases[i]. With `partial`, sums of earlier slices of K are added.
    With `half`, scalars and vectors are of half precision; sums are single, and in the end multiplied by a factor and,
    with `scaled`, by a vector of scales. `repeats` tiles follow each other, scalars `next_scalars`, vectors
    `next_vectors`, sums `next_outputs` further on.
    """

    lmul: int
    k: int
    scalars: tuple[int, ...]
    scalar_step: int
    vector_step: int
    outputs: tuple[int, ...]
    out_stride: int
    biases: tuple[int, ...] = ()
    finish: Finish | None = None
    partial: bool = False
    half: bool = False
    scaled: bool = False
    repeats: int = 1
    next_scalars: int = 0
    next_vectors: int = 0
    next_outputs: int = 0

    def __post_init__(self) -> None:
        # Every sum and every vector of the ring takes `lmul` registers of the 32.
        if (self.rows + FEWEST_BUFFERS) * self.lmul > VECTOR_REGISTERS:
            raise ValueError(f"{self.rows} sums of {self.lmul} registers leave none of {VECTOR_REGISTERS} to load into")

    @property
    def rows(self) -> int:
        """Sums at a time."""
        return len(self.scalars)

    @cached_property
    def pointers(self) -> dict[str, int]:
        """Pointers to scalars, by name with their offsets from `a`; beyond the last one the compiler adds."""
        pointers = {"a": 0}
        for offset in sorted(self.scalars) if max(self.scalars) > POINTER_REACH else ():
            if len(pointers) < MOST_POINTERS and offset - max(pointers.values()) > POINTER_REACH:
                pointers[f"a{len(pointers)}"] = offset
        return pointers

    @cached_property
    def far_scalars(self) -> int:
        """Scalars that no pointer reaches in the last step of a turn: the compiler adds for each load of them."""
        last = (self.buffers - 1) * self.scalar_step
        bases = sorted(self.pointers.values())
        return sum(offset - bases[bisect_right(bases, offset) - 1] + last > LOAD_REACH for offset in self.scalars)

    def pointer_of(self, row: int) -> str:
        """The pointer that scalar `row` is loaded from."""
        return max(
            (name for name, base in self.pointers.items() if base <= self.scalars[row]), key=self.pointers.__getitem__
        )

    @property
    def can_repeat(self) -> bool:
        """Whether tiles can run on into each other: the ring of vectors comes round with the end of the sum."""
        return not self.finishes and self.k % self.buffers == 0 and self.k >= 2 * self.buffers

    @property
    def finishes(self) -> bool:
        """Whether more is done with a sum than to store it."""
        return self.partial or self.half or self.finish is not None

    @property
    def kind(self) -> str:
        """The C type of scalars and of what is in vectors."""
        return "unsigned short" if self.half else "float"

    @property
    def element_bytes(self) -> int:
        """Bytes of one of them."""
        return 2 if self.half else 4

    @property
    def buffers(self) -> int:
        """Register groups in the ring of vectors, which are also the steps of k in one turn of the loop.

        A longer ring loads earlier, but the loop must stay short. Powers of two, which divide most sums.
        """
        # Vectors of `lmul` registers that the sums leave free.
        free = VECTOR_REGISTERS // self.lmul - self.rows
        return MOST_BUFFERS if free >= MOST_BUFFERS and self._fits(MOST_BUFFERS) else FEWEST_BUFFERS

    def _fits(self, buffers: int) -> bool:
        # Of each step a multiply-add and a scalar's load for each row, and one vector's load.
        return buffers * (2 * self.rows + 1) <= LOOP_INSTRUCTIONS

    def sum_register(self, row: int) -> str:
        """The register of a sum, the first of its group."""
        return f"v{row * self.lmul}"

    def vector_register(self, step: int) -> str:
        """The register that the vector of a step is loaded into: those after the sums, in turn."""
        return f"v{(self.rows + step % self.buffers) * self.lmul}"
