"""Matrix products with a constant in one form: MatMul with [in, out] on the right, then Add.

    Gemm     alpha op(A) op(B) + beta C    alpha goes into the matrix, beta into the bias
    MatMul   with a matrix [1, .., K, N]   the leading ones go
    Einsum   with one constant             a MatMul between Transpose and Reshape, unless each sample has its own matrix

IREE 3.13 makes scalar code of Gemm with transB = 1 at batch 1 (1.06 million instructions for 784x300, else 32
thousand), so that the layout is also the faster one. A matrix on the left stays there: x lies as columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from lrf_dse.errors import ModelError
from lrf_dse.models.canonical.emit import Emitter
from lrf_dse.models.constants import Constant, is_looked_up, resolve, static_shape
from lrf_dse.models.site import FILE_OP

if TYPE_CHECKING:
    import onnx_ir as ir


def write_dense(graph: ir.Graph) -> bool:
    """Rewrite every matrix product with a constant matrix. Returns whether there was one to rewrite."""
    changed = False
    for node in list(graph):
        rewrite = _FORMS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        changed |= rewrite is not None and rewrite(node)
    return changed


def share_constants(graph: ir.Graph) -> None:
    """Let equal matrices be one constant: exporters write copies, and folding makes some."""
    # A digest reads every byte of a matrix, so that only shapes that occur twice are read.
    sizes = Counter(_kind(value) for value in graph.initializers.values())
    known: dict[tuple[object, ...], ir.Value] = {}
    for value in list(graph.initializers.values()):
        kind = _kind(value)
        constant = resolve(value)
        if kind is None or sizes[kind] == 1 or constant is None or value.is_graph_output():
            continue
        digest = sha256(np.ascontiguousarray(constant.array()).tobytes()).digest()
        same = known.setdefault((kind, digest), value)
        if same is not value:
            value.replace_all_uses_with(same)
            graph.initializers.pop(value.name or "")


def _kind(value: ir.Value) -> tuple[object, ...] | None:
    """The shape of a float32 constant of two or more axes, equal shapes being compared; None for what is not shared."""
    constant = resolve(value)
    if constant is None or constant.dtype != "FLOAT" or len(constant.shape) < 2:
        return None
    return constant.shape


def _gemm(node: ir.Node) -> bool:
    left, right = resolve(node.inputs[0]), resolve(node.inputs[1])
    constant = right or left
    # Of two constants the product is one too; integers are not ours; an embedding's matrix stays one.
    if is_looked_up(node.inputs[1] if right else node.inputs[0]):
        return False
    if constant is None or (left and right) or constant.dtype != "FLOAT" or len(constant.shape) != 2:
        return False
    alpha, beta = (node.attributes.get_float(key, 1.0) for key in ("alpha", "beta"))
    swap_a, swap_b = (node.attributes.get_int(key, 0) != 0 for key in ("transA", "transB"))
    emit = Emitter(node)
    weight = node.inputs[1] if right else node.inputs[0]
    turned = swap_b if right else swap_a
    if turned or alpha != 1.0:
        matrix = constant.array().T if turned else constant.array()
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number is refused where layers are found
            weight = emit.constant(np.ascontiguousarray(matrix * np.float32(alpha)), "weight")
    x, swap = (node.inputs[0], swap_a) if right else (node.inputs[1], swap_b)
    x = _turned(emit, x) if swap else x
    product = emit.op("MatMul", *((x, weight) if right else (weight, x)))
    _mark(emit, node)
    emit.replace(_with_bias(emit, node, product, beta))
    return True


def _with_bias(emit: Emitter, node: ir.Node, product: ir.Value, beta: float) -> ir.Value:
    """The product plus beta C; the product itself if there is nothing to add. Raises ModelError if C does not fit."""
    c = node.inputs[2] if len(node.inputs) > 2 else None
    if c is None:
        return product
    shape, result = static_shape(c), static_shape(node.outputs[0])
    if shape is not None and result is not None and not _stretches(shape, result):
        # Gemm stretches C alone. An Add would stretch the product too, and the model would be another one.
        name = node.name or node.outputs[0].name
        raise ModelError(f"layer {name}: its bias {list(shape)} does not fit its result {list(result)}")
    if beta == 0.0:
        return product
    if beta != 1.0:
        stored = resolve(c)
        if stored is None:
            c = emit.op("Mul", c, emit.constant(np.float32(beta), "beta"))
        else:
            c = emit.constant(np.float32(beta) * stored.array(), "bias")
    return emit.op("Add", product, c)


def _stretches(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a tensor of `shape` becomes `wanted` by repeating along its axes of one and along new first axes."""
    padded = (1,) * (len(wanted) - len(shape)) + tuple(shape)
    return len(padded) == len(wanted) and all(a in (1, b) for a, b in zip(padded, wanted, strict=True))


def _turned(emit: Emitter, value: ir.Value | None) -> ir.Value:
    """A matrix transposed; where it has one row or one column, a Reshape does it."""
    shape = static_shape(value)
    if shape is not None and 1 in shape:
        return emit.op("Reshape", value, emit.constant([shape[1], shape[0]], "shape"))
    return emit.op("Transpose", value, perm=[1, 0])


def _matmul(node: ir.Node) -> bool:
    """A matrix with leading ones as one of two axes; the result then has the axes that it had."""
    at = 1 if resolve(node.inputs[1]) is not None else 0
    constant, other = resolve(node.inputs[at]), static_shape(node.inputs[1 - at])
    if constant is None or len(constant.shape) <= 2 or prod(constant.shape[:-2]) != 1 or other is None:
        return False
    emit = Emitter(node)
    weight = emit.constant(constant.array().reshape(constant.shape[-2:]), "weight")
    operands = (node.inputs[0], weight) if at else (weight, node.inputs[1])
    product = emit.op("MatMul", *operands)
    _mark(emit, node)
    # MatMul broadcasts as numpy.matmul does: the leading ones of the constant were axes of the result.
    if len(constant.shape) > len(other):
        shape = static_shape(node.outputs[0])
        if shape is None:
            return False
        product = emit.op("Reshape", product, emit.constant(list(shape), "shape"))
    emit.replace(product)
    return True


def _einsum(node: ir.Node) -> bool:
    parts = _labels(node)
    if parts is None:
        return False
    constant, x, labels, x_labels, out_labels = parts
    shape = static_shape(x)
    kept, summed = [k for k in x_labels if k not in labels], [k for k in labels if k in x_labels]
    made = [k for k in out_labels if k in labels]
    # A MatMul sums over labels that both operands have and makes new ones from the constant. A label in all three terms
    # would give each sample a matrix of its own; a label twice in one term takes a diagonal.
    is_matmul = (
        shape is not None
        and summed
        and made
        and set(out_labels) == {*kept, *made}
        and not set(made) & set(x_labels)
        and len(set(labels)) == len(labels) == len(summed) + len(made)
        and len(set(x_labels)) == len(x_labels)
        and len(set(out_labels)) == len(out_labels)
    )
    if not is_matmul or shape is None:
        return False
    size = dict(zip(x_labels, shape, strict=True)) | dict(zip(labels, constant.shape, strict=True))
    kept = [k for k in out_labels if k in kept]
    matrix = constant.array().transpose([labels.index(k) for k in (*summed, *made)])
    matrix = matrix.reshape(prod(size[k] for k in summed), -1)
    emit = Emitter(node)
    rows = _arranged(emit, x, x_labels, [*kept, *summed])
    rows = _shaped(emit, rows, shape, [*(size[k] for k in kept), len(matrix)])
    product = emit.op("MatMul", rows, emit.constant(np.ascontiguousarray(matrix), "weight"))
    _mark(emit, node)
    given = [*(size[k] for k in kept), matrix.shape[1]]
    product = _shaped(emit, product, given, [size[k] for k in (*kept, *made)])
    emit.replace(_arranged(emit, product, [*kept, *made], out_labels))
    return True


def _labels(node: ir.Node) -> tuple[Constant, ir.Value, str, str, str] | None:
    """The constant, the other operand, and the labels of both and of the result; None for another kind of Einsum."""
    equation = node.attributes["equation"].as_string().replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    # Without "->" the labels of the result are implied (those that occur once, in alphabetical order): left as it is.
    if not arrow or len(terms) != 2 or len(node.inputs) != 2:
        return None
    at = 0 if resolve(node.inputs[0]) is not None else 1
    constant, x = resolve(node.inputs[at]), node.inputs[1 - at]
    shape = static_shape(x)
    if constant is None or x is None or constant.dtype != "FLOAT" or shape is None or "." in terms[at]:
        return None
    x_labels = terms[1 - at]
    # "..." stands for axes that only the other operand has: digits are labels that no equation uses.
    more = "0123456789"[: max(0, len(shape) - len(x_labels.replace("...", "")))]
    x_labels, out = x_labels.replace("...", more), out.replace("...", more)
    fits = len(x_labels) == len(shape) and len(terms[at]) == len(constant.shape)
    return (constant, x, terms[at], x_labels, out) if fits else None


def _arranged(emit: Emitter, value: ir.Value, labels: Sequence[str], wanted: Sequence[str]) -> ir.Value:
    order = [list(labels).index(k) for k in wanted]
    return value if order == list(range(len(order))) else emit.op("Transpose", value, perm=order)


def _shaped(emit: Emitter, value: ir.Value, shape: Sequence[int], wanted: Sequence[int]) -> ir.Value:
    if list(shape) == list(wanted):
        return value
    return emit.op("Reshape", value, emit.constant(list(wanted), "shape"))


def _mark(emit: Emitter, node: ir.Node) -> None:
    """The newest node is the layer: it has the name that the file gave, and remembers the operation."""
    emit.name_last()
    emit.nodes[-1].metadata_props[FILE_OP] = node.metadata_props.get(FILE_OP, node.op_type)


_FORMS = {"Gemm": _gemm, "MatMul": _matmul, "Einsum": _einsum}
