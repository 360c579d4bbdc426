"""onnxruntime's fused attention as projections, products and a softmax: the projection is an FC layer.

A node with a cache of past keys, with packed inputs of other kinds or with a mask of lengths stays as it is.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

from lrf_dse.models.canonical.emit import Emitter
from lrf_dse.models.constants import static_shape

if TYPE_CHECKING:
    import onnx_ir as ir

_LOWEST = -10000.0
"""What onnxruntime adds where a mask is 0, unless `mask_filter_value` says otherwise."""


def attention(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """Attention: x W + b holds queries, keys and values side by side; the mask is [batch, keys] of 0 and 1."""
    x, weight, bias, mask, past, scores = (*node.inputs, None, None, None, None, None)[:6]
    shape, sizes = static_shape(x), static_shape(weight)
    heads = node.attributes.get_int("num_heads", 0)
    given = list(node.attributes.get_ints("qkv_hidden_sizes", ()))
    if shape is None or sizes is None or not heads or past is not None or len(shape) != 3:
        return None
    # Without `qkv_hidden_sizes` queries, keys and values are of one size.
    given = given or [sizes[1] // 3] * 3
    if any(size % heads for size in given) or not _plain(node):
        return None
    product = emit.op("MatMul", x, weight)
    emit.name_last()
    product = product if bias is None else emit.op("Add", product, bias)
    parts = emit.several("Split", 3, product, emit.constant(given, "split"), axis=2)
    cut = [_heads(emit, part, shape, heads, size) for part, size in zip(parts, given, strict=True)]
    added = _mask(emit, node, mask, shape)
    if added is False:
        return None
    return [_mixed(emit, node, cut, (added, scores), (shape[0], shape[1], given))]


def multi_head_attention(emit: Emitter, node: ir.Node) -> list[Any] | None:
    """MultiHeadAttention of query, key and value [batch, tokens, hidden], projected before; None if there is a bias."""
    query, key, value, bias, mask, scores = (*node.inputs, None, None, None, None, None)[:6]
    more = any(operand is not None for operand in node.inputs[6:])
    shapes = [static_shape(operand) for operand in (query, key, value)]
    heads = node.attributes.get_int("num_heads", 0)
    known = [shape for shape in shapes if shape is not None and len(shape) == 3]
    if more or not heads or len(known) != 3 or bias is not None or not _plain(node):
        return None
    if any(output.uses() for output in node.outputs[1:]) or any(shape[2] % heads for shape in known):
        return None
    operands = zip((query, key, value), known, strict=True)
    cut = [_heads(emit, operand, shape, heads, shape[2]) for operand, shape in operands if operand is not None]
    added = _mask(emit, node, mask, known[1])
    if added is False:
        return None
    sizes = [shape[2] for shape in known]
    return [_mixed(emit, node, cut, (added, scores), (known[0][0], known[0][1], sizes))]


def _plain(node: ir.Node) -> bool:
    """Whether the attention is neither causal nor rotary, and gives no other results."""
    rotary = node.attributes.get_int("do_rotary", 0) or node.attributes.get_int("unidirectional", 0)
    return not rotary and not any(output.uses() for output in node.outputs[1:])


def _heads(emit: Emitter, value: ir.Value, shape: tuple[int, ...], heads: int, hidden: int) -> ir.Value:
    """[batch, tokens, hidden] as [batch, heads, tokens, size of a head]."""
    cut = emit.op("Reshape", value, emit.constant([shape[0], shape[1], heads, hidden // heads], "heads"))
    return emit.op("Transpose", cut, perm=[0, 2, 1, 3])


def _mask(emit: Emitter, node: ir.Node, mask: ir.Value | None, keys: tuple[int, ...]) -> ir.Value | bool | None:
    """What is added to the scores; None without a mask, False for a mask of another form."""
    import onnx_ir as ir

    if mask is None:
        return None
    if static_shape(mask) != (keys[0], keys[1]):
        return False
    lowest = node.attributes.get_float("mask_filter_value", _LOWEST)
    floats = emit.op("Cast", mask, to=int(ir.DataType.FLOAT))
    hidden = emit.op("Mul", emit.op("Sub", emit.constant(1.0, "one"), floats), emit.constant(lowest, "lowest"))
    return emit.op("Reshape", hidden, emit.constant([keys[0], 1, 1, keys[1]], "shape"))


def _mixed(
    emit: Emitter,
    node: ir.Node,
    cut: list[ir.Value],
    added: tuple[ir.Value | bool | None, ir.Value | None],
    sizes: tuple[int, int, list[int]],
) -> ir.Value:
    """softmax(scale Q K^T + what is added) V, the heads side by side again."""
    queries, keys, values = cut
    batch, tokens, hidden = sizes
    heads = node.attributes.get_int("num_heads", 1) or 1
    # Scaled dot-product attention: Vaswani et al., arXiv 1706.03762, equation 1. An attribute of 0 stands for 1 /
    # sqrt(size of a head).
    scale = node.attributes.get_float("scale", 0.0) or 1.0 / sqrt(hidden[0] // heads)
    turned = emit.op("Transpose", keys, perm=[0, 1, 3, 2])
    scores = emit.op("Mul", emit.op("MatMul", queries, turned), emit.constant(scale, "scale"))
    for more in added:
        if more is not None and not isinstance(more, bool):
            scores = emit.op("Add", scores, more)
    mixed = emit.op("MatMul", emit.op("Softmax", scores, axis=-1), values)
    joined = emit.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return emit.op("Reshape", joined, emit.constant([batch, tokens, hidden[2]], "shape"))
