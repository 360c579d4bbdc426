"""Operations of onnxruntime and ONNX whose operands and results each have a scale and a zero point, in float32.

They are QGemm and the QLinear family. The rounding of the result goes; what its integers can hold stays as a range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_dse.models.canonical.emit import CONV, Emitter, Expansion, kept
from lrf_dse.models.canonical.integers import along, floats_of, within
from lrf_dse.models.constants import resolve

if TYPE_CHECKING:
    import onnx_ir as ir


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
    # There is a scale for each output: a column of B, or a row of it if B is transposed.
    axis = 0 if swap else -1
    numbers = known.array().astype(np.float32)
    if zeros is not None:
        numbers = numbers - along(zeros.array().astype(np.float32), numbers.shape, axis)
    factors = scales.array().astype(np.float32)
    numbers = numbers * along(factors, numbers.shape, axis)
    operands = [a, emit.constant(numbers, "weight")]
    bias = resolve(c)
    if bias is not None:
        # The bias is int32 in units of a_scale b_scale, as the sums of products are; it has no scale of its own.
        operands.append(
            emit.constant(bias.array().astype(np.float32) * float(step.array().ravel()[0]) * factors, "bias")
        )
    elif c is not None:
        return None
    # QGemm has no beta.
    product = emit.op("Gemm", *operands, **kept(node, "alpha", "transA", "transB"))
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
        # A convolution's weights are [out, in, ...]: a scale for each output lies along axis 0.
        numbers = numbers - along(zeros.array().astype(np.float32), numbers.shape, 0)
    factors = scales.array().astype(np.float32)
    operands = [x, emit.constant(numbers * along(factors, numbers.shape, 0), "weight")]
    stored = resolve(bias)
    if stored is not None:
        whole = stored.array().astype(np.float32) * float(step.array().ravel()[0]) * factors
        operands.append(emit.constant(whole, "bias"))
    product = emit.op("Conv", *operands, **kept(node, *CONV))
    emit.name_last()
    return [within(emit, product, *node.inputs[6:8])]


def _binary(kind: str) -> Expansion:
    """QLinearAdd and QLinearMul (A, its scale and zero, B, its scale and zero, y's)."""

    def expand(emit: Emitter, node: ir.Node) -> list[Any] | None:
        a, a_scale, a_zero, b, b_scale, b_zero = node.inputs[:6]
        operands = (floats_of(emit, a, a_zero, a_scale), floats_of(emit, b, b_zero, b_scale))
        if any(operand is None for operand in operands):
            return None
        return [within(emit, emit.op(kind, *operands), *(*node.inputs[6:8], None)[:2])]

    return expand


def _unary(kind: str, *names: str) -> Expansion:
    """QLinearSigmoid and its like (X, its scale and zero, y's)."""

    def expand(emit: Emitter, node: ir.Node) -> list[Any] | None:
        # The standard operations have channels at axis 1 alone.
        if node.attributes.get_int("channels_last", 0):
            return None
        return [emit.op(kind, node.inputs[0], **(kept(node, *names) if names else {}))]

    return expand


def _qlinear_concat(emit: Emitter, node: ir.Node) -> list[Any]:
    """QLinearConcat (y's scale and zero, then each operand with its own)."""
    # The operands come as (tensor, scale, zero), and floats_of() takes the zero before the scale.
    parts = [floats_of(emit, *(node.inputs[k + j] for j in (0, 2, 1))) for k in range(2, len(node.inputs), 3)]
    return [emit.op("Concat", *parts, axis=node.attributes["axis"].as_int())]


_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")

QLINEAR: dict[str, Expansion] = {
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
}
