"""Take the calls of generated kernels out of a model, and generate the kernels.

What `lrf_dse.models.kernel_call` writes is read here: each call of a function becomes a node of an operator that no
compiler knows, with x and the packed weights as inputs, and a kernel to be put in its place (`dispatches`). Layers with
the same specification and schedule share one kernel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_dse.builders.schedule import HALF_TOLERANCE, TOLERANCE
from lrf_dse.codegen import KernelCode, KernelSchedule, KernelSpec, default_schedule, pack
from lrf_dse.codegen.abi import LOAD
from lrf_dse.codegen.choice import has_half
from lrf_dse.errors import BuildError
from lrf_dse.jsonform import from_json, problem_of
from lrf_dse.models.kernel_call import DOMAIN, SCHEDULE, SPEC
from lrf_dse.target import Target
from lrf_dse.tt.grid import Stored

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from lrf_dse.tt.contraction import Core

OPERATOR = "LrfDseKernel"
"""Prefix of the operators that stand for kernels, numbered in order of appearance."""

KERNEL = "tt_kernel_"
"""Prefix of the C functions of kernels, numbered in the same way."""

Emitter = Callable[[KernelSpec, KernelSchedule, str], KernelCode]
"""Makes the C of a kernel, its functions named after the third argument."""


@dataclass(frozen=True)
class KernelCall:
    """One layer in the model: its operator, its name, and the kernel that computes it."""

    operator: str
    layer: str
    spec: KernelSpec
    schedule: KernelSchedule
    code: KernelCode


@dataclass(frozen=True, eq=False)
class DetachedModel:
    """A model without functions, and the calls whose operators it holds."""

    model: onnx.ModelProto
    calls: tuple[KernelCall, ...]

    @property
    def kernels(self) -> tuple[KernelCode, ...]:
        """Every kernel once, in order of first use."""
        return tuple(dict.fromkeys(call.code for call in self.calls))

    def packed(self, call: KernelCall) -> NDArray[np.float32]:
        """The packed weights [words] of a call."""
        from onnx import numpy_helper

        name = _weights_of(call)
        return numpy_helper.to_array(next(t for t in self.model.graph.initializer if t.name == name))


def detach_kernels(model: onnx.ModelProto, target: Target, emit: Emitter) -> DetachedModel:
    """`model` with an operator in the place of each call, its weights packed; kernels come from `emit`.

    A call without a schedule gets the target's default one. Raises BuildError for calls that are not as
    `lrf_dse.models.kernel_call` writes them.
    """
    import onnx

    if not any(node.domain == DOMAIN for node in model.graph.node):
        return DetachedModel(model, ())
    detached = onnx.ModelProto()
    detached.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in detached.graph.initializer}
    # Layers of one size share a kernel: its code is in the module once, and only their weights differ.
    known: dict[tuple[KernelSpec, KernelSchedule], KernelCode] = {}
    calls: list[KernelCall] = []
    for node in detached.graph.node:
        if node.domain != DOMAIN:
            continue
        spec, schedule = _attributes(node, target)
        packed = _packed(node, spec, schedule, weights)
        try:
            code = known.setdefault((spec, schedule), emit(spec, schedule, f"{KERNEL}{len(known)}"))
        except ValueError as error:
            raise BuildError(f"layer {node.name}: no kernel for schedule {schedule}: {error}") from error
        if packed.nbytes != code.weight_bytes:
            raise BuildError(f"layer {node.name}: packed {packed.nbytes} bytes for a kernel of {code.weight_bytes}")
        calls.append(KernelCall(f"{OPERATOR}{len(calls)}", node.name, spec, schedule, code))
        _replace(detached.graph, node, calls[-1], packed)
    _drop_unused(detached)
    return DetachedModel(detached, tuple(calls))


def tolerance_of(model: onnx.ModelProto, target: Target) -> float:
    """What the outputs of `model` may be off by, of the largest one: more where kernels compute in half precision."""
    calls = (node for node in model.graph.node if node.domain == DOMAIN)
    halves = has_half(target) and any(_attributes(node, target)[0].few_bits for node in calls)
    return HALF_TOLERANCE if halves else TOLERANCE


def _attributes(node: onnx.NodeProto, target: Target) -> tuple[KernelSpec, KernelSchedule]:
    texts = {attribute.name: attribute.s.decode() for attribute in node.attribute}
    if SPEC not in texts:
        raise BuildError(f"layer {node.name}: its call has no {SPEC}")
    spec: KernelSpec = _value(node, SPEC, texts[SPEC], KernelSpec)
    if SCHEDULE not in texts:
        return spec, default_schedule(spec, target)
    return spec, _value(node, SCHEDULE, texts[SCHEDULE], KernelSchedule)


def _value(node: onnx.NodeProto, name: str, text: str, kind: type) -> Any:
    try:
        return from_json(kind, json.loads(text))
    except ValueError as error:
        raise BuildError(f"layer {node.name}: its {name} is not one: {problem_of(error)[:200]}") from error


def _packed(
    node: onnx.NodeProto, spec: KernelSpec, schedule: KernelSchedule, weights: Mapping[str, onnx.TensorProto]
) -> NDArray[np.float32]:
    from onnx import numpy_helper

    missing = [name for name in node.input[1:] if name not in weights]
    if missing:
        raise BuildError(f"layer {node.name}: its weights {', '.join(missing)} are no constants of the model")
    arrays = [numpy_helper.to_array(weights[name]) for name in node.input[1:]]
    bias = arrays.pop() if spec.has_bias else None
    try:
        given = _stored(arrays, spec)
        return pack(given[0] if spec.shape is None else given, bias, spec, schedule)
    except ValueError as error:
        raise BuildError(f"layer {node.name}: schedule {schedule} does not fit it: {error}") from error


def _stored(arrays: list[NDArray[Any]], spec: KernelSpec) -> list[Core | Stored]:
    """The weights of a call: each array of fp32 a core, else codes, with their scales where they have some."""
    if not spec.few_bits:
        return list(arrays)
    given: list[Core | Stored] = []
    rest = iter(arrays)
    for storage, codes in zip(spec.core_storages, rest, strict=False):
        scales = next(rest, None) if storage in ("int8", "int4") else None
        given.append(codes if storage == "fp32" else Stored(storage, codes, scales))
    if next(rest, None) is not None or len(given) != len(spec.core_shapes):
        raise ValueError(f"{len(arrays)} constants for cores in {', '.join(spec.core_storages)}")
    return given


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, call: KernelCall, packed: NDArray[np.float32]) -> None:
    from onnx import numpy_helper

    name = _weights_of(call)
    graph.initializer.append(numpy_helper.from_array(packed, name))
    node.op_type = call.operator
    del node.input[1:]
    node.input.append(name)
    del node.attribute[:]


def is_load(function: str) -> bool:
    """Whether a function of an executable is what a kernel of ours does at load."""
    return function.startswith(KERNEL) and function.endswith(LOAD)


def _weights_of(call: KernelCall) -> str:
    return f"{call.operator}.weights"


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove the functions, and the constants that only their calls used."""
    kept = [function for function in model.functions if function.domain != DOMAIN]
    del model.functions[:]
    model.functions.extend(kept)
    used = {name for node in model.graph.node for name in _names_used(node)}
    used |= {output.name for output in model.graph.output}
    unused = [index for index, tensor in enumerate(model.graph.initializer) if tensor.name not in used]
    # From the end, so that the remaining indices stay right.
    for index in reversed(unused):
        del model.graph.initializer[index]


def _names_used(node: onnx.NodeProto) -> set[str]:
    """What a node reads, its nested graphs included."""
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    inner += [graph for attribute in node.attribute for graph in attribute.graphs]
    return set(node.input).union(*(_names_used(inside) for graph in inner for inside in graph.node))


def check_sizes(call: KernelCall, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
    """Raise BuildError unless tensors of these shapes hold the rows that the kernel of `call` reads and writes."""
    sizes = (call.spec.batch * call.spec.in_features, call.spec.batch * call.spec.out_features)
    if (prod(x_shape), prod(y_shape)) != sizes:
        raise BuildError(
            f"layer {call.layer}: its kernel makes {sizes[1]} values of {sizes[0]}, tensors are {x_shape}, {y_shape}"
        )
