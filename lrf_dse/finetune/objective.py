"""What training minimises: the task's loss, mixed with distillation from the dense model.

Classes: cross-entropy with the labels, and with the dense model's softened answers (Hinton et al. 2015). Values: the
mean squared error to the targets, and to the dense model's answers. Without labels the dense model alone teaches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import onnx

Tensor = Any
Kind = Literal["classes", "values"]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of an output, what the dense model answers, and the labels (None without), all with samples along axis 0."""

DISTILLATION = 0.9
"""The share of the dense model's answers where there are labels as well: LeNet-300-100 at x22 loses half a point less
with 0.9 at temperature 4 than with 0.5 at 2."""

TEMPERATURE = 4.0
"""What the scores of both models are divided by for distillation; see DISTILLATION for how it was chosen."""


def objective(kind: Kind, model: onnx.ModelProto) -> Loss:
    """The loss of `model`'s first output, a mean over samples. Classes lie on its last axis."""
    if kind == "values":
        return _values
    probabilities = _ends_in_softmax(model)

    def classes(output: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
        import tensorflow as tf

        scores, teacher = (_log(value) if probabilities else value for value in (output, taught))
        soft = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(teacher / TEMPERATURE), scores / TEMPERATURE)
        # Slopes of softened answers fall with 1 / T^2; this makes them comparable with those of the labels (Hinton et
        # al., arXiv 1503.02531, section 2).
        distilled = tf.reduce_mean(soft) * TEMPERATURE**2
        if labels is None:
            return distilled
        labels = tf.reshape(labels, scores.shape[:-1])
        hard = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))
        return (1 - DISTILLATION) * hard + DISTILLATION * distilled

    return classes


def _values(output: Tensor, taught: Tensor, targets: Tensor) -> Tensor:
    import tensorflow as tf

    distilled = tf.reduce_mean(tf.square(output - taught))
    if targets is None:
        return distilled
    exact = tf.reduce_mean(tf.square(output - tf.reshape(tf.cast(targets, tf.float32), output.shape)))
    return (1 - DISTILLATION) * exact + DISTILLATION * distilled


def _ends_in_softmax(model: onnx.ModelProto) -> bool:
    first = model.graph.output[0].name
    return any(node.op_type == "Softmax" and first in node.output for node in model.graph.node)


def _log(probabilities: Tensor) -> Tensor:
    import tensorflow as tf

    # log p differs from the scores by a number that is the same for all classes, which a softmax does not see.
    return tf.math.log(tf.maximum(probabilities, 1e-9))
