"""What the user may say about a model file where the file leaves it open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from lrf_dse.errors import UsageError


@dataclass(frozen=True)
class ReadOptions:
    """How a model file is to be read.

    `batch` is the size of its dynamic batch dimension, `dims` are sizes of its other dynamic axes by name ("input:axis"
    for one without a name). `inputs` are values of inputs that are always the same, by name: one number for all
    elements, or one for each. `outputs` are the only ones that are kept; without any, all that can be compiled.
    `dequantize` has integer weights computed in float32.
    """

    batch: int | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    dequantize: bool = False

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"the batch size must be at least 1, got {self.batch}")
        for name, size in self.dims.items():
            if size < 0:
                raise UsageError(f"--dim {name}={size}: a size is a number from 0 on")


def parse_dims(texts: Sequence[str]) -> dict[str, int]:
    """The sizes that "NAME=N" texts give. Raises UsageError.

    >>> parse_dims(["T=16", "x:2=8"])
    {'T': 16, 'x:2': 8}
    """
    found: dict[str, int] = {}
    for text in texts:
        # The last "=" divides, because names of axes and inputs may hold one.
        name, equals, size = text.rpartition("=")
        if not equals or not name or not size.isdecimal():
            raise UsageError(f"--dim takes NAME=N, such as --dim T=16, got {text!r}")
        if found.setdefault(name, int(size)) != int(size):
            raise UsageError(f"--dim {name} is given twice, as {found[name]} and as {size}")
    return found


def parse_inputs(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """The values that "NAME=VALUE" texts give; "VALUE,VALUE,..." for an input of several. Raises UsageError.

    >>> parse_inputs(["sr=16000", "mask=true,false"])
    {'sr': (16000.0,), 'mask': (1.0, 0.0)}
    """
    found: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, equals, values = text.rpartition("=")
        try:
            numbers = tuple(_number(value) for value in values.split(","))
        except ValueError:
            numbers = ()
        if not equals or not name or not numbers:
            raise UsageError(f"--input takes NAME=VALUE with numbers, such as --input sr=16000, got {text!r}")
        if found.setdefault(name, numbers) != numbers:
            raise UsageError(f"--input {name} is given twice, with different values")
    return found


def _number(text: str) -> float:
    word = text.strip().lower()
    number = {"true": 1.0, "false": 0.0}.get(word)
    number = float(word) if number is None else number
    if not isfinite(number) or abs(number) > _EXACT:
        raise ValueError(f"{text} is not finite, or not exact in float64")
    return number


_EXACT = 2.0**53
"""Whole numbers up to here are exact in float64, which holds what is given."""


def number_text(number: float) -> str:
    """`number` as it is given on the command line.

    >>> number_text(16000.0), number_text(0.5)
    ('16000', '0.5')
    """
    return str(int(number)) if number.is_integer() else repr(number)


def words_of(options: ReadOptions) -> list[str]:
    """The words of a command line that give `options`, without the batch.

    >>> words_of(ReadOptions(dims={"T": 16}, inputs={"sr": (16000.0,)}, dequantize=True))
    ['--dim', 'T=16', '--input', 'sr=16000', '--dequantize']
    """
    words = [("--dim", f"{name}={size}") for name, size in options.dims.items()]
    words += [("--input", f"{name}={','.join(map(number_text, numbers))}") for name, numbers in options.inputs.items()]
    words += [("--output", name) for name in options.outputs]
    return [word for pair in words for word in pair] + (["--dequantize"] if options.dequantize else [])
