"""Groups of options that a command takes as one value.

A command that is decorated with `with_reading` has --batch, --dim, --input, --output and --dequantize, and gets them
as one value `reading`; with `with_layers` it has --include, --exclude and --min-params, and gets `layers`; with
`with_settings` it has the options of an exploration, and gets those that were given as `options`; with `with_ssh` it
has those of the way to a board, and gets `ssh`, which `board_of` takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from lrf_dse.options import Option

MODEL_HELP = "A model file: .onnx, .keras, .h5, .tflite, .pt2, .skops, or the folder of a SavedModel."

# Name of the parameter, its annotated type for typer, its default.
_READING: Mapping[str, tuple[Any, Any]] = {
    "batch": (
        Annotated[int | None, typer.Option(help="Batch size, for a model whose batch dimension is dynamic.")],
        None,
    ),
    "dim": (
        Annotated[
            list[str] | None,
            typer.Option("--dim", help="NAME=N: the size of another dynamic axis; may be given several times."),
        ],
        None,
    ),
    "input": (
        Annotated[
            list[str] | None,
            typer.Option("--input", help="NAME=VALUE: an input that is always the same; may be given several times."),
        ],
        None,
    ),
    "output": (
        Annotated[
            list[str] | None,
            typer.Option("--output", help="An output to keep; others are left out. May be given several times."),
        ],
        None,
    ),
    "dequantize": (
        Annotated[
            bool, typer.Option("--dequantize", help="Compute 8-bit and 4-bit weights in float32, to explore them.")
        ],
        False,
    ),
}

_LAYERS: Mapping[str, tuple[Any, Any]] = {
    "include": (
        Annotated[
            list[str] | None, typer.Option(help="Work only on layers whose name matches this pattern, such as 'fc*'.")
        ],
        None,
    ),
    "exclude": (
        Annotated[list[str] | None, typer.Option(help="Leave out layers whose name matches this pattern.")],
        None,
    ),
    "min_params": (Annotated[int, typer.Option(help="Leave out layers with fewer parameters than this.")], 0),
}

_SSH: Mapping[str, tuple[Any, Any]] = {
    "ssh_config": (
        Annotated[Path | None, typer.Option("--ssh-config", help="Configuration file for ssh (ssh -F).")],
        None,
    ),
    "ssh_port": (Annotated[int | None, typer.Option("--ssh-port", help="Port of the board's sshd.")], None),
    "ssh_option": (
        Annotated[
            list[str] | None,
            typer.Option("--ssh-option", help="KEY=VALUE as in ssh_config; may be given several times."),
        ],
        None,
    ),
}

Command = Callable[..., None]


def with_reading(command: Command) -> Command:
    """`command` with the options of reading; it gets a ReadOptions `reading`."""

    def make(given: Mapping[str, Any]) -> object:
        from lrf_dse.models.canonical.options import ReadOptions, parse_dims, parse_inputs

        dims, inputs = parse_dims(given["dim"] or []), parse_inputs(given["input"] or [])
        return ReadOptions(given["batch"], dims, inputs, tuple(given["output"] or ()), given["dequantize"])

    return _with_options(command, "reading", _READING, make)


def with_layers(command: Command) -> Command:
    """`command` with the options that choose layers; it gets a LayerChoice `layers`."""

    def make(given: Mapping[str, Any]) -> object:
        from lrf_dse.models.selection import LayerChoice

        return LayerChoice(tuple(given["include"] or ()), tuple(given["exclude"] or ()), given["min_params"])

    return _with_options(command, "layers", _LAYERS, make)


def with_ssh(command: Command) -> Command:
    """`command` with the options of the way to a board; it gets a dictionary `ssh` of arguments of `board_of`."""

    def make(given: Mapping[str, Any]) -> object:
        return {"config": given["ssh_config"], "port": given["ssh_port"], "options": given["ssh_option"]}

    return _with_options(command, "ssh", _SSH, make)


def with_settings(command: Command) -> Command:
    """`command` with the options that are fields of ExploreSettings; it gets a dictionary `options`, None: not given.

    Options that are made of several others (the board's, reading, layers) have decorators or types of their own.
    """
    from lrf_dse.options import options_of
    from lrf_dse.pipeline.settings import ExploreSettings

    single = {one.name: one for one in options_of(ExploreSettings) if one.typed is not None}
    kinds = {
        name: (Annotated[one.typed | None, typer.Option(one.flag, help=_help(one))], None)
        for name, one in single.items()
    }
    return _with_options(command, "options", kinds, dict)


def _help(one: Option) -> str:
    """What the option means, and its default where the meaning does not say it."""
    if one.default is None or "default" in one.help.lower():
        return one.help
    value = ",".join(map(str, one.default)) if isinstance(one.default, tuple) else one.default
    return f"{one.help} Default: {value}."


def _with_options(
    command: Command,
    made: str,
    options: Mapping[str, tuple[Any, Any]],
    make: Callable[[Mapping[str, Any]], object],
) -> Command:
    """`command` with `options` in its signature in the place of the parameter `made`, which `make` makes of them."""

    # typer reads options from the signature of the function: the wrapper shows the many, and calls `command` with the
    # one.
    @wraps(command)
    def wrapper(**arguments: Any) -> None:
        value = make({name: arguments.pop(name) for name in options})
        command(**arguments, **{made: value})

    parameters = []
    hints = _hints(command)
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name != made:
            # Keyword-only, since otherwise a parameter without a default could not follow one that has one.
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY))
            continue
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, (kind, default) in options.items()
        ]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _hints(command: Command) -> dict[str, Any]:
    """The types of the parameters; those that are made here are names that only type checkers know."""
    made = dict.fromkeys(("ReadOptions", "LayerChoice"), object)
    # typer evaluates annotations too, but knows no names that are imported for type checkers only.
    return get_type_hints(command, localns=made, include_extras=True)
