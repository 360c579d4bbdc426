"""The bytes of constant attributes in HAL IR.

IREE's Python bindings do not open its `#util.composite` attribute, so its text is read: one element
a line. MLIR prints the bytes of anything large as hexadecimal, which makes this exact.
"""

from __future__ import annotations

import re
from math import prod
from typing import Any

from lrf_dse.errors import ScheduleError

# Such as dense<"0x0000803F"> : tensor<1xf32>.
_HEX = re.compile(r'dense<"0x([0-9A-Fa-f]*)">\s*:\s*(?:tensor|vector)<((?:\d+x)*)([a-z]+)(\d+)>')
_NUMPY_TYPES = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
}


def buffer_constant_bytes(ir: Any, attribute: Any) -> bytes:
    """The little-endian bytes of a dense or composite attribute; `ir` is iree.compiler.ir. Raises ScheduleError."""
    text = str(attribute)
    if not text.startswith("#util.composite"):
        return _element_bytes(ir, text)
    declared = int(re.match(r"#util\.composite<(\d+)xi8", text).group(1))  # type: ignore[union-attr]
    # One element a line; the first line has the size, the last one closes the list.
    lines = text.splitlines()[1:-1]
    data = b"".join(_element_bytes(ir, line.strip().removesuffix(",")) for line in lines)
    if len(data) != declared:
        raise ScheduleError(f"a composite constant declares {declared} bytes but holds {len(data)}")
    return data


def _element_bytes(ir: Any, text: str) -> bytes:
    match = _HEX.fullmatch(text)
    if match is None:
        return _small_element_bytes(ir, text)
    digits, dims, _, bits = match.groups()
    data = bytes.fromhex(digits)
    size = prod(int(d) for d in dims.split("x") if d) * int(bits) // 8
    # One element's bytes stand for a tensor filled with it.
    return data if len(data) == size else data * (size // len(data))


def _small_element_bytes(ir: Any, text: str) -> bytes:
    """Elements that MLIR prints as numbers, read back by its own parser."""
    import numpy as np

    try:
        attribute = ir.Attribute.parse(text)
        values = np.array(ir.DenseElementsAttr(attribute))
        element = str(ir.ShapedType(attribute.type).element_type)
    except (ir.MLIRError, ValueError, TypeError) as error:
        raise ScheduleError(f"a constant of a form that the schedule host does not know: {text[:120]}") from error
    kind = _NUMPY_TYPES.get(element)
    if kind is None:
        raise ScheduleError(f"a constant of element type {element!r} is not known: {text[:120]}")
    return values.astype(kind).tobytes()
