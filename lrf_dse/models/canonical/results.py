"""Which outputs of a model are kept: tensors of numbers, or those that the user names.

A program for a board has tensors as results. Sequences, maps and strings, as classifiers of scikit-learn give them, are
left out, and the tensor that a ZipMap makes them from takes their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrf_dse.errors import ModelError, UsageError

if TYPE_CHECKING:
    import onnx

ML_DOMAIN = "ai.onnx.ml"


def choose_outputs(proto: onnx.ModelProto, wanted: Sequence[str], notes: list[str]) -> None:
    """Keep the outputs that are `wanted`, or without any those that a program can give; `notes` name the others."""
    graph = proto.graph
    stand_ins = _open_zipmaps(graph)
    if wanted:
        _keep(graph, [stand_ins.get(name, name) for name in wanted], wanted)
        return
    kept = [value for value in graph.output if _is_numbers(value)]
    probabilities = [value for value in kept if value.name in stand_ins.values()]
    if not kept:
        kinds = ", ".join(f"{value.name!r} ({_kind(value)})" for value in graph.output)
        raise ModelError(f"no output is a tensor of numbers: {kinds}; export it with a tensor as output")
    if probabilities or any(node.domain == ML_DOMAIN for node in graph.node):
        # A learner gives an integer label beside its scores. `learners` can write out the scores alone, so the label
        # goes.
        scores = probabilities or [value for value in kept if _is_float(value)]
        kept = scores or kept
    for value in graph.output:
        if value not in kept:
            notes.append(
                f"output {value.name!r} ({_kind(value)}) is left out"
                + (f"; --output {value.name} keeps it" if _is_numbers(value) else "")
            )
    _keep(graph, [value.name for value in kept], ())
    notes += [
        f"output {given!r} (a sequence of maps) is left out: the tensor {tensor!r} that it is made of is the output"
        for given, tensor in stand_ins.items()
    ]


def _open_zipmaps(graph: onnx.GraphProto) -> dict[str, str]:
    """Put the tensor behind each ZipMap among the outputs, in the place of what it makes; the tensor's name by that."""
    import onnx

    found: dict[str, str] = {}
    for node in [node for node in graph.node if node.op_type == "ZipMap" and node.domain == ML_DOMAIN]:
        index = next((k for k, value in enumerate(graph.output) if value.name in node.output), None)
        if index is None or not node.input or not node.output:
            continue
        tensor = node.input[0]
        found[node.output[0]] = tensor
        # A row of one number for each class: more is not said of a ZipMap's operand.
        value = onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, [None, None])
        others = [output for k, output in enumerate(graph.output) if k != index]
        if all(output.name != tensor for output in others):
            others.insert(index, value)
        del graph.output[:]
        graph.output.extend(others)
        graph.node.remove(node)
    return found


def _keep(graph: onnx.GraphProto, names: Sequence[str], asked: Sequence[str]) -> None:
    values = {value.name: value for value in graph.output}
    for name, said in zip(names, asked, strict=False):
        if name not in values:
            raise UsageError(f"it has no output {said!r}; its outputs are {', '.join(values)}")
        if not _is_numbers(values[name]):
            raise UsageError(f"output {said!r} is {_kind(values[name])}, not a tensor of numbers; choose another")
    kept = [values[name] for name in dict.fromkeys(names)]
    del graph.output[:]
    graph.output.extend(kept)


def _is_numbers(value: onnx.ValueInfoProto) -> bool:
    from onnx import TensorProto

    kind = value.type.WhichOneof("value")
    # An output without a type gets one by inference.
    return kind is None or (kind == "tensor_type" and value.type.tensor_type.elem_type != TensorProto.STRING)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    from onnx import TensorProto

    return value.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def _kind(value: onnx.ValueInfoProto) -> str:
    from onnx import TensorProto

    kind = value.type.WhichOneof("value") or "of unknown type"
    if kind != "tensor_type":
        return {"sequence_type": "a sequence", "map_type": "a map", "optional_type": "optional"}.get(kind, kind)
    code = value.type.tensor_type.elem_type
    return f"a tensor of {TensorProto.DataType.Name(code).lower() if code in TensorProto.DataType.values() else code}"
