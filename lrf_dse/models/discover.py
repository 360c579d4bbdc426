"""Find the FC layers of an ONNX graph, and say why a node that looks like one is not taken.

    Gemm      y = alpha op(A) op(B) + beta C, with B constant
    MatMul    y = A B with B a constant matrix, followed or not by Add of a constant vector

Owns the reading of weights in the form y = W x + b with W [out, in]. It changes only node names: FC nodes
without a name, or with one that is taken, get a unique one made from their output value's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import ModelError
from lrf_dse.models.constants import Constant, converted_from, resolve
from lrf_dse.schema import FcLayer

if TYPE_CHECKING:
    import onnx_ir as ir

Array = NDArray[np.float32]

INTEGER_OPS = (
    "MatMulInteger",
    "QLinearMatMul",
    "QGemm",
    "MatMulNBits",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
)


@dataclass(frozen=True)
class Skipped:
    """A node that holds weights like an FC layer but is not one we can work on."""

    name: str
    reason: str


@dataclass(frozen=True)
class FcSite:
    """Where an FC layer stands in the graph, and how to read its weights from there.

    `transposed` says that `weight` is stored [in, out]. `bias` is the constant that is added (Gemm's C or
    the operand of the Add that follows), None if there is none or if it is not constant.
    """

    layer: FcLayer
    node: ir.Node
    weight: Constant
    transposed: bool
    alpha: float
    bias: Constant | None
    beta: float

    def weights(self) -> tuple[Array, Array | None]:
        """W [out, in] with alpha folded in, and b [out] with beta folded in.

        b is [batch, out] where the model adds another vector to every row. W may be a view of the
        model's own memory and is read-only.
        """
        weight = self.weight.array()
        weight = weight.T if self.transposed else weight
        if self.alpha != 1.0:
            weight = weight * np.float32(self.alpha)
        weight = weight.view()
        weight.flags.writeable = False
        return weight, None if self.bias is None else self._bias_rows(self.bias.array())

    def _bias_rows(self, bias: NDArray[Any]) -> Array:
        rows = np.atleast_2d(bias) * np.float32(self.beta)
        rows = rows.reshape(-1, rows.shape[-1])
        if len(rows) == 1:
            return np.ascontiguousarray(np.broadcast_to(rows[0], (self.layer.out_features,)))
        return np.ascontiguousarray(np.broadcast_to(rows, (len(rows), self.layer.out_features)))


def discover(graph: ir.Graph) -> tuple[tuple[FcSite, ...], tuple[Skipped, ...]]:
    """The FC layers of `graph` in execution order, and what was passed over, with the reason.

    Raises ModelError if a weight holds NaN or Inf. Nodes inside If, Loop and Scan bodies are not looked at.
    """
    sites: list[FcSite] = []
    skipped: list[Skipped] = []
    for node in graph:
        found = _examine(node)
        if isinstance(found, FcSite):
            sites.append(found)
        elif found is not None:
            skipped.append(Skipped(node.name or _output(node), found))
    named = tuple(_with_unique_names(sites, graph))
    for site in named:
        _check_finite(site)
    zero = {site.layer.name for site in named if site.alpha == 0.0 or not _any_nonzero(site.weight.array())}
    skipped += [Skipped(name, "all weights are zero: nothing to factorise") for name in sorted(zero)]
    return tuple(site for site in named if site.layer.name not in zero), tuple(skipped)


def _examine(node: ir.Node) -> FcSite | str | None:
    """The layer, or the reason why there is none, or None for a node that has nothing to do with it."""
    if node.op_type in INTEGER_OPS:
        return f"{node.op_type} computes in integers; only float32 weights are supported"
    if node.op_type == "Conv":
        return _examine_conv(node)
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("Gemm", "MatMul"):
        return None
    left, right = node.inputs[0], node.inputs[1]
    weight = resolve(right)
    if weight is None:
        source = converted_from(right)
        if source is not None:
            return f"weights are stored as {source}; only float32 weights are supported"
        if resolve(left) is not None or converted_from(left) is not None:
            return "the constant is on the left; only a constant on the right is a layer of the form y = W x + b"
        return "the second operand is not constant" if node.op_type == "Gemm" else None
    if weight.dtype != "FLOAT":
        return f"weights are {weight.dtype}; only float32 (FLOAT) is supported"
    if len(weight.shape) != 2:
        return f"weights have shape {list(weight.shape)}; only a matrix is supported"
    if resolve(left) is not None:
        return "both operands are constant"
    return _gemm(node, weight) if node.op_type == "Gemm" else _matmul(node, weight)


def _examine_conv(node: ir.Node) -> str | None:
    kernel = resolve(node.inputs[1])
    if kernel is None or any(size != 1 for size in kernel.shape[2:]):
        return None
    return "a 1x1 convolution; only Gemm and MatMul are supported so far"


def _gemm(node: ir.Node, weight: Constant) -> FcSite | str:
    shape = static_shape(node.inputs[0])
    if shape is None:
        return "the shape of its input is not known before run time"
    batch, inputs = reversed(shape) if is_set(node, "transA") else shape
    transposed = not is_set(node, "transB")
    if inputs != weight.shape[0 if transposed else 1]:
        return f"its input {list(shape)} does not fit its weights {list(weight.shape)}"
    beta = node.attributes.get_float("beta", 1.0)
    bias = resolve(node.inputs[2]) if len(node.inputs) > 2 and beta != 0.0 else None
    rows = (batch, weight.shape[1 if transposed else 0])
    if bias is not None and not _spreads(bias.shape, rows):
        return f"its bias {list(bias.shape)} does not fit its output {list(rows)}"
    alpha = node.attributes.get_float("alpha", 1.0)
    return _site(node, weight, transposed, batch=batch, bias=bias, alpha=alpha, beta=beta)


def _spreads(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of `shape` may be added to one of `target` without making it larger."""
    aligned = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in aligned)


def _matmul(node: ir.Node, weight: Constant) -> FcSite | str:
    shape = static_shape(node.inputs[0])
    if shape is None:
        return "the shape of its input is not known before run time"
    return _site(node, weight, True, batch=prod(shape[:-1]), bias=_added_vector(node, weight.shape[1]))


def _site(
    node: ir.Node,
    weight: Constant,
    transposed: bool,
    *,
    batch: int,
    bias: Constant | None,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> FcSite | str:
    sizes = tuple(reversed(weight.shape)) if transposed else weight.shape
    if min(*sizes, batch) < 1:
        return f"it is empty: weights {list(sizes)}, batch {batch}"
    layer = FcLayer(node.name or "", sizes[1], sizes[0], batch, bias is not None, node.op_type)
    return FcSite(layer, node, weight, transposed, alpha, bias, beta)


def _added_vector(node: ir.Node, out_features: int) -> Constant | None:
    """The bias [out] of an Add that alone consumes the MatMul, or None."""
    output = node.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    add = uses[0].node
    bias = resolve(add.inputs[1 - uses[0].idx])
    if bias is None or bias.dtype != "FLOAT" or prod(bias.shape) not in (1, out_features):
        return None
    shape = static_shape(output)
    if shape is None or len(bias.shape) > len(shape) or prod(bias.shape[:-1]) != 1:
        return None
    return bias


def bias_input(node: ir.Node) -> tuple[ir.Node, int]:
    """The node that adds the constant bias of an FC layer, and which of its inputs that is: Gemm's C, or an Add's."""
    if node.op_type == "Gemm":
        return node, 2
    use = next(iter(node.outputs[0].uses()))
    return use.node, 1 - use.idx


def is_set(node: ir.Node, name: str) -> bool:
    """Whether the integer attribute `name`, such as Gemm's transA, is there and not 0."""
    attribute = node.attributes.get(name)
    return attribute is not None and attribute.as_int() != 0


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of `value` if every size is a known number, else None."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return tuple(int(size) for size in value.shape.numpy())


def _output(node: ir.Node) -> str:
    return node.outputs[0].name or node.op_type


def _with_unique_names(sites: list[FcSite], graph: ir.Graph) -> Iterator[FcSite]:
    """`sites` with names that no other node has. Value names are unique in a valid graph, so they help."""
    layers = {id(site.node) for site in sites}
    taken = {node.name for node in graph if node.name and id(node) not in layers}
    for site in sites:
        name = site.node.name
        if not name or name in taken:
            base = _output(site.node) if not name else f"{name}:{_output(site.node)}"
            name, count = base, 2
            while name in taken:
                name, count = f"{base}:{count}", count + 1
            site.node.name = name
        taken.add(name)
        yield replace(site, layer=replace(site.layer, name=name))


def _check_finite(site: FcSite) -> None:
    for what, constant in (("weights", site.weight), ("bias", site.bias)):
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
