"""Versions of an ONNX model: what is refused, and what is converted up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrf_dse.errors import ModelError

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 5
"""The oldest that ONNX's converter brings up by rules; 7 changed broadcasting."""

LEAST_OPSET = 13
"""Older models are converted: from here on the axes of Squeeze, Split and the like are inputs."""

CONVERTED_OPSET = 17
"""What older models are converted to: the oldest with LayerNormalization, and one that every compiler here knows."""

NEWEST_OPSET = 26
"""The newest opset that onnxruntime 1.31, which evaluates the model, accepts."""

LEAST_IR, NEWEST_IR = 8, 13
"""IR 8 came with local functions, which plans use; 13 is the newest that onnxruntime 1.31 reads."""

# ONNX's specification of its IR gives the domain of the standard operations two names.
STANDARD = ("", "ai.onnx")


def check_header(proto: onnx.ModelProto) -> None:
    """Refuse a model without opset or nodes; bring its IR version into the range that all tools read."""
    # Both names of the domain may stand in one file; their versions must then be the same.
    versions = sorted({entry.version for entry in proto.opset_import if entry.domain in STANDARD})
    if not versions:
        raise ModelError(f"names no ONNX opset; export it again with opset {LEAST_OPSET} or newer")
    if len(versions) > 1:
        raise ModelError(f"names the ONNX opsets {', '.join(map(str, versions))}, not one of them; export it again")
    proto.ir_version = min(max(proto.ir_version, LEAST_IR), NEWEST_IR)
    if not proto.graph.node:
        raise ModelError("the graph has no nodes: there is nothing to compress")


def opset_of(proto: onnx.ModelProto) -> int | None:
    """The version of the standard operations that `proto` imports, None if it imports none."""
    return max((entry.version for entry in proto.opset_import if entry.domain in STANDARD), default=None)


def converted_opset(proto: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    """`proto` in an opset that is supported. Raises ModelError where it cannot be converted."""
    import onnx.version_converter

    version = opset_of(proto)
    assert version is not None, "check_header() was first"
    if LEAST_OPSET <= version <= NEWEST_OPSET:
        return proto
    wanted = CONVERTED_OPSET if version < LEAST_OPSET else NEWEST_OPSET
    if version < OLDEST_OPSET or version > onnx.defs.onnx_opset_version():
        raise ModelError(
            f"opset {version} is not supported; export it with opset {OLDEST_OPSET} to {onnx.defs.onnx_opset_version()}"
        )
    names = [node.name for node in proto.graph.node]
    try:
        converted = onnx.version_converter.convert_version(proto, wanted)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"opset {version} cannot be converted to {wanted}: {reason}; export it with opset {LEAST_OPSET} or newer"
        ) from error
    if len(names) == len(converted.graph.node):  # the converter drops some names, and keeps the order
        for node, name in zip(converted.graph.node, names, strict=True):
            node.name = node.name or name
    notes.append(f"converted from opset {version} to {wanted}")
    return converted
