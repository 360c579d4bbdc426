"""Train a network that paints a damaged digit whole again; write model.onnx, calibration.npz, validation.npz.

Owns the bundled example only; the tool never imports it. Run it from anywhere:

    python examples/inpaint/train.py [--out FOLDER]

A regression: 784 pixels in, 784 pixels out, judged by the mean squared error. The seed is fixed and TensorFlow runs
its deterministic kernels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]

HERE = Path(__file__).parent
DIGITS = HERE.parent / "lenet300" / "mnist10k.npz"
SEED = 2026
TRAIN = 8_000
CALIBRATION = 2_000
EPOCHS = 40
BATCH = 128
HOLE = 10
"""Side of the square that is cut out of every digit, in pixels."""
WIDTHS = (784, 512, 256, 512, 784)
OPSET = 17


def load_digits(path: Path) -> Array:
    """Images [10000, 28, 28] scaled to 0..1."""
    with np.load(path) as archive:
        return archive["images"].astype(np.float32) / np.float32(255)


def damaged(images: Array, rng: np.random.Generator) -> Array:
    """Every image with a square of zeros somewhere in its middle 22 pixels, where ink is: [n, 784]."""
    size = images.shape[1]
    down, right = rng.integers(3, size - 3 - HOLE + 1, size=(2, len(images), 1))
    rows = (np.arange(size) >= down) & (np.arange(size) < down + HOLE)
    columns = (np.arange(size) >= right) & (np.arange(size) < right + HOLE)
    hole = rows[:, :, None] & columns[:, None, :]
    return np.where(hole, np.float32(0), images).reshape(len(images), -1)


def train(images: Array) -> list[tuple[Array, Array]]:
    """Kernel [in, out] and bias [out] of every layer, after training on `images` damaged anew in every epoch."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    hidden = [tf.keras.layers.Dense(width, activation="relu") for width in WIDTHS[1:-1]]
    network = tf.keras.Sequential([tf.keras.Input((WIDTHS[0],)), *hidden, tf.keras.layers.Dense(WIDTHS[-1])])
    steps = EPOCHS * (len(images) // BATCH)
    schedule = tf.keras.optimizers.schedules.CosineDecay(1e-3, steps)
    network.compile(optimizer=tf.keras.optimizers.AdamW(schedule, weight_decay=1e-3), loss="mse")
    rng = np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        x, y = damaged(images[order], rng), images[order].reshape(len(images), -1)
        for start in range(0, len(x) - BATCH + 1, BATCH):
            network.train_on_batch(x[start : start + BATCH], y[start : start + BATCH])
    return [tuple(layer.get_weights()) for layer in network.layers]


def to_onnx(weights: list[tuple[Array, Array]]) -> onnx.ModelProto:
    """The network as MatMul, Add and Relu nodes, batch fixed at 1."""
    nodes, constants, value = [], [], "damaged"
    for k, (kernel, bias) in enumerate(weights, start=1):
        last = k == len(weights)
        output = "restored" if last else f"fc{k}_out"
        nodes.append(helper.make_node("MatMul", [value, f"fc{k}.weight"], [f"fc{k}_product"], f"fc{k}"))
        nodes.append(helper.make_node("Add", [f"fc{k}_product", f"fc{k}.bias"], [output], f"fc{k}_bias"))
        constants += [numpy_helper.from_array(kernel, f"fc{k}.weight"), numpy_helper.from_array(bias, f"fc{k}.bias")]
        if not last:
            value = f"relu{k}_out"
            nodes.append(helper.make_node("Relu", [output], [value], f"relu{k}"))
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "inpaint",
            [helper.make_tensor_value_info("damaged", TensorProto.FLOAT, [1, WIDTHS[0]])],
            [helper.make_tensor_value_info("restored", TensorProto.FLOAT, [1, WIDTHS[-1]])],
            constants,
        ),
        producer_name="inpaint/train.py",
        opset_imports=[opset],
        ir_version=helper.find_min_ir_version_for([opset]),
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def restored(weights: list[tuple[Array, Array]], x: Array) -> Array:
    """The network's output by plain numpy, rows of 784."""
    for k, (kernel, bias) in enumerate(weights, start=1):
        x = x @ kernel + bias
        x = x if k == len(weights) else np.maximum(x, 0)
    return x


def main() -> None:
    """Train, export, and print the mean squared error on the held-out digits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    images = load_digits(DIGITS)
    weights = train(images[:TRAIN])
    rng = np.random.default_rng(SEED)
    clean, broken = images.reshape(len(images), -1), damaged(images, rng)
    chosen = np.sort(rng.choice(TRAIN, CALIBRATION, replace=False))
    onnx.save_model(to_onnx(weights), out / "model.onnx")
    np.savez_compressed(out / "calibration.npz", x=broken[chosen], y=clean[chosen])
    np.savez_compressed(out / "validation.npz", x=broken[TRAIN:], y=clean[TRAIN:])
    x, y = broken[TRAIN:], clean[TRAIN:]
    print(f"mean squared error {np.mean((restored(weights, x) - y) ** 2):.5f} on {len(x)} held-out digits")
    print(f"of leaving the damage as it is: {np.mean((x - y) ** 2):.5f}")


if __name__ == "__main__":
    main()
