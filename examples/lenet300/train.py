"""Train LeNet-300-100 on the bundled real digits and write model.onnx, calibration.npz and validation.npz.

Owns the bundled example only; the tool never imports it. Run it from anywhere:

    python examples/lenet300/train.py [--out FOLDER]

It takes about two minutes on two cores. The seed is fixed and TensorFlow runs its deterministic kernels,
so on one machine type a second run writes the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

HERE = Path(__file__).parent
SEED = 2024
TRAIN = 8_000
CALIBRATION = 2_000
EPOCHS = 80
BATCH = 128
MAX_SHIFT = 2
"""Digits are moved by up to this many pixels each time they are shown: it is worth about half a point."""
WIDTHS = (784, 300, 100, 10)
OPSET = 17


def load_digits(path: Path) -> tuple[Array, Labels]:
    """Images [10000, 28, 28] scaled to 0..1, and labels [10000]."""
    with np.load(path) as archive:
        return archive["images"].astype(np.float32) / np.float32(255), archive["labels"].astype(np.int64)


def shifted(images: Array, rng: np.random.Generator) -> Array:
    """Every image moved by its own random offset of up to MAX_SHIFT pixels, zero filled: [n, 28, 28]."""
    size = images.shape[1]
    padded = np.pad(images, ((0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT)))
    offsets = rng.integers(0, 2 * MAX_SHIFT + 1, size=(2, len(images), 1))
    rows = (offsets[0] + np.arange(size))[:, :, None]
    columns = (offsets[1] + np.arange(size))[:, None, :]
    moved: Array = padded[np.arange(len(images))[:, None, None], rows, columns]
    return moved


def batches(images: Array, labels: Labels, seed: int) -> Iterator[tuple[Array, Labels]]:
    """Batches of all epochs; every epoch shows the training set shuffled and shifted anew."""
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        x, y = shifted(images[order], rng).reshape(len(images), -1), labels[order]
        for start in range(0, len(x) - BATCH + 1, BATCH):
            yield x[start : start + BATCH], y[start : start + BATCH]


def train(images: Array, labels: Labels) -> list[tuple[Array, Array]]:
    """Weights [out, in] and bias [out] of every layer, after training on `images`."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    layers = [tf.keras.Input((WIDTHS[0],))]
    for width in WIDTHS[1:-1]:
        layers += [tf.keras.layers.Dense(width, activation="relu"), tf.keras.layers.Dropout(0.1)]
    network = tf.keras.Sequential([*layers, tf.keras.layers.Dense(WIDTHS[-1])])
    steps = EPOCHS * (len(images) // BATCH)
    network.compile(
        optimizer=tf.keras.optimizers.AdamW(tf.keras.optimizers.schedules.CosineDecay(2e-3, steps), weight_decay=1e-3),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for x, y in batches(images, labels, SEED):
        network.train_on_batch(x, y)
    dense = [layer for layer in network.layers if isinstance(layer, tf.keras.layers.Dense)]
    return [(np.ascontiguousarray(w.T), b) for w, b in (layer.get_weights() for layer in dense)]


def to_onnx(weights: list[tuple[Array, Array]]) -> onnx.ModelProto:
    """The network as Gemm and Relu nodes, logits out, batch fixed at 1."""
    nodes, constants, value = [], [], "pixels"
    for k, (weight, bias) in enumerate(weights, start=1):
        last = k == len(weights)
        output = "logits" if last else f"fc{k}_out"
        nodes.append(helper.make_node("Gemm", [value, f"fc{k}.weight", f"fc{k}.bias"], [output], f"fc{k}", transB=1))
        constants += [numpy_helper.from_array(weight, f"fc{k}.weight"), numpy_helper.from_array(bias, f"fc{k}.bias")]
        if not last:
            value = f"relu{k}_out"
            nodes.append(helper.make_node("Relu", [output], [value], f"relu{k}"))
    graph = helper.make_graph(
        nodes,
        "lenet300",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, WIDTHS[0]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, WIDTHS[-1]])],
        constants,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(
        graph,
        producer_name="lenet300/train.py",
        opset_imports=[opset],
        ir_version=helper.find_min_ir_version_for([opset]),
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(weights: list[tuple[Array, Array]], x: Array, y: Labels) -> float:
    """Top-1 accuracy in percent, by plain numpy."""
    for k, (weight, bias) in enumerate(weights, start=1):
        x = x @ weight.T + bias
        x = x if k == len(weights) else np.maximum(x, 0)
    return float(100 * np.mean(x.argmax(axis=1) == y))


def main() -> None:
    """Train, export, and print the accuracy on the held-out digits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits(HERE / "mnist10k.npz")
    weights = train(images[:TRAIN], labels[:TRAIN])
    flat = images.reshape(len(images), -1)
    chosen = np.sort(np.random.default_rng(SEED).choice(TRAIN, CALIBRATION, replace=False))
    onnx.save_model(to_onnx(weights), out / "model.onnx")
    np.savez_compressed(out / "calibration.npz", x=flat[chosen], y=labels[chosen])
    np.savez_compressed(out / "validation.npz", x=flat[TRAIN:], y=labels[TRAIN:])
    print(f"training accuracy {accuracy(weights, flat[:TRAIN], labels[:TRAIN]):.2f} %")
    print(f"held-out accuracy {accuracy(weights, flat[TRAIN:], labels[TRAIN:]):.2f} % on {len(flat) - TRAIN} digits")


if __name__ == "__main__":
    main()
