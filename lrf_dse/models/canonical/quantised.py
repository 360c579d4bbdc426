"""Quantised models computed in float32: what integers stand for takes their place, and rounding on the way goes.

    weights        DequantizeLinear of a constant is folded (`folding`); MatMulNBits is unpacked
    activations    QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear pass their operand on
    operations     QLinearMatMul, QGemm, MatMulInteger, ... become MatMul, Gemm and Conv of what the integers stand for

The result is the network that was quantised, as far as its weights still say: a plan has its own storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.models.canonical.emit import CONV, Emitter, Expansion, expand_all, kept
from lrf_dse.models.canonical.integers import floats_of, unpacked, within
from lrf_dse.models.canonical.qlinear import QLINEAR
from lrf_dse.models.constants import resolve

if TYPE_CHECKING:
    import onnx_ir as ir


def dequantise(graph: ir.Graph) -> bool:
    """Write the quantised operations of `graph` in float32. Returns whether there was one."""
    return expand_all(graph, lambda node: _EXPANSIONS.get(node.op_type) or QLINEAR.get(node.op_type))


def _quantize(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """An activation is passed on, within the range that its integers have; a constant is left to folding.

    Where its users multiply integers, and what follows multiplies by the scale, the activation is divided by it.
    """
    if resolve(node.inputs[0]) is not None:
        return None
    scale, zero = (*node.inputs[1:3], None)[:2]
    users = {use.node.op_type in _INTEGER_PRODUCTS for use in node.outputs[0].uses()}
    # Users of both kinds would need the activation twice, divided and not: such a node is left.
    if len(users) > 1:
        return None
    passed = within(emit, node.inputs[0], scale, zero)
    return [emit.op("Div", passed, scale) if True in users else passed]


_INTEGER_PRODUCTS = ("MatMulInteger", "ConvInteger")
"""Operations that take integers without a scale: a Mul behind them multiplies their result by it."""


def _dequantize(_: Emitter, node: ir.Node) -> list[Any] | None:
    """Pass on an activation that is a float again already; a DequantizeLinear of real integers stays."""
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
    """DynamicQuantizeLinear as y = x with scale 1 and zero point 0: what follows multiplies by the scale."""
    # The true scale comes from the range of x at run time; with a scale of 1 the float x stands for its own integers.
    return [node.inputs[0], emit.constant(1.0, "scale"), emit.constant(0.0, "zero")]


def _matmul_integer(emit: Emitter, node: ir.Node) -> list[Any] | None:
    a, b, a_zero, b_zero = (*node.inputs, None, None)[:4]
    # One operand must be constant: two activations are no layer, and the product of two constants is folded.
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
    product = emit.op("Conv", x, weight, **kept(node, *CONV))
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


def _lstm(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """DynamicQuantizeLSTM: an LSTM with W and R [directions, in, 4 hidden], and then their scales and zeros."""
    scales = (*node.inputs[8:12], None, None, None, None)[:4]
    matrices = []
    for stored, scale, zero in ((node.inputs[1], *scales[:2]), (node.inputs[2], *scales[2:])):
        known, step, offset = resolve(stored), resolve(scale), resolve(zero)
        if known is None or step is None or (zero is not None and offset is None):
            return None
        numbers = known.array().astype(np.float32)
        shape = (len(numbers), 1, -1)
        if offset is not None:
            numbers = numbers - offset.array().astype(np.float32).reshape(shape)
        numbers = numbers * step.array().astype(np.float32).reshape(shape)
        # ONNX's LSTM takes them the other way round, [directions, 4 hidden, in].
        matrices.append(emit.constant(np.ascontiguousarray(numbers.swapaxes(1, 2)), "weight"))
    values = emit.several("LSTM", len(node.outputs), node.inputs[0], *matrices, *node.inputs[3:8], **kept(node))
    emit.name_last()
    return list(values)


def _cast(_: Emitter, node: ir.Node) -> list[Any] | None:
    """Pass on a sum of integers that is cast to float32: it is a float already."""
    return [node.inputs[0]] if _is_sum(node.inputs[0]) and node.attributes["to"].as_int() == 1 else None


def _integer_add(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """A bias that was made an integer for the sum: the float that it was made from is added."""
    for at in (0, 1):
        if _is_sum(node.inputs[1 - at]) and (bias := _unrounded(emit, node.inputs[at])) is not None:
            operands = [bias, node.inputs[1]] if at == 0 else [node.inputs[0], bias]
            return [emit.op("Add", *operands)]
    return None


def _is_sum(value: ir.Value | None) -> bool:
    """Whether `value` was a sum of products of integers, and is a float now."""
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type in _FLOAT_NOW


def _unrounded(emit: Emitter, value: ir.Value | None) -> ir.Value | None:
    """The float that became the integer `value`; None if it is no integer, or its origin is not known."""
    stored = resolve(value)
    if stored is not None:
        whole = stored.dtype == "INT32"
        return emit.constant(stored.array().astype(np.float32), "bias") if whole else None
    node = None if value is None else value.producer()
    if node is None:
        return None
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze"):
        moved = _unrounded(emit, node.inputs[0])
        return None if moved is None else emit.op(node.op_type, moved, *node.inputs[1:], **kept(node))
    if node.op_type != "Cast" or node.attributes["to"].as_int() != _INT32:
        return None
    given = node.inputs[0]
    before = None if given is None else given.producer()
    # A Cast to int32 truncates; exporters round before it.
    return before.inputs[0] if before is not None and before.op_type in ("Floor", "Round") else given


_INT32 = 6
"""ONNX's code of the element type."""


def _matmul_nbits(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """MatMulNBits: B [N, blocks, bytes] of 4 or 8 bits, a scale and perhaps a zero point for each block."""
    a, b, scale, zero = (*node.inputs, None)[:4]
    # Input 4, `g_idx`, gives each row of K a block of its own choice; only blocks in order are read here.
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
    # Without zero points onnxruntime's definition takes the middle of the range, 8 of 4 bits.
    offset: NDArray[np.float32] = np.full((n, blocks, 1), 2.0 ** (bits - 1), np.float32)
    if zeros is not None:
        stored = zeros.array()
        wide = stored if stored.dtype.kind == "f" else unpacked(stored.reshape(n, -1), bits)
        # Each row of packed zero points fills whole bytes: an odd number of 4-bit ones has a half byte of padding.
        offset = wide.reshape(n, -1)[:, :blocks].reshape(n, blocks, 1).astype(np.float32)
    weight = (numbers - offset) * scales.array().reshape(n, blocks, 1).astype(np.float32)
    # The last block of a row is stored in full, also where K ends inside it.
    matrix = np.ascontiguousarray(weight.reshape(n, -1)[:, :k].T)
    product = emit.op("MatMul", a, emit.constant(matrix, "weight"))
    emit.name_last()
    bias = node.inputs[5] if len(node.inputs) > 5 else None
    return [product if bias is None else emit.op("Add", product, bias)]


_EXPANSIONS: dict[str, Expansion] = {
    "Add": _integer_add,
    "Cast": _cast,
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLSTM": _lstm,
    "DynamicQuantizeLinear": _dynamic,
    "DynamicQuantizeMatMul": _scaled_matmul,
    "MatMulInteger": _matmul_integer,
    "MatMulIntegerToFloat": _integer_to_float,
    "MatMulNBits": _matmul_nbits,
    "QuantizeLinear": _quantize,
}
