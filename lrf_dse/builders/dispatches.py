"""Put kernels into an imported module: each operator that stands for one becomes dispatches of an executable of ours.

This file owns the MLIR of that. The imported module gets one hal.executable whose functions call the compiled kernels,
and for each layer a function that dispatches the kernel's phases one after the other:

    bindings of every phase: x and the packed weights (read), scratch and y (written; tied from phase to phase)

Scratch is a result of the first phase that nobody uses in the end, so IREE plans its memory like that of any tensor.
Where a kernel widens its weights at load, an initializer of the module dispatches that once: its packed weights are
x and weights, its y is kept in a global, and that is what the phases get for their weights.
Source: what worked with IREE 3.13; the executable's target must be letter for letter the device's own, or the linker
keeps two binaries apart and looks functions up in the wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_dse.builders.kernel_calls import OPERATOR, DetachedModel, KernelCall, check_sizes
from lrf_dse.errors import BuildError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrf_dse.codegen import KernelCode, Phase

_EXECUTABLE, _VARIANT = "tt_kernels", "generated"
_LEAST_SCRATCH_BYTES = 64  # a binding cannot be empty
_FLOAT_BYTES = 4
_PACKED_OF = "lrf_dse.packed_of"
_BUFFERS = ("x", "weights", "scratch", "y")
# Such as !torch.vtensor<[1,784],f32>.
_TENSOR = re.compile(r"!torch\.vtensor<\[((?:\d+(?:,\d+)*)?)\],f32>")


def entry_points(code: KernelCode) -> str:
    """C to be compiled with a kernel: for each phase the function that the executable calls.

    MLIR passes a buffer as a pointer and an offset in elements.
    """
    buffers = ", ".join(
        f"{'const ' if name in ('x', 'weights') else ''}float *{name}, size_t {name}_at" for name in _BUFFERS
    )
    values = ", ".join(f"{name} + {name}_at" for name in _BUFFERS)
    lines = ["", "/* What IREE calls: buffers come with offsets in elements. */"]
    for phase in code.functions:
        lines.append(f"void {_entry(phase)}({buffers}, size_t group);")
        lines.append(f"void {_entry(phase)}({buffers}, size_t group) {{ {phase.function}({values}, group); }}")
    return "\n".join([*lines, ""])


def insert_dispatches(
    mlir_path: Path, detached: DetachedModel, *, objects: Sequence[Path], executable_target: str
) -> None:
    """Replace every operator of the calls in the module at `mlir_path`, which is rewritten.

    The module was made of the detached model, and `objects` hold its kernels.

    Raises BuildError unless each stands there exactly once, with tensors that fit.
    """
    from iree.compiler import ir

    calls = detached.calls
    with ir.Context(), ir.Location.unknown():
        try:
            module = ir.Module.parse(mlir_path.read_text(encoding="utf-8"))
            found = _operators(module)
            if sorted(found) != sorted(call.operator for call in calls):
                raise BuildError(f"{mlir_path}: expected operators of {len(calls)} kernels, found {sorted(found)}")
            functions = [_replace(ir, found[call.operator], call) for call in calls]
            text = "\n".join([_executable(detached.kernels, objects, executable_target), *functions])
            added = ir.Module.parse(text)
            _give_packed(ir, added, {call.operator: detached.packed(call) for call in calls if call.code.load})
            _prepend(ir, module, added)
            module.operation.verify()
        except ir.MLIRError as error:
            raise BuildError(f"{mlir_path}: kernels could not be put in: {str(error).splitlines()[0]}") from error
        mlir_path.write_text(str(module), encoding="utf-8")


def _operators(module: Any) -> dict[str, Any]:
    """The operations that stand for kernels, by operator. Raises BuildError where one is there twice."""
    found: dict[str, Any] = {}
    for function in module.body.operations:
        for region in function.operation.regions:
            for view in (view for block in region.blocks for view in block.operations):
                op = view.operation
                name = op.attributes["name"].value if op.name == "torch.operator" else ""
                # The importer writes a node of an operator that it does not know as torch.operator "onnx.NAME".
                operator = name.removeprefix("onnx.")
                if operator in found:
                    raise BuildError(f"the imported module holds operator {operator} twice")
                if operator.startswith(OPERATOR):
                    found[operator] = op
    return found


def _replace(ir: Any, op: Any, call: KernelCall) -> str:
    """Put a call of the layer's function in the place of `op`; the text of that function."""
    types = [_tensor(value.type, call) for value in (*op.operands, *op.results)]
    if len(types) != 3:
        raise BuildError(f"layer {call.layer}: its operator has {len(types)} tensors, expected x, weights and y")
    (x_shape, x), (_, weights), (y_shape, y) = types
    check_sizes(call, x_shape, y_shape)
    at = ir.InsertionPoint(op)

    def create(name: str, kind: Any, operands: Sequence[Any], **attributes: Any) -> Any:
        return ir.Operation.create(name, [kind], operands, attributes=attributes, ip=at).result

    given = list(op.operands)[: 1 if call.code.load else 2]  # what is widened at load comes from a global
    operands = [
        # The imported model is in the torch dialect, whose tensors have types of their own; dispatches take builtin
        # ones.
        create("torch_c.to_builtin_tensor", ir.Type.parse(kind), [value])
        for kind, value in zip((x, weights), given, strict=False)
    ]
    callee = ir.FlatSymbolRefAttr.get(_function_name(call))
    result = create("util.call", ir.Type.parse(y), operands, callee=callee)
    result = create("torch_c.from_builtin_tensor", op.results[0].type, [result])
    op.results[0].replace_all_uses_with(result)
    op.erase()
    return _function(call, x=x, weights=weights, y=y)


def _tensor(kind: Any, call: KernelCall) -> tuple[tuple[int, ...], str]:
    """The shape, and the builtin type, of a torch tensor type."""
    match = _TENSOR.fullmatch(str(kind))
    if match is None:
        raise BuildError(f"layer {call.layer}: a tensor of type {kind}; kernels take float32 of a known shape")
    shape = tuple(int(size) for size in match.group(1).split(",") if size)
    return shape, f"tensor<{''.join(f'{size}x' for size in shape)}f32>"


def _prepend(ir: Any, module: Any, added: Any) -> None:
    first = module.body.operations[0]
    for view in list(added.body.operations):
        op = view.operation
        op.detach_from_parent()
        ir.InsertionPoint(first).insert(op)


def _entry(phase: Phase) -> str:
    return f"{phase.function}_entry"


def _function_name(call: KernelCall) -> str:
    return f"call_{call.operator}"


def _function(call: KernelCall, *, x: str, weights: str, y: str) -> str:
    """The function of a layer: its kernel's phases, each after the one before."""
    scratch = _floats(max(call.code.scratch_bytes, _LEAST_SCRATCH_BYTES))
    lines, copy = [], _copy(call)
    if call.code.load:
        lines += _loading(call, call.code.load, weights, copy)
        lines += [f"util.func private @{_function_name(call)}(%x: {x}) -> {y} {{"]
        lines += [f"  %weights = util.global.load @{_copy_name(call)} : {copy}"]
        weights = copy
    else:
        lines += [f"util.func private @{_function_name(call)}(%x: {x}, %weights: {weights}) -> {y} {{"]
    # The first phase gets no scratch and no y: both are its results, for which IREE finds memory.
    operands, types, results = "%x, %weights", f"{x}, {weights}", f"({scratch}, {y})"
    for number, phase in enumerate(call.code.phases):
        made = f"%scratch_{number}, %y_{number}"
        target = f"@{_EXECUTABLE}::@{_VARIANT}::@{phase.function}"
        lines.append(f"  {made} = flow.dispatch {target}({operands}) : ({types}) -> {results}")
        operands, types = f"%x, %weights, {made}", f"{x}, {weights}, {scratch}, {y}"
        # Operands as results tie the two: the next phase goes on in the same memory, and nothing is copied.
        results = f"({made})"
    return "\n".join([*lines, f"  util.return %y_{len(call.code.phases) - 1} : {y}", "}"])


def _loading(call: KernelCall, load: Phase, weights: str, copy: str) -> list[str]:
    """The global that holds the copy of a layer's weights, and what makes it when the module is loaded."""
    scratch = _floats(_LEAST_SCRATCH_BYTES)
    dispatch = f"flow.dispatch @{_EXECUTABLE}::@{_VARIANT}::@{load.function}(%packed, %packed)"
    return [
        f"util.global private @{_copy_name(call)} : {copy}",
        "util.initializer {",
        f'  %packed = tensor.empty() {{{_PACKED_OF} = "{call.operator}"}} : {weights}',
        f"  %none, %copy = {dispatch} : ({weights}, {weights}) -> ({scratch}, {copy})",
        f"  util.global.store %copy, @{_copy_name(call)} : {copy}",
        "  util.return",
        "}",
    ]


def _give_packed(ir: Any, added: Any, packed: Mapping[str, NDArray[np.float32]]) -> None:
    """Put the constants of the initializers in, by the operators' names; as text they would be long."""
    for initializer in [view.operation for view in added.body.operations if view.operation.name == "util.initializer"]:
        place = initializer.regions[0].blocks[0].operations[0].operation
        words = packed[place.attributes[_PACKED_OF].value]
        value = ir.DenseElementsAttr.get(np.ascontiguousarray(words))
        constant = ir.Operation.create(
            "arith.constant", [place.results[0].type], attributes={"value": value}, ip=ir.InsertionPoint(place)
        )
        place.results[0].replace_all_uses_with(constant.result)
        place.erase()


def _copy_name(call: KernelCall) -> str:
    return f"copy_{call.operator}"


def _copy(call: KernelCall) -> str:
    """The type of the copy of a layer's weights.

    iree-compile runs an initializer while it compiles, on this machine, unless a type is one that it cannot do this
    with: pairs of floats are. (A mutable global it makes immutable first, when nothing else stores to it.)
    """
    return f"tensor<{call.code.copy_bytes // (2 * _FLOAT_BYTES)}xcomplex<f32>>"


def _floats(size_bytes: int) -> str:
    """The type of a buffer of so many bytes."""
    return f"tensor<{-(-size_bytes // _FLOAT_BYTES)}xf32>"


def _executable(kernels: Sequence[KernelCode], objects: Sequence[Path], executable_target: str) -> str:
    """The executable of all kernels: what they take, how many workgroups, and the calls of the compiled functions."""
    phases = [phase for code in kernels for phase in code.functions]
    # Names without folders: iree-compile runs where the objects are.
    files = ", ".join(f'#hal.executable.object<{{path = "{path.name}"}}>' for path in objects)
    bindings = ", ".join(
        # What is only read may lie in the constants of the module.
        f"#hal.pipeline.binding<storage_buffer{', ReadOnly' if name in ('x', 'weights') else ''}>"
        for name in _BUFFERS
    )
    return "\n".join(
        [
            f"#target = {executable_target}",
            f"#layout = #hal.pipeline.layout<bindings = [{bindings}]>",
            f"hal.executable private @{_EXECUTABLE} {{",
            f"  hal.executable.variant public @{_VARIANT} target(#target) objects([{files}]) {{",
            *(_export(phase) for phase in phases),
            "    builtin.module {",
            *(_kernel(phase) for phase in phases),
            "    }",
            "  }",
            "}",
        ]
    )


def _export(phase: Phase) -> str:
    return f"""\
    hal.executable.export public @{phase.function} layout(#layout)
        count(%device: !hal.device) -> (index, index, index) {{
      %groups = arith.constant {phase.workgroups} : index
      %one = arith.constant 1 : index
      hal.return %groups, %one, %one : index, index, index
    }}"""


def _kernel(phase: Phase) -> str:
    """The function of a phase: the bindings as pointers and offsets, and the number of the workgroup."""
    # hal.import.static: the function comes from one of the objects. llvm.bareptr: a memref is passed as a pointer, not
    # as a descriptor. The memref<1xf32> says nothing of a size; kernels know theirs.
    types = ", ".join([*("memref<f32>, index" for _ in _BUFFERS), "index"])
    values = ", ".join([*(f"%base_{i}, %offset_{i}" for i in range(len(_BUFFERS))), "%group"])
    spans = "\n".join(
        f"""\
        %span_{i} = hal.interface.binding.subspan layout(#layout) binding({i}) alignment(64) offset(%zero)
            : memref<1xf32>
        %base_{i}, %offset_{i}, %size_{i}, %stride_{i} = iree_codegen.extract_strided_metadata %span_{i}
            : memref<1xf32> -> memref<f32>, index, index, index"""
        for i in range(len(_BUFFERS))
    )
    return f"""\
      func.func private @{_entry(phase)}({types}) attributes {{hal.import.static, llvm.bareptr = true}}
      func.func @{phase.function}() {{
        %zero = arith.constant 0 : index
        %group = hal.interface.workgroup.id[0] : index
{spans}
        func.call @{_entry(phase)}({values}) : ({types}) -> ()
        return
      }}"""
