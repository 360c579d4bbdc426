"""Read a model file: a reader for its format, then the canonical form, then the FC layers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lrf_dse.errors import ModelError, UsageError
from lrf_dse.models.canonical.build import canonical_model
from lrf_dse.models.canonical.options import ReadOptions
from lrf_dse.models.inventory import by_reason
from lrf_dse.models.model import Model
from lrf_dse.models.readers.registry import read_source

MOST_REASONS = 4
"""Kinds of reasons that a refusal names, the largest first."""


def read_model(
    path: Path,
    *,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, tuple[float, ...]] | None = None,
    outputs: Sequence[str] = (),
    dequantize: bool = False,
) -> Model:
    """The model in `path`, with its FC layers found and every shape known. See `ReadOptions` for the rest.

    Raises ModelError for a file that is missing, damaged or not supported, and UsageError for options that contradict
    the model.
    """
    return read_with(Path(path), ReadOptions(batch, dict(dims or {}), dict(inputs or {}), tuple(outputs), dequantize))


def read_with(path: Path, options: ReadOptions) -> Model:
    """The model in `path`, read as `options` say. Raises as `read_model`."""
    source = read_source(path)
    try:
        model = canonical_model(source, path, options)
    # A reader names the file itself; the steps of the canonical form do not know it.
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    if not model.sites:
        raise ModelError(f"{path}: no FC layer to work on{_why(model)}")
    return model


def _why(model: Model) -> str:
    """The reasons by the weights that they keep away, the largest first."""
    groups = by_reason(model.skipped)[:MOST_REASONS]
    if not groups:
        return ": it has no matrix product with a constant (Gemm, MatMul, Einsum, 1x1 convolution)"
    parts = [f"{group.label} ({_share(group.params, model.total_params)}): {group.reason}" for group in groups]
    return "; passed over " + "; ".join(parts)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} % of the parameters" if whole else "no parameters"
