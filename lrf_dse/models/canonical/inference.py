"""ONNX's checker and its inference of shapes, on a model whose big constants stand aside: both copy what they get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrf_dse.errors import ModelError
from lrf_dse.models.canonical.tensors import BIG_BYTES
from lrf_dse.models.canonical.words import checker_line
from lrf_dse.models.evaluate import session_of

if TYPE_CHECKING:
    import onnx


def checked(proto: onnx.ModelProto, *, sized: bool) -> onnx.ModelProto:
    """`proto` without local functions, valid and with shapes. Raises ModelError with the checker's words.

    Where dynamic axes were `sized`, the bodies of functions and branches may still say what holds for other sizes: then
    onnxruntime decides whether the model is valid.
    """
    import onnx

    try:
        proto = _inlined(proto)
        onnx.checker.check_model(proto)
        for value in proto.graph.output:
            # The checker wants a shape, but one without a size only says a rank, which may be of other sizes.
            if not any(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
                value.type.tensor_type.ClearField("shape")
        return _inferred(proto, sized=sized)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        # ValueError: an unknown element type. RuntimeError: an assertion in ONNX's C++, such as the inliner's about a
        # call with too many inputs.
        what = "does not fit these sizes of its axes (--batch, --dim)" if sized else "is not a valid ONNX model"
        raise ModelError(f"{what}: {checker_line(error)}") from error


def _inferred(proto: onnx.ModelProto, *, sized: bool) -> onnx.ModelProto:
    """`proto` with the shapes that follow from its inputs'. See `checked` for `sized`; raises what ONNX does."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        if not sized:
            raise
        try:
            session_of(proto, optimise=False)
        except ModelError:
            pass
        else:
            return proto
        raise


def set_aside(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Take big initializers out of `graph`, leaving inputs of the same name, type and shape."""
    import onnx

    big = {tensor.name: tensor for tensor in graph.initializer if tensor.ByteSize() > BIG_BYTES}
    small = [tensor for tensor in graph.initializer if tensor.name not in big]
    for tensor in big.values():
        # Inference reads the values of small constants alone (targets of Reshape, axes); of a weight it needs type and
        # shape.
        graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del graph.initializer[:]
    graph.initializer.extend(small)
    return big


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """`proto` without local functions."""
    import onnx.inliner

    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    _say_one_sided(proto.graph)
    return proto


def _say_one_sided(graph: onnx.GraphProto) -> None:
    """Write the default of STFT's `onesided`, which ONNX 1.23 takes for 0 when it infers the shape: twice the bins."""
    import onnx

    for node in graph.node:
        if node.op_type == "STFT" and all(attribute.name != "onesided" for attribute in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("onesided", 1))
