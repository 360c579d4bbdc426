"""Train a small transformer encoder on digits read as 16 patches; write model.onnx, calibration.npz, validation.npz.

Owns the bundled example only; the tool never imports it. Run it from anywhere:

    python examples/patches/train.py [--out FOLDER]

It shows what tokens are to the tool: every layer but the last is a MatMul on [batch, 16 tokens, features]. The seed is
fixed and TensorFlow runs its deterministic kernels.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lrf_dse.models.evaluate import outputs

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

HERE = Path(__file__).parent
DIGITS = HERE.parent / "lenet300" / "mnist10k.npz"
SEED = 2025
TRAIN = 8_000
CALIBRATION = 2_000
EPOCHS = 30
BATCH = 128
PATCH, TOKENS = 7, 16
WIDTH, HIDDEN, HEADS, BLOCKS, CLASSES = 96, 384, 4, 2, 10
OPSET = 17

Weights = dict[str, Array]
"""Kernels [in, out] and vectors by name: embed, position, b0.query, b0.norm1.gamma, ..., head.bias."""


def patches(images: Array) -> Array:
    """Images [n, 28, 28] as 16 tokens of 49 values each, in reading order: [n, 16, 49]."""
    side = images.shape[1] // PATCH
    grid = images.reshape(-1, side, PATCH, side, PATCH).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(grid.reshape(len(images), TOKENS, PATCH * PATCH))


def load_digits(path: Path) -> tuple[Array, Labels]:
    """Images [10000, 28, 28] scaled to 0..1, and labels [10000]."""
    with np.load(path) as archive:
        return archive["images"].astype(np.float32) / np.float32(255), archive["labels"].astype(np.int64)


def shifted(images: Array, rng: np.random.Generator, pixels: int = 2) -> Array:
    """Every image moved by its own random offset of up to `pixels`, zero filled."""
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels)))
    size = images.shape[1]
    down, right = rng.integers(0, 2 * pixels + 1, size=(2, len(images), 1))
    rows, columns = down + np.arange(size), right + np.arange(size)
    moved: Array = padded[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved


def train(images: Array, labels: Labels) -> Weights:
    """The weights after training on `images`."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    layers = tf.keras.layers
    tokens = tf.keras.Input((TOKENS, PATCH * PATCH))
    state = layers.Dense(WIDTH, name="embed")(tokens)
    state = _position_layer()(state)
    for block in range(BLOCKS):
        state = _block(state, f"b{block}")
    state = layers.LayerNormalization(epsilon=1e-5, name="norm")(state)
    logits = layers.Dense(CLASSES, name="head")(tf.keras.ops.mean(state, axis=1))
    network = tf.keras.Model(tokens, logits)
    steps = EPOCHS * (len(images) // BATCH)
    network.compile(
        optimizer=tf.keras.optimizers.AdamW(tf.keras.optimizers.schedules.CosineDecay(2e-3, steps), weight_decay=1e-3),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        x, y = patches(shifted(images[order], rng)), labels[order]
        for start in range(0, len(x) - BATCH + 1, BATCH):
            network.train_on_batch(x[start : start + BATCH], y[start : start + BATCH])
    return {
        f"{layer.name}.{weight.name}": np.asarray(weight, np.float32)
        for layer in network.layers
        for weight in layer.weights
    }


def _position_layer():  # type: ignore[no-untyped-def]
    """A layer that adds a learned vector to every token."""
    import tensorflow as tf

    class Position(tf.keras.layers.Layer):
        def build(self, shape: tuple[int, ...]) -> None:
            self.bias = self.add_weight(shape=shape[1:], initializer="random_normal", name="bias")

        def call(self, state):  # type: ignore[no-untyped-def]
            return state + self.bias

    return Position(name="position")


def _block(state, name: str):  # type: ignore[no-untyped-def]
    """One pre-norm encoder block with attention in plain Dense layers, so that each is one MatMul."""
    import tensorflow as tf

    layers, ops = tf.keras.layers, tf.keras.ops

    def heads(x):  # type: ignore[no-untyped-def]
        return ops.transpose(ops.reshape(x, (-1, TOKENS, HEADS, WIDTH // HEADS)), (0, 2, 1, 3))

    normed = layers.LayerNormalization(epsilon=1e-5, name=f"{name}.norm1")(state)
    query, key, value = (
        heads(layers.Dense(WIDTH, name=f"{name}.{part}")(normed)) for part in ("query", "key", "value")
    )
    scores = ops.softmax(query @ ops.transpose(key, (0, 1, 3, 2)) * (WIDTH // HEADS) ** -0.5)
    mixed = ops.reshape(ops.transpose(scores @ value, (0, 2, 1, 3)), (-1, TOKENS, WIDTH))
    state = state + layers.Dropout(0.1)(layers.Dense(WIDTH, name=f"{name}.out")(mixed))
    normed = layers.LayerNormalization(epsilon=1e-5, name=f"{name}.norm2")(state)
    hidden = layers.Dense(HIDDEN, activation="relu", name=f"{name}.up")(normed)
    return state + layers.Dropout(0.1)(layers.Dense(WIDTH, name=f"{name}.down")(hidden))


class _Graph:
    """Collects nodes and constants; every method returns the name of the value that it adds."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(self, kind: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def dense(self, name: str, x: str) -> str:
        kernel = self.constant(f"{name}.weight", self.weights[f"{name}.kernel"])
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.op("Add", f"{name}.sum", self.op("MatMul", name, x, kernel), bias)

    def norm(self, name: str, x: str) -> str:
        scale = self.constant(f"{name}.gamma", self.weights[f"{name}.gamma"])
        shift = self.constant(f"{name}.beta", self.weights[f"{name}.beta"])
        return self.op("LayerNormalization", name, x, scale, shift, axis=-1, epsilon=1e-5)

    def reshape(self, name: str, x: str, shape: Sequence[int]) -> str:
        return self.op("Reshape", name, x, self.constant(f"{name}.shape", np.array(shape, np.int64)))

    def heads(self, name: str, x: str, perm: Sequence[int]) -> str:
        split = self.reshape(f"{name}.split", self.dense(name, x), (1, TOKENS, HEADS, WIDTH // HEADS))
        return self.op("Transpose", f"{name}.heads", split, perm=list(perm))

    def block(self, name: str, state: str) -> str:
        normed = self.norm(f"{name}.norm1", state)
        query = self.heads(f"{name}.query", normed, (0, 2, 1, 3))
        key = self.heads(f"{name}.key", normed, (0, 2, 3, 1))
        value = self.heads(f"{name}.value", normed, (0, 2, 1, 3))
        scale = self.constant("attention.scale", np.float32((WIDTH // HEADS) ** -0.5))
        scores = self.op("Mul", f"{name}.scaled", self.op("MatMul", f"{name}.scores", query, key), scale)
        mixed = self.op("MatMul", f"{name}.mixed", self.op("Softmax", f"{name}.softmax", scores, axis=-1), value)
        joined = self.op("Transpose", f"{name}.tokens", mixed, perm=[0, 2, 1, 3])
        joined = self.reshape(f"{name}.joined", joined, (1, TOKENS, WIDTH))
        state = self.op("Add", f"{name}.attended", state, self.dense(f"{name}.out", joined))
        up = self.op("Relu", f"{name}.hidden", self.dense(f"{name}.up", self.norm(f"{name}.norm2", state)))
        return self.op("Add", f"{name}.end", state, self.dense(f"{name}.down", up))


def to_onnx(weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The network with batch fixed at 1: tokens [1, 16, 49] to logits [1, 10]."""
    graph = _Graph(weights)
    position = graph.constant("position", weights["position.bias"])
    state = graph.op("Add", "placed", graph.dense("embed", "tokens"), position)
    for block in range(BLOCKS):
        state = graph.block(f"b{block}", state)
    pooled = graph.op("ReduceMean", "pooled", graph.norm("norm", state), axes=[1], keepdims=0)
    kernel = graph.constant("head.weight", weights["head.kernel"])
    graph.op("Gemm", "logits", pooled, kernel, graph.constant("head.bias", weights["head.bias"]))
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "patches",
            [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [1, TOKENS, PATCH * PATCH])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
            list(graph.constants.values()),
        ),
        producer_name="patches/train.py",
        opset_imports=[opset],
        ir_version=helper.find_min_ir_version_for([opset]),
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(model: onnx.ModelProto, x: Array, y: Labels) -> float:
    """Top-1 accuracy in percent."""
    (scores,) = outputs(model, {"tokens": x}).values()
    return float(100 * np.mean(scores.argmax(axis=1) == y))


def main() -> None:
    """Train, export, and print the accuracy on the held-out digits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits(DIGITS)
    model = to_onnx(train(images[:TRAIN], labels[:TRAIN]))
    tokens = patches(images)
    chosen = np.sort(np.random.default_rng(SEED).choice(TRAIN, CALIBRATION, replace=False))
    onnx.save_model(model, out / "model.onnx")
    np.savez_compressed(out / "calibration.npz", x=tokens[chosen], y=labels[chosen])
    np.savez_compressed(out / "validation.npz", x=tokens[TRAIN:], y=labels[TRAIN:])
    held_out = accuracy(model, tokens[TRAIN:], labels[TRAIN:])
    print(f"held-out accuracy {held_out:.2f} % on {len(tokens) - TRAIN} digits")


if __name__ == "__main__":
    main()
