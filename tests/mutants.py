"""Broken model files, as many as one likes: small sound models changed at random, the same ones for the same seed.

A mutant is changed in its structure (sizes, types, names, edges, nodes, attributes, versions) or in its bytes. Most are
no models any more; what matters is that whoever reads them says so in one line.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
from builders.zoo import ZOO
from explored import tiny_proto
from models.graphs import model, node, values
from onnx import TensorProto, helper, numpy_helper

Mutation = Callable[[onnx.ModelProto, random.Random], None]

SIZES = (0, -1, 1, 2, 3, 7, 64, 4096, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
NAMES = ("", "x", "y", "h", "fc0", "a\nb", "\x1b[31mred", "=1+1", "名前", "../x", "w0", "none", "%s{}", "a" * 300)
OPS = ("Gemm", "MatMul", "Relu", "Identity", "Transpose", "Cast", "Add", "Conv", "Reshape", "Constant", "If", "Loop")
OPS += ("DequantizeLinear", "Einsum", "Softmax", "Concat", "Split", "Unsqueeze", "Shape", "Gather", "NoSuchOperator")


def behind_transposes() -> onnx.ModelProto:
    """A weight behind Identity and Transpose nodes, a Constant node, and an Add that is the bias."""
    nodes = [
        node("Identity", ["w"], ["w_same"]),
        node("Transpose", ["w_same"], ["w_t"], perm=[1, 0]),
        node("MatMul", ["x", "w_t"], ["a"], "fc"),
        node("Constant", [], ["b"], value=numpy_helper.from_array(values(20))),
        node("Add", ["a", "b"], ["h"]),
        node("Cast", ["half"], ["w2"], to=TensorProto.FLOAT),
        node("MatMul", ["h", "w2"], ["y"], "fc_half"),
    ]
    constants = {"w": values(20, 12), "half": values(20, 5).astype(np.float16)}
    return model(nodes, inputs={"x": (2, 12)}, outputs={"y": (2, 5)}, constants=constants)


def with_function() -> onnx.ModelProto:
    """A layer inside a local function that is called twice."""
    body = [node("Gemm", ["a", "w", "b"], ["c"], "fc", transB=1, alpha=0.5), node("Relu", ["c"], ["d"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "Dense", ["a", "w", "b"], ["d"], body, opsets[:1])
    nodes = [
        helper.make_node("Dense", ["x", "w0", "b0"], ["h"], "first", domain="local"),
        helper.make_node("Dense", ["h", "w1", "b1"], ["y"], "second", domain="local"),
    ]
    constants = {"w0": values(9, 7), "b0": values(9), "w1": values(4, 9), "b1": values(4)}
    made = model(nodes, inputs={"x": ("N", 7)}, outputs={"y": ("N", 4)}, constants=constants)
    del made.opset_import[:]
    made.opset_import.extend(opsets)
    made.functions.append(function)
    return made


def with_branches() -> onnx.ModelProto:
    """An If whose bodies hold layers."""
    bodies = [
        helper.make_graph(
            [node("MatMul", ["x", f"w_{name}"], [f"{name}_out"], f"fc_{name}")],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, (1, 5))],
        )
        for name in ("then", "else")
    ]
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["h"], then_branch=bodies[0], else_branch=bodies[1]),
        node("Gemm", ["h", "w"], ["y"], "fc"),
    ]
    constants = {"w_then": values(8, 5), "w_else": values(8, 5), "w": values(5, 3), "zero": np.float32(0) * values(1)}
    constants["zero"] = np.asarray(0, np.float32)
    return model(nodes, inputs={"x": (1, 8)}, outputs={"y": (1, 3)}, constants=constants)


SOUND: tuple[Callable[[], onnx.ModelProto], ...] = (
    tiny_proto,
    lambda: tiny_proto(batch="N"),
    behind_transposes,
    with_function,
    with_branches,
    *ZOO,
)


@cache
def _sound(index: int) -> bytes:
    return SOUND[index]().SerializeToString()


def mutant(seed: int) -> bytes:
    """The bytes of mutant number `seed`: one to three changes of a sound model."""
    pick = random.Random(seed)
    data = _sound(pick.randrange(len(SOUND)))
    if pick.random() < 0.25:
        for _ in range(pick.choice((1, 1, 2, 8))):
            data = _change_bytes(data, pick)
        return data
    proto = onnx.ModelProto()
    proto.ParseFromString(data)
    for _ in range(pick.choice((1, 1, 1, 2, 3))):
        pick.choice(MUTATIONS)(proto, pick)
    data = proto.SerializeToString()
    # Names that are not UTF-8 exist in bytes alone: protobuf for Python does not write them.
    return data.replace(b"fc", b"\xff\xfe") if pick.random() < 0.02 else data


def _change_bytes(data: bytes, pick: random.Random) -> bytes:
    if not data:
        return data
    at = pick.randrange(len(data))
    end = min(len(data), at + pick.choice((1, 2, 4, 16, 300)))
    match pick.randrange(6):
        case 0:
            return data[:at] + bytes([data[at] ^ (1 << pick.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:at] + data[at:end] * 2 + data[end:]
        case 3:
            return data[:at] + pick.randbytes(end - at) + data[end:]
        case 4:
            return data[:at] + pick.randbytes(3) + data[at:]
        case _:
            return data[:at]


def _values(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]


def _nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [*proto.graph.node, *(each for function in proto.functions for each in function.node)]


def _one(choices: list, pick: random.Random):
    return pick.choice(choices) if choices else None


def size_of_a_value(proto: onnx.ModelProto, pick: random.Random) -> None:
    value = _one(_values(proto), pick)
    dims = value.type.tensor_type.shape.dim if value is not None else []
    if not dims:
        return
    dim = pick.choice(list(dims))
    match pick.randrange(4):
        case 0:
            dim.dim_param = pick.choice(NAMES)
        case 1:
            dim.Clear()
        case 2:
            dim.dim_value = max(-(2**63), min(2**63 - 1, dim.dim_value + pick.choice((-1, 1))))
        case _:
            dim.dim_value = pick.choice(SIZES)


def same_size_everywhere(proto: onnx.ModelProto, pick: random.Random) -> None:
    """Another batch in every input and output: what a converter that goes wrong writes."""
    size = pick.choice(SIZES)
    for value in _values(proto):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = size


def rank_of_a_value(proto: onnx.ModelProto, pick: random.Random) -> None:
    value = _one(_values(proto), pick)
    if value is None:
        return
    shape = value.type.tensor_type.shape
    if pick.random() < 0.3:
        value.type.tensor_type.ClearField("shape")
    elif pick.random() < 0.5 and shape.dim:
        del shape.dim[pick.randrange(len(shape.dim))]
    else:
        shape.dim.add().dim_value = pick.choice((1, 2, 5))


def type_of_a_value(proto: onnx.ModelProto, pick: random.Random) -> None:
    value = _one(_values(proto), pick)
    if value is not None and pick.random() < 0.8:
        value.type.tensor_type.elem_type = pick.randrange(27)
    elif value is not None:
        value.type.Clear()
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1


def size_of_a_constant(proto: onnx.ModelProto, pick: random.Random) -> None:
    tensor = _one(list(proto.graph.initializer), pick)
    if tensor is None or not tensor.dims:
        return
    at = pick.randrange(len(tensor.dims))
    match pick.randrange(4):
        case 0:
            tensor.dims[at] = pick.choice(SIZES)
        case 1:
            tensor.dims.append(1)
        case 2:
            tensor.dims.reverse()
        case _:
            kept = list(tensor.dims)
            kept.insert(at, 1)
            del tensor.dims[:]
            tensor.dims.extend(kept)


def sizes_of_a_constant(proto: onnx.ModelProto, pick: random.Random) -> None:
    """A constant of another size that is sound by itself, where the model wants the old one."""
    tensor = _one(list(proto.graph.initializer), pick)
    if tensor is not None:
        shape = [pick.choice((1, 2, 5, 8, 32, 64)) for _ in range(pick.choice((len(tensor.dims), 1, 2)))]
        tensor.CopyFrom(numpy_helper.from_array(values(*shape), tensor.name))


def type_of_a_constant(proto: onnx.ModelProto, pick: random.Random) -> None:
    tensor = _one(list(proto.graph.initializer), pick)
    if tensor is not None:
        tensor.data_type = pick.randrange(27)


def data_of_a_constant(proto: onnx.ModelProto, pick: random.Random) -> None:
    tensor = _one(list(proto.graph.initializer), pick)
    if tensor is None:
        return
    match pick.randrange(6):
        case 0:
            tensor.raw_data = tensor.raw_data[: pick.randrange(len(tensor.raw_data) + 1)]
        case 1:
            tensor.raw_data = tensor.raw_data + b"\0" * pick.choice((1, 4, 400))
        case 2:
            tensor.raw_data = bytes(len(tensor.raw_data))
        case 3:
            tensor.raw_data = pick.randbytes(len(tensor.raw_data))
        case 4:
            tensor.ClearField("raw_data")
            tensor.float_data.extend([0.5] * pick.choice((0, 1, 7, 200)))
        case _:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key=pick.choice(("location", "offset")), value=pick.choice(NAMES))


def operator(proto: onnx.ModelProto, pick: random.Random) -> None:
    changed = _one(_nodes(proto), pick)
    if changed is not None and pick.random() < 0.85:
        changed.op_type = pick.choice(OPS)
    elif changed is not None:
        changed.domain = pick.choice(("com.microsoft", "local", "ai.onnx.ml", "no.such"))


def edge(proto: onnx.ModelProto, pick: random.Random) -> None:
    """Another input or output of a node: an unknown value, a cycle, one too many, one too few, none."""
    changed = _one(_nodes(proto), pick)
    if changed is None:
        return
    side = changed.input if pick.random() < 0.7 else changed.output
    known = [name for each in _nodes(proto) for name in (*each.input, *each.output)]
    match pick.randrange(4):
        case 0 if side:
            side[pick.randrange(len(side))] = pick.choice((*NAMES, *known))
        case 1 if side:
            del side[pick.randrange(len(side))]
        case 2:
            side.append(pick.choice(known or ["x"]))
        case _:
            del side[:]


def attribute(proto: onnx.ModelProto, pick: random.Random) -> None:
    changed = _one([each for each in _nodes(proto) if each.attribute], pick)
    if changed is None:
        return
    at = pick.randrange(len(changed.attribute))
    value = changed.attribute[at]
    match pick.randrange(6):
        case 0:
            del changed.attribute[at]
        case 1:
            value.i = pick.choice(SIZES)
        case 2:
            value.f = pick.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
        case 3:
            value.type = pick.choice(list(onnx.AttributeProto.AttributeType.values()))
        case 4:
            value.ints.append(pick.choice(SIZES))
        case _:
            value.name = pick.choice((*NAMES, "perm", "transA", "transB", "axis"))


def new_attribute(proto: onnx.ModelProto, pick: random.Random) -> None:
    changed = _one(_nodes(proto), pick)
    if changed is not None:
        name = pick.choice(("alpha", "beta", "transA", "transB", "perm", "axis", "to"))
        number = pick.choice((0, 1, 2, -1, 0.0, -1.0, [0, 0], [1, 0], [5]))
        changed.attribute.append(helper.make_attribute(name, number))


def nodes(proto: onnx.ModelProto, pick: random.Random) -> None:
    """A node too few, twice, or in another order."""
    where = proto.graph.node
    if not where:
        return
    at = pick.randrange(len(where))
    kept = list(where)
    match pick.randrange(3):
        case 0:
            del kept[at]
        case 1:
            kept.insert(at, kept[at])
        case _:
            pick.shuffle(kept)
    copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in kept]
    del where[:]
    where.extend(copies)


def name(proto: onnx.ModelProto, pick: random.Random) -> None:
    chosen = pick.choice(NAMES)
    changed = _one([*_nodes(proto), *_values(proto), *proto.graph.initializer, proto.graph], pick)
    changed.name = chosen


def chain(proto: onnx.ModelProto, pick: random.Random) -> None:
    """A long chain of Identity or Transpose nodes before what a node reads."""
    where = [each for each in proto.graph.node if each.input]
    if not where:
        return
    changed, length = pick.choice(where), pick.choice((1, 3, 50, 1500))
    at = pick.randrange(len(changed.input))
    operators = pick.choice((("Identity",), ("Transpose",), ("Identity", "Transpose")))
    links = [f"link{k}" for k in range(length)]
    made = [
        helper.make_node(pick.choice(operators), [before], [after])
        for before, after in zip([changed.input[at], *links], links, strict=False)
    ]
    changed.input[at] = links[-1]
    rest = [onnx.NodeProto.FromString(each.SerializeToString()) for each in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend([*made, *rest])


def ports(proto: onnx.ModelProto, pick: random.Random) -> None:
    side = pick.choice((proto.graph.input, proto.graph.output))
    match pick.randrange(4):
        case 0 if side:
            del side[pick.randrange(len(side))]
        case 1:
            value = _one([each for each in _nodes(proto) if each.output], pick)
            side.add().name = value.output[0] if value is not None else "none"
        case 2 if side:
            side.append(side[0])
        case _:
            shape = pick.choice(([1], [], [2, 3], ["N"], None))
            side.append(helper.make_tensor_value_info(pick.choice(NAMES), pick.randrange(17), shape))


def versions(proto: onnx.ModelProto, pick: random.Random) -> None:
    match pick.randrange(3):
        case 0:
            proto.ir_version = pick.choice((0, 1, 3, 4, 7, 13, 14, 99, 2**62))
        case 1:
            del proto.opset_import[:]
        case _:
            proto.opset_import.append(helper.make_opsetid(pick.choice(("", "ai.onnx", "com.microsoft")), 1))
            proto.opset_import[-1].version = pick.choice((0, 1, 7, 12, 13, 18, 21, 23, 26, 27, 2**40, -1))


def more_of_a_model(proto: onnx.ModelProto, pick: random.Random) -> None:
    """Parts that most models do not have: functions, sparse constants, metadata, training."""
    match pick.randrange(4):
        case 0:
            proto.functions.append(
                helper.make_function("local", "Dense", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [])
            )
            proto.graph.node.append(helper.make_node("Dense", ["x", "x"], ["z"], domain="local"))
            proto.opset_import.append(helper.make_opsetid("local", 1))
        case 1:
            sparse = proto.graph.sparse_initializer.add()
            sparse.dims.extend([4, 4])
            sparse.values.CopyFrom(numpy_helper.from_array(values(2), pick.choice(NAMES)))
        case 2:
            proto.metadata_props.add(key=pick.choice(NAMES), value=pick.choice(NAMES))
        case _:
            proto.training_info.add()


MUTATIONS: tuple[Mutation, ...] = (
    size_of_a_value,
    same_size_everywhere,
    rank_of_a_value,
    type_of_a_value,
    size_of_a_constant,
    sizes_of_a_constant,
    type_of_a_constant,
    data_of_a_constant,
    operator,
    edge,
    attribute,
    new_attribute,
    nodes,
    name,
    chain,
    ports,
    versions,
    more_of_a_model,
)
