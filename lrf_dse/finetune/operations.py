"""ONNX operations in TensorFlow, one inference at a time: what a network can be trained through.

Owns the meaning of each operation (ONNX operator specification, opset 13 and later) and nothing of training. A model
with an operation that is not here is not trained end to end: its layers are fitted to the training data instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lrf_dse.finetune.convolution import conv

Tensor = Any
"""A TensorFlow tensor; TensorFlow carries no types."""

Attributes = Mapping[str, Any]
Operation = Callable[[Sequence[Tensor], Attributes], Tensor]


def _tf() -> Any:
    import tensorflow

    return tensorflow


def _constant(value: Tensor) -> list[int]:
    """The numbers of a tensor that decides a shape; they are constants of the graph."""
    numbers: list[int] = np.asarray(value).astype(np.int64).ravel().tolist()
    return numbers


def _gemm(x: Sequence[Tensor], a: Attributes) -> Tensor:
    product = _tf().linalg.matmul(x[0], x[1], transpose_a=bool(a.get("transA")), transpose_b=bool(a.get("transB")))
    product = product * a.get("alpha", 1.0)
    return product if len(x) < 3 else product + x[2] * a.get("beta", 1.0)


def _matmul(x: Sequence[Tensor], _: Attributes) -> Tensor:
    tf = _tf()
    left, right = x
    if len(left.shape) == 1 or len(right.shape) == 1:
        return tf.tensordot(left, right, axes=1)
    if len(right.shape) == 2 and len(left.shape) > 2:
        # One product of all rows: TensorFlow would broadcast the weights, and sum their gradient again.
        rows = tf.reshape(left, (-1, left.shape[-1]))
        return tf.reshape(rows @ right, (*left.shape[:-1], right.shape[-1]))
    return left @ right


def _reshape(x: Sequence[Tensor], a: Attributes) -> Tensor:
    sizes = _constant(x[1])
    # In ONNX a size of 0 copies that of the input, unless `allowzero` says that it is meant.
    if not a.get("allowzero"):
        sizes = [x[0].shape[k] if size == 0 else size for k, size in enumerate(sizes)]
    return _tf().reshape(x[0], sizes)


def _flatten(x: Sequence[Tensor], a: Attributes) -> Tensor:
    axis, rank = int(a.get("axis", 1)), len(x[0].shape)
    axis += rank if axis < 0 else 0  # from -rank to rank, which is behind the last axis
    return _tf().reshape(x[0], (int(np.prod(x[0].shape[:axis], dtype=int)), -1))


def _axes(x: Sequence[Tensor], a: Attributes) -> list[int] | None:
    """The axes of a reduction or squeeze: an attribute in older opsets, an input since."""
    if len(x) > 1 and x[1] is not None:
        return _constant(x[1])
    return list(a["axes"]) if "axes" in a else None


def _reduce(name: str) -> Operation:
    def operation(x: Sequence[Tensor], a: Attributes) -> Tensor:
        # ONNX keeps reduced axes by default, TensorFlow drops them.
        return getattr(_tf(), name)(x[0], axis=_axes(x, a), keepdims=bool(a.get("keepdims", 1)))

    return operation


def _unsqueeze(x: Sequence[Tensor], a: Attributes) -> Tensor:
    axes = _axes(x, a) or []
    rank = len(x[0].shape) + len(axes)
    value = x[0]
    for axis in sorted(axis % rank for axis in axes):
        value = _tf().expand_dims(value, axis)
    return value


def _layer_norm(x: Sequence[Tensor], a: Attributes) -> Tensor:
    tf = _tf()
    rank = len(x[0].shape)
    axes = list(range(int(a.get("axis", -1)) % rank, rank))
    mean = tf.reduce_mean(x[0], axes, keepdims=True)
    centred = x[0] - mean
    spread = tf.reduce_mean(tf.square(centred), axes, keepdims=True)
    normed = centred * tf.math.rsqrt(spread + a.get("epsilon", 1e-5)) * x[1]
    return normed if len(x) < 3 or x[2] is None else normed + x[2]


def _batch_norm(x: Sequence[Tensor], a: Attributes) -> Tensor:
    """With the statistics of training, kept as they are."""
    tf = _tf()
    shape = (1, -1, *[1] * (len(x[0].shape) - 2))
    scale, shift, mean, spread = (tf.reshape(value, shape) for value in x[1:5])
    return (x[0] - mean) * tf.math.rsqrt(spread + a.get("epsilon", 1e-5)) * scale + shift


def _clip(x: Sequence[Tensor], a: Attributes) -> Tensor:
    tf = _tf()
    value = x[0]
    if len(x) > 1 and x[1] is not None:
        value = tf.maximum(value, x[1])
    if len(x) > 2 and x[2] is not None:
        value = tf.minimum(value, x[2])
    return value


def _concat(x: Sequence[Tensor], a: Attributes) -> Tensor:
    return _tf().concat(list(x), int(a["axis"]))


def _gather(x: Sequence[Tensor], a: Attributes) -> Tensor:
    return _tf().gather(x[0], x[1], axis=int(a.get("axis", 0)))


def _gelu(x: Sequence[Tensor], a: Attributes) -> Tensor:
    # Texts in attributes are bytes, as protobuf holds them.
    return _tf().nn.gelu(x[0], approximate=a.get("approximate", b"none") == b"tanh")


def _leaky_relu(x: Sequence[Tensor], a: Attributes) -> Tensor:
    # ONNX's default; TensorFlow's is 0.2.
    return _tf().nn.leaky_relu(x[0], alpha=a.get("alpha", 0.01))


def _hard_sigmoid(x: Sequence[Tensor], a: Attributes) -> Tensor:
    # max(0, min(1, alpha x + beta)) with ONNX's defaults; PyTorch's has alpha 1/6, which its exporter writes.
    return _tf().clip_by_value(x[0] * a.get("alpha", 0.2) + a.get("beta", 0.5), 0.0, 1.0)


def _pool(name: str) -> Operation:
    def operation(x: Sequence[Tensor], _: Attributes) -> Tensor:
        # Behind batch and channels.
        axes = list(range(2, len(x[0].shape)))
        return getattr(_tf(), name)(x[0], axes, keepdims=True)

    return operation


def _first(x: Sequence[Tensor], _: Attributes) -> Tensor:
    return x[0]


def _of(name: str) -> Operation:
    """A TensorFlow function `name` (dots lead into its modules) of all inputs."""

    def operation(x: Sequence[Tensor], _: Attributes) -> Tensor:
        function = _tf()
        for part in name.split("."):
            function = getattr(function, part)
        return function(*x)

    return operation


def _softmax(name: str) -> Operation:
    def operation(x: Sequence[Tensor], a: Attributes) -> Tensor:
        # The default since opset 13; before it was 1, over all axes from there on. The canonical form has 13 at least.
        return getattr(_tf().nn, name)(x[0], axis=int(a.get("axis", -1)))

    return operation


OPERATIONS: dict[str, Operation] = {
    "Add": _of("add"),
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": conv,
    "Div": _of("divide"),
    "Dropout": _first,  # training of the plan has none: what is trained is what ships
    "Elu": _of("nn.elu"),
    "Erf": _of("math.erf"),
    "Exp": _of("exp"),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool("reduce_mean"),
    "GlobalMaxPool": _pool("reduce_max"),
    "HardSigmoid": _hard_sigmoid,
    "Identity": _first,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "Log": _of("math.log"),
    "LogSoftmax": _softmax("log_softmax"),
    "MatMul": _matmul,
    "Max": _of("maximum"),
    "Min": _of("minimum"),
    "Mul": _of("multiply"),
    "Neg": _of("negative"),
    "Pow": _of("pow"),
    "ReduceMax": _reduce("reduce_max"),
    "ReduceMean": _reduce("reduce_mean"),
    "ReduceSum": _reduce("reduce_sum"),
    "Relu": _of("nn.relu"),
    "Reshape": _reshape,
    "Sigmoid": _of("sigmoid"),
    "Softmax": _softmax("softmax"),
    "Softplus": _of("math.softplus"),
    "Sqrt": _of("sqrt"),
    "Squeeze": lambda x, a: _tf().squeeze(x[0], _axes(x, a)),
    "Sub": _of("subtract"),
    "Tanh": _of("tanh"),
    "Transpose": lambda x, a: _tf().transpose(x[0], a.get("perm")),
    "Unsqueeze": _unsqueeze,
}
"""By ONNX's name, of the default domain."""
