"""ONNX's Conv in TensorFlow, whose kernels on this machine want channels last and no padding of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

Tensor = Any


def conv(x: Sequence[Tensor], a: Mapping[str, Any]) -> Tensor:
    """Conv of x [batch, in, ...] with W [out, in / group, ...] and perhaps a bias [out]."""
    import tensorflow as tf

    value, weight = x[0], x[1]
    rank, group = len(value.shape) - 2, int(a.get("group", 1))
    strides, dilations = (list(a.get(name, [1] * rank)) for name in ("strides", "dilations"))
    pads = _pads(value.shape[2:], weight.shape[2:], strides, dilations, a)
    last = [0, *range(2, rank + 2), 1]
    # ONNX has channels at axis 1, TensorFlow's kernels on a CPU want them last.
    value = tf.pad(tf.transpose(value, last), [[0, 0], *pads, [0, 0]])
    # ONNX: [out, in / group, height, width]; TensorFlow: [height, width, in / group, out].
    kernel = tf.transpose(weight, [*range(2, rank + 2), 1, 0])
    # Gradients of a convolution in groups do not exist on a CPU: each group is one of its own.
    parts = [
        tf.nn.convolution(v, k, strides=strides, padding="VALID", dilations=dilations)
        for v, k in zip(tf.split(value, group, -1), tf.split(kernel, group, -1), strict=True)
    ]
    result = tf.concat(parts, -1)
    result = result if len(x) < 3 or x[2] is None else result + x[2]
    return tf.transpose(result, [0, rank + 1, *range(1, rank + 1)])


def _pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], a: Mapping[str, Any]
) -> list[list[int]]:
    """What is added before and behind each axis of space."""
    kind = a.get("auto_pad", b"NOTSET")
    if kind in (b"NOTSET", b"VALID"):
        given = list(a.get("pads", [0] * 2 * len(sizes))) if kind == b"NOTSET" else [0] * 2 * len(sizes)
        # ONNX lists all beginnings and then all ends: [top, left, bottom, right].
        return [[before, behind] for before, behind in zip(given[: len(sizes)], given[len(sizes) :], strict=True)]
    pads = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        # ONNX's Conv: SAME gives ceil(size / stride) places. An odd number of added rows has its larger half at the end
        # for SAME_UPPER, at the beginning for SAME_LOWER.
        total = max(0, (ceil(size / stride) - 1) * stride + (k - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        pads.append([small, large] if kind == b"SAME_UPPER" else [large, small])
    return pads
