"""Options of a command, each written once: as a field of a settings dataclass, with its words on a command line.

The command line, the function of the public API and the command that a report reprints are derived from these fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from lrf_dse.errors import UsageError

# dataclasses.field() carries any mapping as `metadata`: what a field is on a command line stands there under this key.
_KEY = "option"


def _as_it_is(value: Any, _flag: str) -> Any:
    return value


def _one_word(flag: str, value: Any) -> Sequence[str]:
    return flag, str(value)


@dataclass(frozen=True)
class Option:
    """How a field is given: `typed` on a command line (None: by other options), then through `read`.

    `read(value, flag)` takes what was typed, or what a caller of the public API gave, and raises UsageError.
    `words(flag, value)` are the words of a command line that give the value. `name` is that of the field, which is the
    keyword of the public API, and `default` its default.
    """

    name: str
    help: str
    flag: str
    default: Any
    typed: Any
    read: Callable[[Any, str], Any]
    words: Callable[[str, Any], Sequence[str]]


def option(
    meaning: str,
    *,
    default: Any = None,
    default_factory: Callable[[], Any] | None = None,
    typed: Any = str,
    flag: str | None = None,
    read: Callable[[Any, str], Any] = _as_it_is,
    words: Callable[[str, Any], Sequence[str]] = _one_word,
) -> Any:
    """A field of a settings dataclass that is an option; without a `flag` it is called as the field is."""
    made = default if default_factory is None else default_factory()
    known = {"help": meaning, "flag": flag, "default": made, "typed": typed, "read": read, "words": words}
    if default_factory is not None:
        return field(default_factory=default_factory, metadata={_KEY: known})
    return field(default=default, metadata={_KEY: known})


def options_of(settings: type) -> Iterator[Option]:
    """The options of a settings class, and of the settings that are fields of it, in the order of the fields."""
    for one in fields(settings):
        if _KEY in one.metadata:
            yield _option_of(one)
        elif (inner := _inner(one)) is not None:
            yield from options_of(inner)


def settings_of(settings: type, given: Mapping[str, Any], **fixed: Any) -> Any:
    """An instance of `settings` with the options `given` by name, read; None is the default.

    Raises UsageError for an unknown name, and what reading raises.
    """
    known = {one.name: one for one in options_of(settings)}
    for name in given.keys() - known.keys():
        raise UsageError(f"unknown option {name!r}: use one of {', '.join(known)}")
    values = {name: known[name].read(value, known[name].flag) for name, value in given.items() if value is not None}
    return _filled(settings, values, fixed)


def words_of(settings: Any) -> list[str]:
    """The words of a command line that give the options of `settings`; what has its default is left out."""
    words: list[str] = []
    for one in fields(settings):
        value = getattr(settings, one.name)
        if _KEY in one.metadata:
            known = _option_of(one)
            words += () if value is None or value == known.default else known.words(known.flag, value)
        elif _inner(one) is not None:
            words += words_of(value)
    return words


def _option_of(one: Field[Any]) -> Option:
    known = dict(one.metadata[_KEY])
    known["flag"] = known["flag"] or f"--{one.name.replace('_', '-')}"
    return Option(one.name, **known)


def _filled(settings: type, values: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
    filled = dict(fixed)
    for one in fields(settings):
        if _KEY in one.metadata and one.name in values:
            filled[one.name] = values[one.name]
        elif _KEY not in one.metadata and (inner := _inner(one)) is not None and one.name not in fixed:
            # Names are unique over nested settings, so that one flat set of options fills them all.
            filled[one.name] = _filled(inner, values, {})
    return settings(**filled)


def _inner(one: Field[Any]) -> type | None:
    """The settings class of a field that holds settings."""
    made: Any = getattr(one, "default_factory", None)  # a class is no factory to the type checker
    return made if isinstance(made, type) and is_dataclass(made) else None
