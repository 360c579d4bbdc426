"""Panels of a matrix as bytes: in single precision, in half precision, or as codes with their scales.

Owns the format of one panel: rows x K elements of A, in one of two orders.

    k by k       (vectors along rows, streams)  for every k the panel's rows, up to its width
    row by row   (scalars from A)               for every row all its k

    fp32, fp16   the values
    int8         the codes + 128 as bytes; then a fp32 scale for each row
    int4         the codes + 8, two to a byte: row by row the two stand as far apart as half a group, so that both
                 halves of a group are widened as one vector each. The fp16 scales of the rows follow the codes of every
                 group (k by k), or all codes (row by row)

K by k, two neighbours along K of int8 and four of int4 are one word of 16 bits, the first in its lowest bits: masks and
shifts then make numbers in half precision of them, without an instruction that changes the width of elements (one that
does takes twice as long on X60). What is left along K, at most half of a word, is a byte for each row.

What is added to the codes makes them unsigned: zero extension is all that it takes to make a half precision number
(a subnormal one) of a code, and two instructions make a single precision one. Unused rows have code and scale 0. Codes
and scales end at a multiple of four bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrf_dse.schema import Storage
from lrf_dse.tt.grid import GROUP, Stored

OFFSETS: dict[Storage, int] = {"int8": 128, "int4": 8}
"""What is added to a code."""

ELEMENT_BITS: dict[Storage, int] = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}

PER_WORD: dict[Storage, int] = {"int8": 2, "int4": 4}
"""Neighbours along K that are one word of 16 bits where a panel lies k by k."""

Bytes = NDArray[np.uint8]


def groups_of(k: int) -> list[int]:
    """The sizes of the groups of `k` elements along K.

    >>> groups_of(70)
    [32, 32, 6]
    """
    return [min(GROUP, k - first) for first in range(0, k, GROUP)]


def code_bytes(storage: Storage, k: int, width: int) -> int:
    """Bytes of `k` x `width` elements, of int4 within one group, up to a multiple of four."""
    size = -(-k // 2) * width if storage == "int4" else k * width * ELEMENT_BITS[storage] // 8
    return _whole(size)


def scale_bytes(storage: Storage, width: int) -> int:
    """Bytes of one scale for each of `width` rows, up to a multiple of four."""
    return {"int8": 4 * width, "int4": _whole(2 * width)}.get(storage, 0)


def panel_bytes(storage: Storage, k: int, width: int, *, by_rows: bool) -> int:
    """Bytes of one panel."""
    if storage != "int4":
        return code_bytes(storage, k, width) + scale_bytes(storage, width)
    if by_rows:
        return width * row_bytes(storage, k) + _whole(2 * width * len(groups_of(k)))
    return sum(code_bytes(storage, size, width) for size in groups_of(k)) + len(groups_of(k)) * scale_bytes(
        storage, width
    )


def row_bytes(storage: Storage, k: int) -> int:
    """Bytes of the codes of one row, where rows lie one by one, up to a multiple of four for int4."""
    return _whole(-(-k // 2)) if storage == "int4" else k * ELEMENT_BITS[storage] // 8


def panel_of(stored: Stored, rows: slice, ks: NDArray[np.intp], width: int, *, by_rows: bool) -> Bytes:
    """The bytes of the panel of `rows` and the elements `ks` along K, whole groups of int4 in their order."""
    storage = stored.storage
    codes = stored.codes[rows][:, ks]
    if storage in ("fp32", "fp16"):
        # RISC-V is little-endian; the machine that packs need not be.
        kind = np.dtype(np.float32 if storage == "fp32" else np.float16).newbyteorder("<")
        return _padded(_filled(codes.astype(kind), width, by_rows=by_rows).tobytes())
    assert stored.scales is not None
    # In int16, as the sum of a code and its offset does not fit int8.
    unsigned = (codes.astype(np.int16) + OFFSETS[storage]).astype(np.uint8)
    if storage == "int8":
        scales = np.zeros(width, "<f4")
        scales[: len(codes)] = stored.scales[rows, 0]
        filled = _filled(unsigned, width, by_rows=by_rows, unused=OFFSETS[storage])
        data = filled.tobytes() if by_rows else _words(filled)
        return np.concatenate([_padded(data), np.frombuffer(scales.tobytes(), np.uint8)])
    # Slices of K hold whole groups, so the first element says which group comes first.
    first = int(ks[0]) // GROUP
    halves = np.zeros((width, len(groups_of(len(ks)))), "<f2")
    halves[: len(codes)] = stored.scales[rows, first : first + halves.shape[1]]
    return _rows_of_nibbles(unsigned, halves) if by_rows else _panel_of_nibbles(unsigned, halves)


def _filled(codes: NDArray[np.generic], width: int, *, by_rows: bool, unused: int = 0) -> NDArray[np.generic]:
    """Codes [rows, k] in the panel's order, `width` rows."""
    if by_rows:
        return codes
    # The unused rows hold the offset, so that they are 0 once it is taken off.
    filled = np.full((codes.shape[1], width), unused, codes.dtype)
    filled[:, : len(codes)] = codes.T
    return filled


def _words(filled: NDArray[np.generic]) -> bytes:
    """Bytes [n, width], neighbours along n side by side, and a last one by itself."""
    pairs, width = len(filled) // 2, filled.shape[1]
    together = filled[: 2 * pairs].reshape(pairs, 2, width).transpose(0, 2, 1)
    return together.tobytes() + filled[2 * pairs :].tobytes()


def _panel_of_nibbles(codes: Bytes, scales: NDArray[np.float16]) -> Bytes:
    """Group after group: neighbours along K in one word, for all rows; then the scales of the rows."""
    parts, width = [], len(scales)
    for group, size in enumerate(groups_of(codes.shape[1])):
        wide = np.full((2 * -(-size // 2), width), OFFSETS["int4"], np.uint8)
        wide[:size, : len(codes)] = codes[:, group * GROUP : group * GROUP + size].T
        parts += [_padded(_words(wide[::2] | wide[1::2] << 4)), _padded(scales[:, group].tobytes())]
    return np.concatenate(parts)


def _rows_of_nibbles(codes: Bytes, scales: NDArray[np.float16]) -> Bytes:
    """Row after row: in each group the first half in the low nibbles, the second in the high ones; then all scales."""
    parts = []
    for row in codes:
        line = []
        for group, size in enumerate(groups_of(len(row))):
            half = -(-size // 2)
            wide = np.full(2 * half, OFFSETS["int4"], np.uint8)
            wide[:size] = row[group * GROUP : group * GROUP + size]
            line.append((wide[:half] | wide[half:] << 4).tobytes())
        parts.append(_padded(b"".join(line)))
    return np.concatenate([*parts, _padded(scales.tobytes())])


def _padded(data: bytes) -> Bytes:
    # A panel is read as 32-bit words as well.
    return np.frombuffer(data + bytes(-len(data) % 4), np.uint8)


def _whole(size: int) -> int:
    return -(-size // 4) * 4
