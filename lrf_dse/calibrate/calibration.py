"""Write a target's files anew, with what a board measured in the place of what was known.

Everything else in the files stays as it is, comments too. The module measures nothing.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrf_dse.errors import StoreError, TargetError, UsageError
from lrf_dse.target import Figure, Timing, cost_table_file, load_target, target_file

_SOURCE = "board"
# Both files are changed as text, line by line: a TOML writer would lose their comments and their order.
_ENTRY = r"^({name}\s*=\s*\{{)(.*)(\}}\s*)$"
_FIGURE = re.compile(r"^(\w+)\s*=\s*\{\s*value\b.*$")


@dataclass(frozen=True)
class MeasuredCost:
    """What one operation cost: cycles of its pipe and to its result, for M1, M2, M4, M8; None keeps the table's.

    `per_element` takes the place of `busy` where the table charges by the element.
    """

    busy: tuple[float, ...] | None = None
    latency: tuple[float, ...] | None = None
    per_element: float | None = None

    @property
    def measured(self) -> Mapping[str, str]:
        """The parts that were measured, as TOML values."""
        parts = {
            "latency": None if self.latency is None else _numbers(self.latency),
            "busy": None if self.busy is None else _numbers(self.busy),
            "per_element": None if self.per_element is None else f"{self.per_element:.4g}",
        }
        return {name: text for name, text in parts.items() if text is not None}


@dataclass(frozen=True)
class Calibration:
    """What a board measured for `target`: costs by operation, and figures by their place ("cache 2 latency_cycles").

    `how` cycles are known, the `program` that ran (its SHA-256), and what could not be measured, with the reason.
    `emulator` ran it where the board was none: such figures are shown, never written.
    """

    target: str
    host: str
    date: str
    how: str
    program: str
    emulator: str | None
    costs: Mapping[str, MeasuredCost]
    figures: Mapping[str, float]
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the figures come from, as a target file says it."""
        return f"measured on {self.host}, {self.date}: {self.how}; program sha256 {self.program[:16]}"


def write_calibration(target: str, found: Calibration, out: Path) -> Path:
    """Write a copy of `target` (a shipped name, or a path) with what was `found`: `out`, and its table in costs/.

    Returns the table's path; `--target OUT` loads both. Raises UsageError for figures of an emulator, a target without
    a cost table, an operation or place that it lacks; StoreError where nothing can be written.
    """
    if found.emulator is not None:
        raise UsageError(f"{found.host}: {found.emulator} ran the programs; times of an emulator are no chip's costs")
    source, table = calibrated_files(target, out)
    text = source.read_text(encoding="utf-8")
    costs = with_measured_costs(table.read_text(encoding="utf-8"), found.costs, source=found.source)
    chip = with_measured_figures(text, found.figures, source=found.source)
    # The function in place of a text keeps backslashes of the name from being read as groups.
    chip = re.sub(r"^costs\s*=.*$", lambda _: f"costs = {_quoted(out.stem)}", chip, count=1, flags=re.MULTILINE)
    chip = re.sub(r'^(title\s*=\s*".*)"\s*$', rf'\g<1>, calibrated {found.date}"', chip, count=1, flags=re.MULTILINE)
    place = _table_of(out)
    _write(out, place, chip, costs)
    return place


def calibrated_files(target: str, out: Path) -> tuple[Path, Path]:
    """The files of `target` that a calibration for `out` copies: its own, and its table of costs.

    To be asked before anything is measured. Raises UsageError where `out` is no name for the result, or the target has
    no table; StoreError where nothing can be written.
    """
    if out.suffix != ".toml":
        raise UsageError(f"-o {out}: give a name that ends in .toml")
    source = target_file(target)
    named = tomllib.loads(source.read_text(encoding="utf-8")).get("timing", {}).get("costs")
    if named is None:
        raise UsageError(f"target {target!r} has no table of costs to calibrate")
    table = cost_table_file(source, named)
    place = _table_of(out)
    if place.resolve() == table.resolve() or out.resolve() == source.resolve():
        raise UsageError(f"-o {out}: would replace the target that is calibrated; give another name")
    if taken := next((path for path in (out, place) if path.exists() and not _is_calibration(path)), None):
        raise UsageError(f"-o {out}: {taken} is there already, and no calibration wrote it; give another name")
    folder = next(folder for folder in out.absolute().parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"cannot write the calibrated target {out}: {folder} is no folder that can be written to")
    return source, table


def _table_of(out: Path) -> Path:
    return out.parent / "costs" / out.name


def _is_calibration(path: Path) -> bool:
    """Whether `write_calibration` wrote `path`: it says so in the title, and in the sources of the costs."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return bool(re.search(rf"^title\s*=.*, calibrated \d|^\[sources\.{_SOURCE}", text, flags=re.MULTILINE))


def _write(out: Path, place: Path, chip: str, costs: str) -> None:
    """Write both files, after they have been read back as a target."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # Beside their place, so that each is renamed within one file system: never half a file under the final name.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".calibrated-") as scratch:
            trial = Path(scratch) / out.name
            (Path(scratch) / "costs").mkdir()
            (Path(scratch) / "costs" / place.name).write_text(costs, encoding="utf-8")
            trial.write_text(chip, encoding="utf-8")
            load_target(str(trial))
            # The table first: a target that names a missing table could not be loaded.
            (Path(scratch) / "costs" / place.name).replace(place)
            trial.replace(out)
    except TargetError as error:
        reason = str(error).rpartition(".toml: ")[2]
        raise UsageError(f"{out}: not written, what was measured makes no target ({reason})") from error
    except OSError as error:
        raise StoreError(f"{out}: cannot write the calibrated target: {error.strerror}") from error


def with_measured_costs(table: str, costs: Mapping[str, MeasuredCost], *, source: str) -> str:
    """The text of a cost table with `costs` in the place of its own, everything else as it was. Raises UsageError.

    Where only a part of an entry was measured, its source says which, and where the rest is from.
    """
    known: dict[str, Any] = tomllib.loads(table)
    sources: dict[str, str] = {}
    for name, cost in costs.items():
        entry = re.compile(_ENTRY.format(name=re.escape(name)), re.MULTILINE)
        found = entry.search(table)
        if found is None:
            raise UsageError(f"the table of costs has no operation {name!r}")
        key, said = _source(cost, known["cost"][name], known.get("sources", {}), source)
        sources[key] = said
        body = found.group(2)
        for part, value in {"known": f'"{key}"', **cost.measured}.items():
            body = _with_value(body, part, value)
        table = table[: found.start()] + found.group(1) + body + found.group(3) + table[found.end() :]
    return _with_sources(table, known.get("sources", {}), sources)


def _source(cost: MeasuredCost, entry: Mapping[str, Any], sources: Mapping[str, Any], source: str) -> tuple[str, str]:
    """The key and the words for where an entry is from, once a part of it or all was measured."""
    throughput = cost.busy is not None or cost.per_element is not None
    if throughput and cost.latency is not None:
        return _SOURCE, source
    part, rest = ("throughput", "latency") if throughput else ("latency", "throughput")
    old = entry["known"]
    if old.startswith(_SOURCE):  # calibrated before: its own words would grow with every time
        return f"{_SOURCE}-{part}", f"{part} {source}; {rest} from an earlier calibration"
    return f"{_SOURCE}-{part}-{old}", f"{part} {source}; {rest}: {sources.get(old, {}).get('source', old)}"


def _with_sources(table: str, known: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """The text of the table with new [sources.*] before [cost]; they replace those of the same name."""
    # A section ends where the next line begins with a bracket.
    for key in sources.keys() & known.keys():
        table = re.sub(rf"^\[sources\.{re.escape(key)}\]\n(?:(?!\[).*\n)*", "", table, count=1, flags=re.MULTILINE)
    sections = "".join(
        f'[sources.{key}]\nbasis = "measured"\nsource = {_quoted(said)}\n\n' for key, said in sources.items()
    )
    return re.sub(r"^\[cost\]", lambda match: sections + match.group(0), table, count=1, flags=re.MULTILINE)


def with_measured_figures(text: str, figures: Mapping[str, float], *, source: str) -> str:
    """The text of a target file with `figures` in the place of its own. Raises UsageError for a place it lacks.

    A place is "timing KEY" of [timing], "cache N KEY" of its Nth [[timing.cache]], or "dram KEY" of [timing.dram].
    """
    section, caches, missing = "", 0, dict(figures)
    lines = []
    for line in text.splitlines():
        if line.startswith("["):
            caches += line.startswith("[[timing.cache]]")
            # [[timing.cache]] may stand several times; the Nth is "cache N".
            places = {"[timing]": "timing", "[[timing.cache]]": f"cache {caches}", "[timing.dram]": "dram"}
            section = places.get(line.strip(), "")
        figure = _FIGURE.match(line)
        value = missing.pop(f"{section} {figure.group(1)}", None) if figure else None
        if figure is not None and value is not None:
            words = f'value = {value:.4g}, basis = "measured", source = {_quoted(source)}'
            lines.append(f"{figure.group(1)} = {{ {words} }}")
        else:
            lines.append(line)
    if missing:
        raise UsageError(f"the target file has no figure {min(missing)!r}")
    return "\n".join(lines) + "\n"


def figure_at(timing: Timing, place: str) -> Figure:
    """The figure at a place of `with_measured_figures`, as the target has it."""
    section, *number, key = place.split(" ")
    holder = {"timing": timing, "dram": timing.dram}.get(section) or timing.cache[int(number[0]) - 1]
    figure = getattr(holder, key)
    assert isinstance(figure, Figure)
    return figure


def _with_value(body: str, key: str, value: str) -> str:
    """The inside of an inline table with `key` set to `value`; a new key is put right behind `pipes`."""
    pattern = re.compile(rf'\b{key}\s*=\s*(\[[^]]*\]|"[^"]*"|[\d._]+)')
    if pattern.search(body):
        return pattern.sub(lambda _: f"{key} = {value}", body, count=1)
    return re.sub(r'(pipes\s*=\s*"[^"]*",)', lambda match: f"{match.group(1)} {key} = {value},", body, count=1)


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
