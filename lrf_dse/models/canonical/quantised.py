"""Quantised models computed in float32: what integers stand for takes their place, and rounding on the way goes.

    weights        DequantizeLinear of a constant is folded (`folding`); MatMulNBits is unpacked
    activations    QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear pass their operand on
    operations     QLinearMatMul, QGemm, MatMulInteger, ... become MatMul, Gemm and Conv of what the integers stand for

The result is the network that was quantised, as far as its weights still say: a plan has its own storage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.models.canonical.emit import Emitter
from lrf_dse.models.canonical.integers import along, floats_of, unpacked, within
from lrf_dse.models.constants import resolve

if TYPE_CHECKING:
    import onnx_ir as ir


def dequantise(graph: ir.Graph) -> bool:
    """Write the quantised operations of `graph` in float32; whether there was one."""
    changed = False
    for node in list(graph):
        expand = _EXPANSIONS.get(node.op_type)
        if expand is None or node.graph is not graph:
            continue
        emit = Emitter(node)
        results = expand(emit, node)
        if results is not None:
            emit.replace(*results)
            changed = True
    return changed


def _quantize(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """An activation is passed on, within the range that its integers have; a constant is left to folding."""
    if resolve(node.inputs[0]) is not None:
        return None
    scale, zero = (*node.inputs[1:3], None)[:2]
    return [within(emit, node.inputs[0], scale, zero)]


def _dequantize(_: Emitter, node: ir.Node) -> list[Any] | None:
    """What was an activation before it was quantised is a float already; real integers stay."""
    value = node.inputs[0]
    if value is None or resolve(value) is not None:
        return None
    return [value] if _is_float(value) else None


def _is_float(value: ir.Value) -> bool:
    """Whether `value` comes, through operations that only move elements, from an activation that was passed on."""
    moves = (
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "MaxPool",
        "Slice",
        "Gather",
        "Concat",
        "Identity",
    )
    while value.dtype is None or not value.dtype.is_floating_point():
        producer = value.producer()
        if producer is None or not producer.inputs or producer.inputs[0] is None:
            return False
        if producer.op_type not in moves:
            return producer.op_type in _FLOAT_NOW
        value = producer.inputs[0]
    return True


_FLOAT_NOW = (
    "MatMul",
    "Gemm",
    "Conv",
    "Add",
    "Mul",
    "Sigmoid",
    "LeakyRelu",
    "AveragePool",
    "GlobalAveragePool",
    "Softmax",
    "Clip",
)


def _dynamic(emit: Emitter, node: ir.Node) -> list[Any]:
    """Y = x with scale 1 and zero point 0: what follows multiplies by the scale."""
    return [node.inputs[0], emit.constant(1.0, "scale"), emit.constant(0.0, "zero")]


def _matmul_integer(emit: Emitter, node: ir.Node) -> list[Any] | None:
    a, b, a_zero, b_zero = (*node.inputs, None, None)[:4]
    if (resolve(b) is None) == (resolve(a) is None) or (resolve(a_zero) is None and a_zero is not None):
        return None
    operands = (floats_of(emit, a, a_zero), floats_of(emit, b, b_zero))
    if any(operand is None for operand in operands):
        return None
    product = emit.op("MatMul", *operands)
    emit.name_last()
    return [product]


def _conv_integer(emit: Emitter, node: ir.Node) -> list[Any] | None:
    x, w, _, zero = (*node.inputs, None, None)[:4]
    weight = floats_of(emit, w, zero)
    if resolve(w) is None or weight is None:
        return None
    product = emit.op("Conv", x, weight, **_conv_attributes(node))
    emit.name_last()
    return [product]


def _scaled_matmul(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """DynamicQuantizeMatMul (A, B, B's scale, B's zero, bias): A is a float."""
    a, b, scale, zero, bias = (*node.inputs, None, None)[:5]
    weight = floats_of(emit, b, zero, scale)
    if resolve(b) is None or weight is None:
        return None
    product = emit.op("MatMul", a, weight)
    emit.name_last()
    return [product if bias is None else emit.op("Add", product, bias)]


def _integer_to_float(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """MatMulIntegerToFloat (A, B, scales of A and B, zeros of A and B, bias); the scale of a float A is 1."""
    a, b, a_scale, b_scale, _, b_zero, bias = (*node.inputs, None, None, None)[:7]
    weight = floats_of(emit, b, b_zero, b_scale)
    if resolve(b) is None or weight is None:
        return None
    product = emit.op("MatMul", a, weight)
    emit.name_last()
    product = product if a_scale is None else emit.op("Mul", product, a_scale)
    return [product if bias is None else emit.op("Add", product, bias)]


def _qlinear_matmul(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """QLinearMatMul (a, its scale and zero, b, its scale and zero, y's): y's rounding goes."""
    a, a_scale, a_zero, b, b_scale, b_zero = node.inputs[:6]
    operands = (floats_of(emit, a, a_zero, a_scale), floats_of(emit, b, b_zero, b_scale))
    if any(operand is None for operand in operands):
        return None
    product = emit.op("MatMul", *operands)
    emit.name_last()
    return [within(emit, product, *node.inputs[6:8])]


def _qgemm(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """QGemm (A, its scale and zero, B, its scale and zero, C in int32 at both scales, y's)."""
    a, a_scale, _, b, b_scale, b_zero, c = (*node.inputs, None)[:7]
    swap = node.attributes.get_int("transB", 0)
    known, scales, zeros = resolve(b), resolve(b_scale), resolve(b_zero)
    step = resolve(a_scale)
    if known is None or scales is None or step is None or resolve(a) is not None:
        return None
    axis = 0 if swap else -1
    numbers = known.array().astype(np.float32)
    if zeros is not None:
        numbers = numbers - along(zeros.array().astype(np.float32), numbers.shape, axis)
    factors = scales.array().astype(np.float32)
    numbers = numbers * along(factors, numbers.shape, axis)
    operands = [a, emit.constant(numbers, "weight")]
    bias = resolve(c)
    if bias is not None:
        operands.append(
            emit.constant(bias.array().astype(np.float32) * float(step.array().ravel()[0]) * factors, "bias")
        )
    elif c is not None:
        return None
    kept = {key: node.attributes[key].value for key in ("alpha", "transA", "transB") if key in node.attributes}
    product = emit.op("Gemm", *operands, **kept)
    emit.name_last()
    return [within(emit, product, *(*node.inputs[7:9], None, None)[:2])]


def _qlinear_conv(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """QLinearConv (x, its scale and zero, w, its scale and zero, y's scale and zero, bias in int32)."""
    x, x_scale, _, w, w_scale, w_zero, _, _, bias = (*node.inputs, None)[:9]
    known, scales, zeros, step = (resolve(value) for value in (w, w_scale, w_zero, x_scale))
    if known is None or scales is None or step is None:
        return None
    numbers = known.array().astype(np.float32)
    if zeros is not None:
        numbers = numbers - along(zeros.array().astype(np.float32), numbers.shape, 0)
    factors = scales.array().astype(np.float32)
    operands = [x, emit.constant(numbers * along(factors, numbers.shape, 0), "weight")]
    stored = resolve(bias)
    if stored is not None:
        whole = stored.array().astype(np.float32) * float(step.array().ravel()[0]) * factors
        operands.append(emit.constant(whole, "bias"))
    product = emit.op("Conv", *operands, **_conv_attributes(node))
    emit.name_last()
    return [within(emit, product, *node.inputs[6:8])]


def _conv_attributes(node: ir.Node) -> dict[str, Any]:
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    return {key: node.attributes[key].value for key in names if key in node.attributes}


def _binary(kind: str) -> Callable[[Emitter, ir.Node], list[Any] | None]:
    """QLinearAdd and QLinearMul (A, its scale and zero, B, its scale and zero, y's)."""

    def expand(emit: Emitter, node: ir.Node) -> list[Any] | None:
        a, a_scale, a_zero, b, b_scale, b_zero = node.inputs[:6]
        operands = (floats_of(emit, a, a_zero, a_scale), floats_of(emit, b, b_zero, b_scale))
        if any(operand is None for operand in operands):
            return None
        return [within(emit, emit.op(kind, *operands), *(*node.inputs[6:8], None)[:2])]

    return expand


def _unary(kind: str, *names: str) -> Callable[[Emitter, ir.Node], list[Any] | None]:
    """QLinearSigmoid and its like (X, its scale and zero, y's)."""

    def expand(emit: Emitter, node: ir.Node) -> list[Any] | None:
        if node.attributes.get_int("channels_last", 0):
            return None
        kept = {key: node.attributes[key].value for key in names if key in node.attributes}
        return [emit.op(kind, node.inputs[0], **kept)]

    return expand


def _qlinear_concat(emit: Emitter, node: ir.Node) -> list[Any]:
    """QLinearConcat (y's scale and zero, then each operand with its own)."""
    parts = [floats_of(emit, *(node.inputs[k + j] for j in (0, 2, 1))) for k in range(2, len(node.inputs), 3)]
    return [emit.op("Concat", *parts, axis=node.attributes["axis"].as_int())]


def _cast(_: Emitter, node: ir.Node) -> list[Any] | None:
    """The integers of a sum are floats already."""
    value = node.inputs[0]
    producer = None if value is None else value.producer()
    is_sum = producer is not None and producer.op_type in _FLOAT_NOW
    return [value] if is_sum and node.attributes["to"].as_int() == 1 else None


def _integer_add(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """A bias that was made an integer for the sum: the float that it was made from is added."""
    operands: list[Any] = list(node.inputs)
    for at in (0, 1):
        product, cast = operands[1 - at], operands[at]
        producer = None if product is None else product.producer()
        rounded = None if cast is None else cast.producer()
        if producer is None or producer.op_type not in _FLOAT_NOW or rounded is None or rounded.op_type != "Cast":
            continue
        if rounded.attributes["to"].as_int() != _INT32:
            continue
        value = rounded.inputs[0]
        before = None if value is None else value.producer()
        operands[at] = before.inputs[0] if before is not None and before.op_type in ("Floor", "Round") else value
        return [emit.op("Add", *operands)]
    return None


_INT32 = 6
"""ONNX's code of the element type."""


def _matmul_nbits(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """MatMulNBits: B [N, blocks, bytes] of 4 or 8 bits, a scale and perhaps a zero point for each block."""
    a, b, scale, zero = (*node.inputs, None)[:4]
    more = any(operand is not None for operand in node.inputs[4:5])
    bits, block = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size", 32)
    k, n = (node.attributes[key].as_int() for key in ("K", "N"))
    packed, scales, zeros = resolve(b), resolve(scale), resolve(zero)
    if (
        packed is None
        or scales is None
        or bits not in (4, 8)
        or (zero is not None and zeros is None)
        or more
        or not block
    ):
        return None
    blocks = -(-k // block)
    numbers = unpacked(packed.array(), bits).reshape(n, blocks, block)
    offset: NDArray[np.float32] = np.full((n, blocks, 1), 2.0 ** (bits - 1), np.float32)
    if zeros is not None:
        stored = zeros.array()
        wide = stored if stored.dtype.kind == "f" else unpacked(stored.reshape(n, -1), bits)
        offset = wide.reshape(n, -1)[:, :blocks].reshape(n, blocks, 1).astype(np.float32)
    weight = (numbers - offset) * scales.array().reshape(n, blocks, 1).astype(np.float32)
    matrix = np.ascontiguousarray(weight.reshape(n, -1)[:, :k].T)
    product = emit.op("MatMul", a, emit.constant(matrix, "weight"))
    emit.name_last()
    bias = node.inputs[5] if len(node.inputs) > 5 else None
    return [product if bias is None else emit.op("Add", product, bias)]


_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")

_EXPANSIONS: dict[str, Callable[[Emitter, ir.Node], list[Any] | None]] = {
    "Add": _integer_add,
    "Cast": _cast,
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "DynamicQuantizeMatMul": _scaled_matmul,
    "MatMulInteger": _matmul_integer,
    "MatMulIntegerToFloat": _integer_to_float,
    "MatMulNBits": _matmul_nbits,
    "QGemm": _qgemm,
    "QLinearAdd": _binary("Add"),
    "QLinearAveragePool": _unary("AveragePool", *_POOL),
    "QLinearConcat": _qlinear_concat,
    "QLinearConv": _qlinear_conv,
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearLeakyRelu": _unary("LeakyRelu", "alpha"),
    "QLinearMatMul": _qlinear_matmul,
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearSoftmax": _unary("Softmax", "axis"),
    "QuantizeLinear": _quantize,
}
