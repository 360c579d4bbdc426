"""Weights in few bits as plain ONNX operators: codes and scales in the file, what makes numbers of them in the graph.

    fp16   Cast
    int8   Cast, and Mul with one scale for each row
    int4   DequantizeLinear in blocks of 32 along K, its fp16 scales cast; a Transpose where MatMul wants [K, rows].
           That needs opset 21: the whole model is converted. Where it cannot be, the codes are int8 and a Mul scales

So onnxruntime computes with exactly the numbers that the kernels see. It would not with DequantizeLinear right before
MatMul: onnxruntime 1.31 makes MatMulNBits of the two, which rounds the activations to 8 bits by default (0.4 % of max
|y| on a layer of 70 inputs). The model's other operators and its names stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrf_dse.tt.grid import GROUP, Stored, spread

if TYPE_CHECKING:
    import onnx

_Parts: TypeAlias = "tuple[list[onnx.TensorProto], list[onnx.NodeProto]]"

BLOCKS_OPSET = 21
"""The first opset in which DequantizeLinear knows blocks and int4."""


@dataclass(frozen=True, eq=False)
class _Laid:
    """What is stored, and how its matrix [rows, K] lies in the file: transposed or not, with this shape."""

    stored: Stored
    transposed: bool
    shape: tuple[int, ...]

    @property
    def has_blocks(self) -> bool:
        """Whether K is one axis of the file's array: a convolution's window cuts it into several."""
        return all(size == 1 for size in self.shape[2:])

    def laid(self, matrix: NDArray[np.generic], shape: tuple[int, ...] | None = None) -> NDArray[np.generic]:
        """A matrix [rows, ...] as it lies in the file."""
        turned = matrix.T if self.transposed else matrix
        return np.ascontiguousarray(turned.reshape(turned.shape if shape is None else shape))


def in_few_bits(model: onnx.ModelProto, stored: Iterable[Stored]) -> onnx.ModelProto:
    """`model` with every constant that holds the values of one of `stored` kept as its codes and scales.

    Constants are found by their values, as they are or transposed, so that every use of a layer is found.
    """
    found = dict(_found(model, [one for one in stored if one.storage != "fp32"]))
    if not found:
        return model
    made = _copy(model)
    if any(laid.stored.storage == "int4" for laid in found.values()):
        made = _converted(made)
    blocks = _opset(made) >= BLOCKS_OPSET
    nodes: list[onnx.NodeProto] = []
    kept = [tensor for tensor in made.graph.initializer if tensor.name not in found]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    for name, laid in found.items():
        constants, own = _parts(name, laid, blocks=blocks)
        made.graph.initializer.extend(constants)
        nodes.extend(own)
    others = list(made.graph.node)
    del made.graph.node[:]
    # ONNX wants producers before their users, and these read constants alone.
    made.graph.node.extend([*nodes, *others])
    return made


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _found(model: onnx.ModelProto, stored: Iterable[Stored]) -> Iterator[tuple[str, _Laid]]:
    """The constants that hold what is stored, by name."""
    from onnx import TensorProto, numpy_helper

    known: dict[tuple[int, bytes], tuple[Stored, bool]] = {}
    for one in stored:
        known[_digest(one.values)] = one, False
        # setdefault: a symmetric matrix is found as it is, without a Transpose.
        known.setdefault(_digest(np.ascontiguousarray(one.values.T)), (one, True))
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        array = numpy_helper.to_array(tensor)
        match = known.get(_digest(array))
        if match is not None:
            yield tensor.name, _Laid(*match, tuple(array.shape))


def _digest(values: NDArray[np.generic]) -> tuple[int, bytes]:
    """The first size and the bytes: a matrix and its transpose may hold the same bytes, but not in the same shape."""
    return values.shape[0], sha256(np.ascontiguousarray(values).tobytes()).digest()


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset that knows blocks; as it is where it cannot be converted."""
    import onnx
    from onnx import version_converter

    if _opset(model) >= BLOCKS_OPSET:
        return model
    try:
        converted = version_converter.convert_version(model, BLOCKS_OPSET)
        onnx.checker.check_model(converted)
    except (RuntimeError, ValueError, onnx.checker.ValidationError):  # no adapter for an operator
        return model
    return converted


def _opset(model: onnx.ModelProto) -> int:
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _parts(name: str, laid: _Laid, *, blocks: bool) -> _Parts:
    """The constants and nodes that give the value `name`."""
    if laid.stored.scales is None:
        return _in_half(name, laid)
    if laid.stored.storage == "int4" and blocks and laid.has_blocks:
        return _in_blocks(name, laid)
    return _scaled(name, laid)


def _in_half(name: str, laid: _Laid) -> _Parts:
    """The constants and nodes that give the value `name` of fp16."""
    from onnx import numpy_helper

    half = numpy_helper.from_array(laid.laid(laid.stored.codes, laid.shape), f"{name}.fp16")
    return [half], [_cast(half.name, name)]


def _in_blocks(name: str, laid: _Laid) -> _Parts:
    """The constants and nodes that give the value `name` of int4 where K is one axis."""
    from onnx import TensorProto, helper, numpy_helper

    stored = laid.stored
    assert stored.scales is not None
    window = () if laid.transposed else laid.shape[2:]
    shape = (*stored.codes.shape, *window)
    codes = helper.make_tensor(f"{name}.int4", TensorProto.INT4, shape, _nibbles(stored.codes), raw=True)
    scales = numpy_helper.from_array(stored.scales.reshape(*stored.scales.shape, *window), f"{name}.scales")
    single, matrix = f"{name}.scales_single", f"{name}.rows" if laid.transposed else name
    nodes = [
        # DequantizeLinear gives the type of its scales: they are made single before it.
        _cast(scales.name, single),
        helper.make_node(
            "DequantizeLinear", [codes.name, single], [matrix], f"{name}.dequantize", axis=1, block_size=GROUP
        ),
    ]
    if laid.transposed:
        nodes.append(helper.make_node("Transpose", [matrix], [name], f"{name}.transpose", perm=[1, 0]))
    return [codes, scales], nodes


def _scaled(name: str, laid: _Laid) -> _Parts:
    """The constants and nodes that give the value `name` of int8, or of int4 where blocks cannot be written.

    In the second case the file has each code in a byte of its own, and a scale for each.
    """
    from onnx import helper, numpy_helper

    stored = laid.stored
    assert stored.scales is not None
    codes = numpy_helper.from_array(laid.laid(stored.codes, laid.shape), f"{name}.int8")
    scales = stored.scales.astype(np.float32)
    shape = (1, len(scales)) if laid.transposed else (len(scales), *(1 for _ in laid.shape[1:]))
    if stored.storage == "int4":
        scales, shape = np.ascontiguousarray(spread(scales, stored.codes.shape[1])), laid.shape
    laid_scales = numpy_helper.from_array(laid.laid(scales, shape), f"{name}.scales")
    nodes = [
        _cast(codes.name, f"{name}.codes"),
        helper.make_node("Mul", [f"{name}.codes", laid_scales.name], [name], f"{name}.scale"),
    ]
    return [codes, laid_scales], nodes


def _cast(name: str, to: str) -> onnx.NodeProto:
    from onnx import TensorProto, helper

    return helper.make_node("Cast", [name], [to], f"{to}.cast", to=TensorProto.FLOAT)


def _nibbles(codes: NDArray[np.generic]) -> bytes:
    """int4 as ONNX packs it: in row-major order, the first of two in the low half of a byte."""
    # Two's complement: -8 is 0x8 and -1 is 0xF.
    flat = np.asarray(codes, np.int8).reshape(-1).astype(np.uint8) & 0xF
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return (flat[::2] | flat[1::2] << 4).astype(np.uint8).tobytes()
