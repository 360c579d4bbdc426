"""Find the FC layers of a graph in the canonical form (`canonical`), and say why what looks like one is not taken.

A layer is a MatMul with a constant matrix on either side, a 1x1 convolution, or one that covers its whole input. A
constant bias is Conv's own, or the operand of the Add that follows. Uses of one matrix are one layer. Owns the
reading of weights in the form y = W x + b with W [out, in]. It changes only node names: FC nodes without a name, or
with one that is taken, get a unique one made from their output value's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import ModelError
from lrf_dse.models.constants import Constant, converted_from, is_looked_up, resolve, static_shape
from lrf_dse.models.site import FILE_OP, FcSite, FcUse, Form, Skipped
from lrf_dse.schema import FcLayer

if TYPE_CHECKING:
    import onnx_ir as ir

INTEGER_OPS = (
    "MatMulInteger",
    "QLinearMatMul",
    "QLinearConv",
    "ConvInteger",
    "QGemm",
    "QAttention",
    "MatMulNBits",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
)

DEQUANTIZE = "--dequantize computes it in float32"


def discover(graph: ir.Graph) -> tuple[tuple[FcSite, ...], tuple[Skipped, ...]]:
    """The FC layers of `graph` in execution order, and what was passed over, with the reason.

    Raises ModelError if a weight holds NaN or Inf. Nodes inside If, Loop and Scan bodies are not looked at.
    """
    uses: list[FcUse] = []
    skipped: list[Skipped] = []
    for node in graph:
        found = _examine(node)
        if isinstance(found, FcUse):
            uses.append(found)
        elif found is not None:
            skipped.append(Skipped(node.name or _output(node), found))
    _name_uniquely([use.node for use in uses], graph)
    sites = [_site(group) for group in _by_matrix(uses)]
    for site in sites:
        _check_finite(site)
    zero = {site.layer.name for site in sites if not _any_nonzero(site.uses[0].weight.array())}
    skipped += [Skipped(name, "all weights are zero: nothing to factorise") for name in sorted(zero)]
    return tuple(site for site in sites if site.layer.name not in zero), tuple(skipped)


def _examine(node: ir.Node) -> FcUse | str | None:
    """The use of a layer, or the reason why there is none, or None for a node that has nothing to do with it."""
    # Before the domain is asked: some of them are onnxruntime's own operations (domain com.microsoft).
    if node.op_type in INTEGER_OPS:
        return f"{node.op_type} computes in integers; {DEQUANTIZE}"
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Conv":
        return _conv(node)
    if node.op_type not in ("MatMul", "Gemm"):
        return None
    kept = _why_kept(node)
    if kept is not None:
        return kept
    at = 1 if resolve(node.inputs[1]) is not None else 0
    weight = resolve(node.inputs[at])
    if weight is None:
        # A MatMul of two activations is common (attention) and no news; a Gemm is written for a layer, so that it is
        # named.
        return "the second operand is not constant" if node.op_type == "Gemm" else None
    if resolve(node.inputs[1 - at]) is not None:
        return "both operands are constant"
    if weight.dtype != "FLOAT":
        return f"weights are {weight.dtype}; only float32 (FLOAT) is supported"
    if len(weight.shape) < 2:
        return None
    if len(weight.shape) > 2:
        return f"weights have shape {list(weight.shape)}: another matrix for each of {prod(weight.shape[:-2])} places"
    return _matmul(node, weight, at)


def _why_kept(node: ir.Node) -> str | None:
    """Why the matrix of a product has to stay as it is stored, None if it does not."""
    if any(_is_tied(value) for value in node.inputs[:2]):
        return "its matrix is an embedding too: the lookup needs it as it is, so that cores would only add to it"
    source = converted_from(node.inputs[1]) or converted_from(node.inputs[0])
    return None if source is None else f"weights are stored as {source}; {DEQUANTIZE}"


def _is_tied(value: ir.Value | None) -> bool:
    """Whether `value` is the matrix of an embedding, or that transposed."""
    producer = None if value is None else value.producer()
    if producer is not None and producer.op_type == "Transpose":
        value = producer.inputs[0]
    return resolve(value) is not None and is_looked_up(value)


def _matmul(node: ir.Node, weight: Constant, at: int) -> FcUse | str:
    shape = static_shape(node.inputs[1 - at])
    if shape is None:
        return "the shape of its input is not known before run time"
    inputs = shape[-1] if at or len(shape) == 1 else shape[-2]
    if inputs != weight.shape[1 - at]:
        return f"its input {list(shape)} does not fit its weights {list(weight.shape)}"
    if at:
        use = FcUse(node, "rows", prod(shape[:-1]), 1, weight, _added_bias(node, (weight.shape[1],)))
    else:
        columns = shape[-1] if len(shape) > 1 else 1
        bias = _added_bias(node, (weight.shape[0], 1) if len(shape) > 1 else (weight.shape[0],))
        use = FcUse(node, "columns", prod(shape[:-2]), columns, weight, bias)
    return _unless_empty(use)


def _conv(node: ir.Node) -> FcUse | str | None:
    """A convolution that is a matrix product: its kernel is one point wide, or as wide as its input."""
    weight, x, out = resolve(node.inputs[1]), static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if weight is None:
        source = converted_from(node.inputs[1])
        return None if source is None else f"weights are stored as {source}; {DEQUANTIZE}"
    if weight.dtype != "FLOAT" or len(weight.shape) < 3:
        return None
    kernel = "x".join(map(str, weight.shape[2:]))
    if node.attributes.get_int("group", 1) != 1:
        return f"a {kernel} convolution in groups"
    if x is None or out is None:
        return "the shape of its input is not known before run time"
    bias = resolve(node.inputs[2]) if len(node.inputs) > 2 else None
    fits = len(x) == len(weight.shape) and x[1] == weight.shape[1] and (bias is None or bias.shape == weight.shape[:1])
    if not fits:
        return f"its input {list(x)} does not fit its weights {list(weight.shape)}"
    if prod(weight.shape[2:]) == 1:
        # A stride leaves out points, a padding adds some: the rows of x would not be those of y. With both, their
        # number may be the same.
        if (
            x[2:] != out[2:]
            or _padded(node)
            or any(step != 1 for step in node.attributes.get_ints("strides", []) or [])
        ):
            return f"a {kernel} convolution with a stride or padding"
        return _unless_empty(FcUse(node, "conv", x[0], prod(x[2:]), weight, bias))
    # Such a kernel meets its input at one place only: each image is one row. One that is spread out (dilated) is wider
    # than its input, and meets padding.
    spread = any(step != 1 for step in node.attributes.get_ints("dilations", []) or [])
    if weight.shape[2:] == x[2:] and prod(out[2:]) == 1 and not _padded(node) and not spread:
        return _unless_empty(FcUse(node, "conv", x[0], 1, weight, bias))
    return f"a {kernel} convolution"


def _padded(node: ir.Node) -> bool:
    return any(node.attributes.get_ints("pads", []) or [])


def _unless_empty(use: FcUse) -> FcUse | str:
    sizes = use.matrix().shape
    if min(*sizes, use.rows) < 1:
        return f"it is empty: weights {list(sizes)}, batch {use.rows}"
    return use


def _added_bias(node: ir.Node, form: tuple[int, ...]) -> Constant | None:
    """The bias of an Add that alone consumes the product, one number for each output in the axes of `form`, or None."""
    output = node.outputs[0]
    uses = list(output.uses())
    # Whoever else reads the product reads it without the bias.
    if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    add = uses[0].node
    bias = resolve(add.inputs[1 - uses[0].idx])
    shape = static_shape(output)
    if bias is None or bias.dtype != "FLOAT" or shape is None or len(bias.shape) > len(shape):
        return None
    if prod(bias.shape) == 1:
        return bias
    padded = (1,) * (len(shape) - len(bias.shape)) + bias.shape
    wanted = (1,) * (len(shape) - len(form)) + form
    return bias if padded == wanted else None


def _output(node: ir.Node) -> str:
    return node.outputs[0].name or node.op_type


def _name_uniquely(nodes: Sequence[ir.Node], graph: ir.Graph) -> None:
    """Give layers names that no other node has. Value names are unique in a valid graph, so they help."""
    layers = {id(node) for node in nodes}
    taken = {node.name for node in graph if node.name and id(node) not in layers}
    for node in nodes:
        name = node.name
        if not name or name in taken:
            base = _output(node) if not name else f"{name}:{_output(node)}"
            name, count = base, 2
            while name in taken:
                name, count = f"{base}:{count}", count + 1
            node.name = name
        taken.add(name)


def _by_matrix(uses: Sequence[FcUse]) -> Iterator[tuple[FcUse, ...]]:
    """The uses of each matrix together, in the order of the first ones.

    Equal values are one matrix, however they are stored: exporters write copies, and folding makes some.
    """
    sizes: dict[tuple[int, ...], int] = {}
    for use in uses:
        sizes[use.matrix().shape] = sizes.get(use.matrix().shape, 0) + 1
    groups: dict[object, list[FcUse]] = {}
    # A digest is that of W [out, in], so that one matrix that is stored as rows here and as columns there is found
    # equal.
    digests: dict[tuple[int, Form], str] = {}
    for use in uses:
        alone = sizes[use.matrix().shape] == 1
        key = (id(use.weight.tensor), use.form)
        if not alone and key not in digests:
            digests[key] = sha256(np.ascontiguousarray(use.matrix()).tobytes()).hexdigest()
        groups.setdefault(key if alone else (digests[key], use.matrix().shape), []).append(use)
    yield from map(tuple, groups.values())


def _site(uses: tuple[FcUse, ...]) -> FcSite:
    first = uses[0]
    out_features, in_features = first.matrix().shape
    layer = FcLayer(
        first.node.name or "",
        in_features,
        out_features,
        max(use.rows for use in uses),
        all(use.bias is not None for use in uses),
        first.node.metadata_props.get(FILE_OP, first.node.op_type),
        uses=len(uses),
    )
    return FcSite(layer, uses)


def _check_finite(site: FcSite) -> None:
    for what, constant in (("weights", site.uses[0].weight), ("bias", site.bias)):
        if constant is None:
            continue
        values = np.atleast_2d(constant.array())
        # Row by row: a mask of a whole 400 MB weight would cost another 100 MB.
        bad = sum(row.size - int(np.isfinite(row).sum()) for row in values)
        if bad:
            raise ModelError(
                f"layer {site.layer.name}: {bad} of {values.size} {what} are NaN or Inf; train or export it again"
            )


def _any_nonzero(values: NDArray[Any]) -> bool:
    return any(bool(np.any(row)) for row in values)
