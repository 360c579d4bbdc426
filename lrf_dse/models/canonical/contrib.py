"""Operations that onnxruntime's optimiser writes (domain com.microsoft) as standard ones.

A file that was saved by the optimiser computes the same as before it, in operations that only onnxruntime knows. Each
is written out here by onnxruntime's documented definition; a form that is not known stays, and is then skipped.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING, Any

from lrf_dse.models.canonical.attention import attention, multi_head_attention
from lrf_dse.models.canonical.emit import CONV, Emitter, Expansion, expand_all, kept
from lrf_dse.models.constants import static_shape

if TYPE_CHECKING:
    import onnx_ir as ir

DOMAIN = "com.microsoft"


def expand_contrib(graph: ir.Graph) -> bool:
    """Write out the operations of onnxruntime's own. Returns whether there was one."""
    return expand_all(graph, lambda node: _EXPANSIONS.get(node.op_type) if _is_ours(node) else None)


def _is_ours(node: ir.Node) -> bool:
    return node.domain == DOMAIN or (node.domain == "" and node.op_type in _IN_BOTH)


Results = list[Any] | None
"""The values in the place of a node's outputs; None where the node stays."""


def _activated(emit: Emitter, value: ir.Value, node: ir.Node) -> ir.Value | None:
    """`value` after the activation that is fused into `node`; None if it is not known."""
    name = node.attributes.get_string("activation", "") or ""
    parameters = list(node.attributes.get_floats("activation_params", ()))
    if not name:
        return value
    if name == "Clip":
        low, high = (emit.constant(bound, "bound") for bound in (*parameters, float("-inf"), float("inf"))[:2])
        return emit.op("Clip", value, low, high)
    alpha = node.attributes.get_float("activation_alpha", None)
    given = parameters if parameters else ([] if alpha is None else [alpha])
    names = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Elu": ("alpha",)}.get(name, ())
    if name not in ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Elu", "Softplus", "Softsign"):
        return None
    return emit.op(name, value, **dict(zip(names, given, strict=False)))


def _fused_gemm(emit: Emitter, node: ir.Node) -> Results:
    product = emit.op("Gemm", *node.inputs, **kept(node, "alpha", "beta", "transA", "transB"))
    emit.name_last()
    activated = _activated(emit, product, node)
    return None if activated is None else [activated]


def _fused_conv(emit: Emitter, node: ir.Node) -> Results:
    value = emit.op("Conv", *node.inputs[:3], **kept(node, *CONV))
    emit.name_last()
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        # The fourth operand, Z, is a skip connection; it is added before the activation.
        value = emit.op("Add", value, node.inputs[3])
    activated = _activated(emit, value, node)
    return None if activated is None else [activated]


def _fused_matmul(emit: Emitter, node: ir.Node) -> Results:
    operands = []
    for k, letter in enumerate("AB"):
        value = node.inputs[k]
        shape = static_shape(value)
        # `transBatchA` and `transBatchB` transpose batch axes as well; only the last two are turned here.
        if node.attributes.get_int(f"transBatch{letter}", 0):
            return None
        if node.attributes.get_int(f"trans{letter}", 0) and shape is not None and len(shape) > 1:
            rank = len(shape)
            value = emit.op("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])
        operands.append(value)
    product = emit.op("MatMul", *operands)
    emit.name_last()
    alpha = node.attributes.get_float("alpha", 1.0)
    return [product if alpha == 1.0 else emit.op("Mul", product, emit.constant(float(alpha or 0.0), "alpha"))]


def _gelu(emit: Emitter, node: ir.Node) -> Results:
    """The Gaussian error linear unit x Phi(x), or its tanh form; a bias is added to x first."""
    if node.attributes.get_string("approximate", "none") == "tanh":
        return _fast_gelu(emit, node)
    value = _biased(emit, node, 1)
    # x Phi(x) = x / 2 (1 + erf(x / sqrt 2)): Hendrycks and Gimpel, arXiv 1606.08415, section 2, as are the next two
    # forms.
    inner = emit.op("Erf", emit.op("Mul", value, emit.constant(1 / sqrt(2), "scale")))
    half = emit.op("Mul", value, emit.constant(0.5, "half"))
    return [emit.op("Mul", half, emit.op("Add", inner, emit.constant(1.0, "one")))]


def _fast_gelu(emit: Emitter, node: ir.Node) -> Results:
    value = _biased(emit, node, 1)
    # x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the same paper's approximation.
    cube = emit.op("Mul", emit.op("Mul", value, value), value)
    inner = emit.op("Add", value, emit.op("Mul", cube, emit.constant(0.044715, "cubic")))
    bent = emit.op("Tanh", emit.op("Mul", inner, emit.constant(sqrt(2 / pi), "scale")))
    half = emit.op("Mul", value, emit.constant(0.5, "half"))
    return [emit.op("Mul", half, emit.op("Add", bent, emit.constant(1.0, "one")))]


def _quick_gelu(emit: Emitter, node: ir.Node) -> Results:
    # x sigmoid(1.702 x), the same paper's faster approximation.
    value, alpha = node.inputs[0], node.attributes.get_float("alpha", 1.702)
    scaled = value if alpha == 1.0 else emit.op("Mul", value, emit.constant(float(alpha or 0.0), "alpha"))
    return [emit.op("Mul", value, emit.op("Sigmoid", scaled))]


def _biased(emit: Emitter, node: ir.Node, at: int) -> ir.Value | None:
    bias = node.inputs[at] if len(node.inputs) > at else None
    return node.inputs[0] if bias is None else emit.op("Add", node.inputs[0], bias)


def _bias_split(emit: Emitter, node: ir.Node) -> Results:
    """BiasAdd: x + bias + skip."""
    return [emit.op("Add", emit.op("Add", node.inputs[0], node.inputs[1]), node.inputs[2])]


def _skip_layer_norm(emit: Emitter, node: ir.Node) -> Results:
    """LayerNormalization of the sum x + skip (+ bias); the fourth output is that sum."""
    x, skip, gamma, beta, bias = (*node.inputs, None, None)[:5]
    total = emit.op("Add", x, skip)
    total = total if bias is None else emit.op("Add", total, bias)
    epsilon = node.attributes.get_float("epsilon", 1e-12)
    return [emit.op("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon), None, None, total]


def _skip_simplified(emit: Emitter, node: ir.Node) -> Results:
    x, skip, gamma, bias = (*node.inputs, None)[:4]
    total = emit.op("Add", x, skip)
    total = total if bias is None else emit.op("Add", total, bias)
    return [_root_mean_square(emit, total, gamma, node), None, None, total]


def _simplified(emit: Emitter, node: ir.Node) -> Results:
    shape = static_shape(node.inputs[0])
    axis = node.attributes.get_int("axis", -1)
    if shape is None or axis not in (-1, len(shape) - 1):
        return None
    return [_root_mean_square(emit, node.inputs[0], node.inputs[1], node)]


def _root_mean_square(emit: Emitter, x: ir.Value | None, gamma: ir.Value | None, node: ir.Node) -> ir.Value:
    """RMSNorm: x gamma / sqrt(mean(x^2) + epsilon), the mean along the last axis."""
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    # ReduceMean takes its axes as an attribute before opset 18, as an input from there on.
    # RMSNorm: Zhang and Sennrich, arXiv 1910.07467.
    square = emit.op("Mul", x, x)
    size = (static_shape(x) or static_shape(gamma) or (1,))[-1]
    total = emit.op("ReduceSum", square, emit.constant([-1], "axis"), keepdims=1)
    mean = emit.op("Mul", total, emit.constant(1.0 / size, "mean"))
    root = emit.op("Sqrt", emit.op("Add", mean, emit.constant(float(epsilon or 0.0), "epsilon")))
    return emit.op("Mul", emit.op("Div", x, root), gamma)


def _embed_layer_norm(emit: Emitter, node: ir.Node) -> Results:
    """LayerNormalization of the sum of word, position and segment embeddings; None where the mask's index is used."""
    ids, segments, words, positions, table, gamma, beta, mask, given = (*node.inputs, None, None)[:9]
    shape = static_shape(ids)
    masked = len(node.outputs) > 1 and bool(node.outputs[1].uses())
    if shape is None or masked or mask is not None:
        return None
    total = emit.op("Gather", words, ids)
    if given is None:
        # Without `position_ids` token k of each sequence has the position k.
        given = emit.constant([list(range(shape[1]))] * shape[0], "positions")
    total = emit.op("Add", total, emit.op("Gather", positions, given))
    if table is not None:
        total = emit.op("Add", total, emit.op("Gather", table, segments))
    # 1e-12 is the default of onnxruntime's schemas here and above; LayerNormalization's own is 1e-5.
    epsilon = node.attributes.get_float("epsilon", 1e-12)
    normed = emit.op("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon)
    return [normed, None, total]


def _bias_softmax(emit: Emitter, node: ir.Node) -> Results:
    shape = static_shape(node.inputs[0])
    if shape is None or node.attributes.get_int("axis", 1) not in (-1, len(shape) - 1):
        return None
    return [emit.op("Softmax", emit.op("Add", node.inputs[0], node.inputs[1]), axis=-1)]


_EXPANSIONS: dict[str, Expansion] = {
    "Attention": attention,
    "BiasAdd": _bias_split,
    "BiasGelu": _gelu,
    "BiasSoftmax": _bias_softmax,
    "EmbedLayerNormalization": _embed_layer_norm,
    "FastGelu": _fast_gelu,
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _gelu,
    "MultiHeadAttention": multi_head_attention,
    "QuickGelu": _quick_gelu,
    "SimplifiedLayerNormalization": _simplified,
    "SkipLayerNormalization": _skip_layer_norm,
    "SkipSimplifiedLayerNormalization": _skip_simplified,
    "TransposeMatMul": _fused_matmul,
}

_IN_BOTH = frozenset(("SimplifiedLayerNormalization",))
"""Operations that onnxruntime's optimiser writes under the standard domain though no standard has them."""
