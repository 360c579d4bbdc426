"""Train a compressed model end to end, with the dense model as its teacher, and keep the best epoch.

The score that decides is the caller's, measured on data that is not trained on, and lower is better. Before training
counts as an epoch, so the result is never worse than what came in. The same model, data, recipe and seed give the same
result on the same machine type; a run that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrf_dse.errors import RunError
from lrf_dse.finetune.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lrf_dse.finetune.graph import TrainableGraph
from lrf_dse.finetune.grids import Grid
from lrf_dse.finetune.objective import Kind, Loss, objective
from lrf_dse.models.data import Dataset
from lrf_dse.models.evaluate import outputs
from lrf_dse.models.values import with_values

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
Score = Callable[["onnx.ModelProto"], float]

FINETUNE_VERSION = 2
"""To be raised whenever training gives other weights for the same model, data and recipe."""

AGREEMENT = 1e-3
"""How far TensorFlow's first output may lie from onnxruntime's, relative to max |y|: more is another function."""


@dataclass(frozen=True)
class Recipe:
    """How to train. `batch` counts samples; `patience` epochs without a better score end it early.

    Small steps at a high rate: of what was tried on LeNet-300-100 at x22 (batch 16 to 64, rates 1e-3 to 1e-2) these
    lose least after five epochs.
    """

    epochs: int
    seed: int = 0
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    patience: int = 3


@dataclass(frozen=True)
class Epoch:
    """One epoch: its mean loss (NaN before training) and the score after it."""

    number: int
    loss: float
    score: float


@dataclass(frozen=True, eq=False)
class Trained:
    """The best epoch's model, all epochs, and why training ended: "finished", "no better score" or "diverged".

    `scales` are those of the constants on grids, by element, for `recover`.
    """

    model: onnx.ModelProto
    scales: Mapping[str, Array]
    best: Epoch
    epochs: tuple[Epoch, ...]
    ended: str


def finetune(
    model: onnx.ModelProto,
    data: Dataset,
    recipe: Recipe,
    *,
    teacher: onnx.ModelProto,
    kind: Kind,
    batch: int | None,
    score: Score,
    grids: Mapping[str, Grid] = MappingProxyType({}),
    checkpoint: Path | None = None,
    progress: Callable[[Epoch], None] = lambda _: None,
) -> Trained:
    """Train all weights of `model` on `data` (x, and labels if it has any).

    `batch` is the model's own, of one inference. Constants on `grids` are trained through the rounding, and every score
    is that of a model whose constants are on them. Raises UsageError for an operation that cannot be trained through,
    and RunError if TensorFlow's graph is not the function that onnxruntime computes.
    """
    lessons = _lessons(model, data, teacher, batch)
    trainer = _Trainer(model, grids, lessons, recipe, objective(kind, model))
    trainer.check(model, data)
    digest = _digest(model, grids, data, recipe, kind)
    state = load_checkpoint(checkpoint, digest) if checkpoint is not None else None
    if state is None:
        before = Epoch(0, math.nan, score(model))
        state = Checkpoint(digest, trainer.state(), trainer.graph.weights(), ((0, before.loss, before.score),))
        progress(before)
    else:
        trainer.restore(state.training)
    history = [Epoch(*row) for row in state.epochs]
    best_weights = state.best
    ended = _ended(history, recipe)
    while ended is None:
        loss = trainer.epoch(len(history))
        if not math.isfinite(loss):
            ended = "diverged"
            break
        weights = trainer.graph.weights()
        epoch = Epoch(len(history), loss, score(with_values(model, weights.values)))
        # Strictly better: of equal scores the earlier weights, which are nearer to the fit, are kept.
        if epoch.score < min(past.score for past in history):
            best_weights = weights
        history.append(epoch)
        progress(epoch)
        if checkpoint is not None:
            rows = tuple((e.number, e.loss, e.score) for e in history)
            save_checkpoint(checkpoint, Checkpoint(digest, trainer.state(), best_weights, rows))
        ended = _ended(history, recipe)
    best = min(history, key=lambda epoch: epoch.score)
    return Trained(with_values(model, best_weights.values), best_weights.scales, best, tuple(history), ended)


def _ended(history: Sequence[Epoch], recipe: Recipe) -> str | None:
    best = min(history, key=lambda epoch: epoch.score)
    if not math.isfinite(history[-1].score):
        return "diverged"
    if len(history) > recipe.epochs:
        return "finished"
    return "no better score" if len(history) - 1 - best.number >= recipe.patience else None


@dataclass(frozen=True, eq=False)
class _Lessons:
    """Inputs [inferences, ...] in the model's order, the teacher's answers and the labels for each.

    `samples_each` is how many samples one inference takes.
    """

    inputs: tuple[Array, ...]
    answers: Array
    labels: Array | None
    samples_each: int

    @property
    def count(self) -> int:
        return len(self.answers)


def _lessons(model: onnx.ModelProto, data: Dataset, teacher: onnx.ModelProto, batch: int | None) -> _Lessons:
    """Samples as whole inferences; what is left over of the last batch is not trained on."""
    size = batch or 1
    whole = data.samples // size * size
    constants = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in constants]

    def inferences(values: Array) -> Array:
        return values[:whole] if batch is None else values[:whole].reshape(-1, size, *values.shape[1:])

    answers = outputs(teacher, data.x)[teacher.graph.output[0].name]
    labels = None if data.y is None else inferences(data.y)
    return _Lessons(tuple(inferences(data.x[name]) for name in names), inferences(answers), labels, size)


class _Trainer:
    """The graph, its optimiser and the compiled step: what has a state between epochs."""

    def __init__(
        self, model: onnx.ModelProto, grids: Mapping[str, Grid], lessons: _Lessons, recipe: Recipe, loss: Loss
    ) -> None:
        self.graph = TrainableGraph(model, grids)  # it also starts TensorFlow
        import tensorflow as tf

        self.lessons, self.recipe, self.loss = lessons, recipe, loss
        self.per_step = min(lessons.count, max(1, recipe.batch // lessons.samples_each))
        steps = recipe.epochs * (lessons.count // self.per_step)
        # Cosine decay to zero: Loshchilov and Hutter, arXiv 1608.03983. Decay of weights apart from the gradient
        # (AdamW): the same authors, arXiv 1711.05101.
        rate = tf.keras.optimizers.schedules.CosineDecay(recipe.learning_rate, max(1, steps))
        self.optimizer = tf.keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, global_clipnorm=1.0)
        self.variables = self.graph.trained
        # Its slots must be there before restore() can set them.
        self.optimizer.build(self.variables)
        self._step = tf.function(self._one_step)

    def _one_step(self, inputs: Any, answers: Any, labels: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.loss(self.graph.many(inputs), answers, labels)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.variables), self.variables, strict=True))
        return loss

    def epoch(self, number: int) -> float:
        """One pass through the lessons in an order of its own; the mean loss."""
        import tensorflow as tf

        losses = []
        for rows in self._batches(number):
            labels = None if self.lessons.labels is None else tf.constant(self.lessons.labels[rows])
            inputs = tuple(tf.constant(values[rows]) for values in self.lessons.inputs)
            losses.append(float(self._step(inputs, tf.constant(self.lessons.answers[rows]), labels)))
            if not math.isfinite(losses[-1]):
                return math.nan
        return float(np.mean(losses))

    def _batches(self, number: int) -> Iterator[NDArray[np.intp]]:
        # Drawn from the number of the epoch: a training that goes on sees the order that it would have seen.
        order = np.random.default_rng([self.recipe.seed, number]).permutation(self.lessons.count)
        # What is left of the last step waits for another epoch's order: a smaller step would be traced and compiled
        # once more.
        for start in range(0, self.lessons.count - self.per_step + 1, self.per_step):
            yield order[start : start + self.per_step]

    def check(self, model: onnx.ModelProto, data: Dataset) -> None:
        """Raise RunError if the graph's first output is not onnxruntime's on the first inferences."""
        count = min(8, self.lessons.count)
        samples = count * self.lessons.samples_each
        expected = outputs(model, {name: values[:samples] for name, values in data.x.items()})
        wanted = expected[model.graph.output[0].name]
        got = self.graph.many([values[:count] for values in self.lessons.inputs]).numpy().reshape(wanted.shape)
        error = float(np.abs(got - wanted).max() / max(float(np.abs(wanted).max()), 1e-30))
        # Written this way round, because a NaN must not pass.
        if not error < AGREEMENT:
            raise RunError(f"TensorFlow computes another function than onnxruntime (error {error:.1e} of max |y|)")

    def state(self) -> dict[str, Array]:
        """Everything that the next epoch depends on."""
        slots = {f"optimizer/{k}": np.asarray(value) for k, value in enumerate(self.optimizer.variables)}
        return slots | {f"variable/{k}": variable.numpy() for k, variable in enumerate(self.variables)}

    def restore(self, state: dict[str, Array]) -> None:
        """Set what `state` gave."""
        for k, variable in enumerate(self.optimizer.variables):
            variable.assign(state[f"optimizer/{k}"])
        for k, variable in enumerate(self.variables):
            variable.assign(state[f"variable/{k}"])


def _digest(model: onnx.ModelProto, grids: Mapping[str, Grid], data: Dataset, recipe: Recipe, kind: Kind) -> str:
    facts = f"{asdict(recipe)} {kind} {data.sha256} {data.part}"
    digest = hashlib.sha256(model.SerializeToString(deterministic=True) + facts.encode())
    for name, grid in grids.items():
        digest.update(f"{name} {grid.storage}".encode() + (b"" if grid.scales is None else grid.scales.tobytes()))
    return digest.hexdigest()
