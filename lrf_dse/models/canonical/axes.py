"""Sizes of dynamic axes: of the batch, and of every other symbol, substituted wherever the symbol stands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lrf_dse.errors import ModelError, UsageError
from lrf_dse.models.canonical.header import converted_opset
from lrf_dse.models.canonical.inference import checked, set_aside
from lrf_dse.models.canonical.options import ReadOptions

if TYPE_CHECKING:
    import onnx

BATCH_NAME = re.compile(r"(?i).*batch.*|n|b|bs|none|samples|num_samples")
"""Names that exporters and people give to the axis of samples, if it is the first one."""

SURE_NAME = re.compile(r"(?i).*batch.*")
"""Names that mean the axis of samples wherever it stands."""

# tf2onnx writes unk__12; torch.onnx writes x_dynamic_axes_1 where the axes of x were given as a list without names.
NO_NAME = re.compile(r"unk__\d+|dynamic_axes_\d+|.*_dynamic_axes_\d+|\?|-1|")
"""Names that exporters make up, one for each axis: they say nothing."""

# Height and width at the same place belong together: 224 x 224 is ImageNet's, 48 x 320 and 32 x 320 are PaddleOCR's
# lines of text.
_IMAGE = ((224, 224), (48, 320), (32, 320), (64, 256), (640, 640))
"""Heights and widths to try: an image of ImageNet, lines of text, a page."""

_DEFAULTS = (
    (re.compile(r"(?i).*(past|cache).*"), (1,)),
    (re.compile(r"(?i).*(seq|token|length|len|time|frame|^t$|^s$|^l$).*"), (64, 16, 512)),
)
"""Other sizes to try, by what names mean: one cached step, a short sequence."""

# At 16 kHz, the usual rate of speech networks.
_SOUND = (512, 16000, 1600)
"""Samples to try: a window, a second, a tenth of one."""

_STATE = (1,)
"""Sizes to try for the batch of a recurrent cell's state, [layers, batch, hidden]."""

_OTHERS = (16, 64, 1)
"""Sizes to try where neither the name nor the place of an axis says anything."""


def fix_axes(proto: onnx.ModelProto, options: ReadOptions) -> dict[str, int]:
    """Give every dynamic axis of the inputs its size, and return the sizes by symbol.

    Raises ModelError naming the axes whose size is missing, with sizes to try, and UsageError for options that do not
    fit.

    An axis without a name is called "input:axis". `options.batch` is the size of the axis of samples: the symbol with
    a name that says so, else the one at axis 0.
    """
    graph = proto.graph
    symbols = _symbols(graph)
    batch = _batch_symbols(symbols, options)
    sizes = dict(options.dims)
    unknown = sorted(set(sizes) - set(symbols))
    if unknown:
        raise UsageError(_unknown(unknown[0], symbols))
    if options.batch is not None:
        if not batch and set(_first_sizes(graph)) != {options.batch}:
            raise UsageError(_no_batch(graph, options, symbols))
        sizes |= dict.fromkeys(batch, options.batch)
    missing = [symbol for symbol in symbols if symbol not in sizes]
    if missing:
        open_batch = batch if options.batch is None else ()
        proposed = _proposed(proto, symbols, sizes | dict.fromkeys(open_batch, 1))
        raise ModelError(_missing(proposed, missing, symbols, open_batch))
    _set_sizes(graph, symbols, sizes)
    return sizes


def _set_sizes(graph: onnx.GraphProto, symbols: Mapping[str, list[tuple[str, int]]], sizes: Mapping[str, int]) -> None:
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    for symbol, places in symbols.items():
        for name, axis in places:
            # This clears the symbol: both are one `oneof` of the protobuf.
            inputs[name][axis].dim_value = sizes[symbol]


def declared_shapes(graph: onnx.GraphProto, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shapes that the file itself gives to values between inputs and outputs, with `sizes` for the symbols."""
    found: dict[str, tuple[int, ...]] = {}
    for value in (*graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shape = [dim.dim_value if dim.HasField("dim_value") else sizes.get(dim.dim_param, -1) for dim in dims]
            if min(shape, default=0) >= 0:
                found[value.name] = tuple(shape)
    return found


def forget_symbols(graph: onnx.GraphProto, *, sized: bool) -> None:
    """Leave shapes of values to inference: exporters write symbols there that no longer hold, and sizes of -1.

    Where dynamic axes were `sized`, what the file says of outputs may be of another size, and even of another rank.
    """
    # `value_info` holds the values between inputs and outputs. Those of outputs cannot be deleted; a cleared dimension
    # keeps the rank and says no size.
    del graph.value_info[:]
    for value in graph.output:
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            if sized:
                for dim in dims:
                    dim.Clear()
            for dim in dims:
                if not dim.HasField("dim_value") or dim.dim_value < 0:
                    dim.Clear()


def _symbols(graph: onnx.GraphProto) -> dict[str, list[tuple[str, int]]]:
    """Where each symbol stands among the inputs, as (input, axis)."""
    found: dict[str, list[tuple[str, int]]] = {}
    for value in graph.input:
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise ModelError(f"input {value.name!r} is not a tensor of known rank; export it with a fixed shape")
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value >= 0:
                continue
            no_name = NO_NAME.fullmatch(dim.dim_param) is not None
            symbol = f"{value.name}:{axis}" if no_name else dim.dim_param
            found.setdefault(symbol, []).append((value.name, axis))
    return found


def _batch_symbols(symbols: Mapping[str, list[tuple[str, int]]], options: ReadOptions) -> tuple[str, ...]:
    """The symbols of the axis of samples: several where exporters gave each input a symbol of its own."""
    open_ones = {symbol: places for symbol, places in symbols.items() if symbol not in options.dims}
    sure = [symbol for symbol in open_ones if SURE_NAME.fullmatch(symbol)]
    if sure:
        return tuple(sure)
    first = [symbol for symbol, places in open_ones.items() if any(axis == 0 for _, axis in places)]
    named = [symbol for symbol in first if BATCH_NAME.fullmatch(symbol)]
    if len(named) == 1:
        return tuple(named)
    # A colon marks the names that _symbols() made itself for axes without one.
    made_up = all(":" in symbol for symbol in first)
    return tuple(first) if len(first) == 1 or made_up else ()


def _unknown(name: str, symbols: Mapping[str, list[tuple[str, int]]]) -> str:
    known = f"its dynamic axes are {', '.join(symbols)}" if symbols else "it has no dynamic axes"
    return f"--dim {name}: no axis has this name; {known}"


def _no_batch(graph: onnx.GraphProto, options: ReadOptions, symbols: Mapping[str, list[tuple[str, int]]]) -> str:
    first = sorted(set(_first_sizes(graph)))
    if symbols and not first:
        return (
            f"--batch {options.batch}: which of the axes {', '.join(symbols)} is the batch is not known; give each of "
            f"them by --dim, such as --dim {next(iter(symbols))}={options.batch}"
        )
    sizes = ", ".join(map(str, first)) or "no size"
    return f"its batch is fixed at {sizes}, so --batch {options.batch} cannot be had; leave --batch out"


def _first_sizes(graph: onnx.GraphProto) -> Iterator[int]:
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 1 and dims[0].HasField("dim_value"):
            yield dims[0].dim_value


def _missing(
    proposed: Mapping[str, int],
    missing: Sequence[str],
    symbols: Mapping[str, list[tuple[str, int]]],
    batch: Sequence[str],
) -> str:
    what = ", ".join(
        f"{symbol!r} (input {symbols[symbol][0][0]!r}, axis {symbols[symbol][0][1]})" for symbol in missing
    )
    asked = [] if not set(batch) & set(missing) else ["--batch 1"]
    asked += [f"--dim {shlex.quote(symbol)}={proposed[symbol]}" for symbol in missing if symbol not in batch]
    axes = "dynamic axes" if len(missing) > 1 else "a dynamic axis"
    kind = "a dynamic batch dimension" if set(missing) <= set(batch) else axes
    return f"has {kind}: {what}; say which size to compile for, for instance {' '.join(asked)}"


def _proposed(
    proto: onnx.ModelProto, symbols: Mapping[str, list[tuple[str, int]]], known: Mapping[str, int]
) -> dict[str, int]:
    """Sizes to propose for the symbols that are not `known`: the first of the usual ones that the graph can have."""
    usual = {
        symbol: _usual(symbol, places[0], proto.graph) for symbol, places in symbols.items() if symbol not in known
    }
    set_aside(proto.graph)  # the model is refused in any case
    first: dict[str, int] | None = None
    # The k-th sizes of all symbols are tried together: every combination would be one run of ONNX's checker each.
    for k in range(max(map(len, usual.values()), default=1)):
        sizes = dict(known) | {symbol: options[min(k, len(options) - 1)] for symbol, options in usual.items()}
        first = first or sizes
        if _can_have(proto, symbols, sizes):
            return sizes
    return first or dict(known)


def _can_have(proto: onnx.ModelProto, symbols: Mapping[str, list[tuple[str, int]]], sizes: Mapping[str, int]) -> bool:
    """Whether nothing in `proto`, without its big weights, contradicts these sizes, as far as inference sees."""
    import onnx

    trial = onnx.ModelProto()
    trial.CopyFrom(proto)
    _set_sizes(trial.graph, symbols, sizes)
    forget_symbols(trial.graph, sized=True)
    try:
        checked(converted_opset(trial, []), sized=True)
    except ModelError:
        return False
    return True


def _usual(symbol: str, place: tuple[str, int], graph: onnx.GraphProto) -> Sequence[int]:
    """Sizes that most networks of this kind accept, the likeliest first, by the name and the place of an axis."""
    name, axis = place
    tensor = next(value.type.tensor_type for value in graph.input if value.name == name)
    # ONNX's codes of float32, float16 and float64.
    dims, is_float = tensor.shape.dim, tensor.elem_type in (1, 10, 11)
    if len(dims) == 2 and axis == 1 and is_float:
        return _SOUND
    if len(dims) == 3 and axis == 1 and dims[0].HasField("dim_value"):
        return _STATE
    is_image = re.fullmatch(r"(?i).*(height|width|size).*|h|w", symbol)
    by_place: Sequence[int] = _OTHERS
    if (len(dims) == 4 and axis > 1) or is_image:
        # [batch, channels, height, width] is ONNX's order of axes for images.
        by_place = [sizes[axis - 2 if axis in (2, 3) else 0] for sizes in _IMAGE]
    return next((sizes for pattern, sizes in _DEFAULTS if pattern.fullmatch(symbol)), by_place)
