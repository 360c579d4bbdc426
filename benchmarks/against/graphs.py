"""One TT layer as ONNX graphs for compilers: as t3f computes it, and without transposes. Owns these forms only.

t3f 1.2.0, ops.tt_dense_matmul: for k = d..1: data = einsum('aijb,rjb->ira', G_k, data), then a reshape; at the end
[M, K] with the batch K last. TensorFlow and its exporters write that einsum as a product over (j b) and a transpose
of its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.against.contractions import Contraction
from lrf_dse.tt.contraction import Core

if TYPE_CHECKING:
    import onnx

T3fForm = Literal["state", "weight"]
"""Which operand of the product comes first: data x G^T, then [r, i, a] -> [i, r, a]; or G x data^T, then [i, a, r] ->
[i, r, a]. Both compute the same einsum; compilers treat them differently."""

T3F_FORMS: tuple[T3fForm, ...] = ("state", "weight")

OPSET, IR_VERSION = 17, 8


def t3f_model(way: Contraction, cores: Sequence[Core], form: T3fForm) -> onnx.ModelProto:
    """The layer as t3f computes it from the last core; first core first is its mirror image.

    `cores` are the layer's. Raises ValueError for an order that begins in the middle: t3f has none.
    """
    if not way.from_an_end:
        raise ValueError(f"t3f contracts from an end, not in the {way.name}")
    graph = _Graph()
    compute = _from_the_first if way.order[0] == 0 else _from_the_last
    return graph.model(way, compute(graph, way.cores(cores), way.batch, form))


def transpose_free_model(way: Contraction, cores: Sequence[Core]) -> onnx.ModelProto:
    """The layer as S'[l] = A S[l], stage by stage (DESIGN.md section 2), in any order.

    Each stage in the form that compilers like (lrf_dse/models/chain.py): a batched MatMul only where it must be.
    """
    graph = _Graph()
    data = "x"
    for stage, matrix in zip(way.stages, way.matrices(cores), strict=True):
        count = stage.count
        if count.columns == 1:
            data = graph.matmul(graph.reshape(data, (count.batches, count.k)), graph.constant(matrix.T))
        else:
            shape = (count.k, count.columns) if count.batches == 1 else (count.batches, count.k, count.columns)
            data = graph.matmul(graph.constant(matrix), graph.reshape(data, shape))
    return graph.model(way, graph.reshape(data, (way.batch, way.shape.out_features)))


def dense_model(weight: Core, batch: int, *, transposed: bool) -> onnx.ModelProto:
    """A dense layer with W [M, N] stored [N, M] for a MatMul, or as it is for W x^T (`transposed`)."""
    graph = _Graph()
    rows, inner = weight.shape
    if not transposed:
        y = graph.matmul("x", graph.constant(weight.T))
    else:
        y = graph.matmul(
            graph.constant(weight), graph.reshape("x", (inner, 1)) if batch == 1 else graph.transpose("x", (1, 0))
        )
        y = graph.reshape(y, (1, rows)) if batch == 1 else graph.transpose(y, (1, 0))
    return graph.finish((batch, inner), y, (batch, rows))


def _from_the_last(graph: _Graph, cores: Sequence[Core], batch: int, form: T3fForm) -> str:
    """Data is [r, (j b)] with r = the rest of the state, its last index next to be contracted."""
    size = batch * prod(core.shape[2] for core in cores)
    data = "x"
    for core in reversed(cores):
        a, i, j, b = core.shape
        rows = size // (j * b)
        data = graph.reshape(data, (rows, j * b))
        if form == "state":
            weight = core.transpose(2, 3, 1, 0).reshape(j * b, i * a)
            product = graph.reshape(graph.matmul(data, graph.constant(weight)), (rows, i, a))
            data = graph.transpose(product, (1, 0, 2))
        else:
            weight = core.transpose(1, 0, 2, 3).reshape(i * a, j * b)
            product = graph.matmul(graph.constant(weight), graph.transpose(data, (1, 0)))
            data = graph.transpose(graph.reshape(product, (i, a, rows)), (0, 2, 1)) if a > 1 else product
        size = rows * i * a
    if batch == 1:
        return graph.reshape(data, (1, size))
    return graph.transpose(graph.reshape(data, (size // batch, batch)), (1, 0))


def _from_the_first(graph: _Graph, cores: Sequence[Core], batch: int, form: T3fForm) -> str:
    """Data is [(a j), r], its first index next to be contracted: einsum('aijb,ajr->bri', G_k, data)."""
    size = batch * prod(core.shape[2] for core in cores)
    data = graph.transpose("x", (1, 0)) if batch > 1 else "x"
    for core in cores:
        a, i, j, b = core.shape
        rows = size // (a * j)
        data = graph.reshape(data, (a * j, rows))
        if form == "state":
            weight = core.transpose(0, 2, 3, 1).reshape(a * j, b * i)
            product = graph.matmul(graph.transpose(data, (1, 0)), graph.constant(weight))
            data = graph.transpose(graph.reshape(product, (rows, b, i)), (1, 0, 2)) if b > 1 else product
        else:
            weight = core.transpose(3, 1, 0, 2).reshape(b * i, a * j)
            product = graph.reshape(graph.matmul(graph.constant(weight), data), (b, i, rows))
            data = graph.transpose(product, (0, 2, 1))
        size = rows * b * i
    return graph.reshape(data, (batch, size // batch))


class _Graph:
    """The nodes of a straight line of operations; values are known by name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        return self._node("Reshape", value, self.constant(np.array(shape, np.int64)))

    def matmul(self, left: str, right: str) -> str:
        return self._node("MatMul", left, right)

    def transpose(self, value: str, perm: Sequence[int]) -> str:
        return self._node("Transpose", value, perm=list(perm))

    def constant(self, array: NDArray[np.generic]) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def model(self, way: Contraction, y: str) -> onnx.ModelProto:
        """`finish` with the ports of the layer of `way`."""
        return self.finish((way.batch, way.shape.in_features), y, (way.batch, way.shape.out_features))

    def finish(self, in_shape: Sequence[int], y: str, out_shape: Sequence[int]) -> onnx.ModelProto:
        """The model x -> y of these nodes; `y` must be the result of the last one."""
        from onnx import TensorProto, helper

        assert self.nodes[-1].output[0] == y, "the result must come from the last node"
        self.nodes[-1].output[0] = "y"
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in (("x", in_shape), ("y", out_shape))
        ]
        graph = helper.make_graph(self.nodes, "layer", ports[:1], ports[1:], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _node(self, kind: str, *inputs: str, perm: list[int] | None = None) -> str:
        from onnx import helper

        output = f"value_{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [output])
        if perm is not None:
            node.attribute.append(helper.make_attribute("perm", perm))
        self.nodes.append(node)
        return output
