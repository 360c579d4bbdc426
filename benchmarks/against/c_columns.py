"""The columns that C compilers fill: plain loops by zig cc, and by polyhedral optimisers through clang."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.against.contractions import Contraction, contractions
from benchmarks.against.plain_loops import FROM_THE_LAST_CORE, FUNCTION, LoopCode, LoopForm, emit_loops
from benchmarks.against.polyhedral import TunedMachine, compile_with_pluto, compile_with_polly, pluto_version
from benchmarks.against.variants import QEMU_LACKS, Group, Groups, LayerData, Variant
from lrf_dse.builders.direct import DirectLayer, link_direct
from lrf_dse.builders.kernel_object import compile_kernel
from lrf_dse.codegen import Phase
from lrf_dse.errors import BuildError
from lrf_dse.target import Target

# zig cc takes -O3 for -O2 and keeps frame pointers (0.17): the first -O3 is for its driver, the second for clang.
_OPTIMISED = ("-O3", "-Xclang", "-O3", "-fomit-frame-pointer", "-fno-builtin")
_MATHS: dict[str, tuple[str, ...]] = {"": (), "fast-math": ("-ffast-math",)}

LITERAL_FORMS: tuple[LoopForm, ...] = ("t3f einsum", "einsum", "sum in memory")
HAND_FORMS: tuple[LoopForm, ...] = ("i-k-j", "i-k-j in a row")
POLLY_FORMS: tuple[LoopForm, ...] = ("t3f einsum", "einsum", "i-k-j")
PLUTO_FORMS: tuple[LoopForm, ...] = ("t3f sum in memory", "sum in memory", "i-k-j")
"""Pluto's front end refuses the declaration of a scalar sum inside a nest."""

POLLY_SETS: dict[str, tuple[str, ...]] = {
    "default": (),
    "no tiling": ("-polly-tiling=false",),
    "stripmine": ("-polly-vectorizer=stripmine",),
    "two levels of tiles": ("-polly-2nd-level-tiling",),
    "early": ("-polly-position=early",),
}
"""What changed code and won somewhere among Polly's switches. Register tiling, tensor-contraction and matmul pattern
matching, vector width and other tile sizes were tried: the same code or slower."""

PLUTO_SETS: dict[str, tuple[str, ...]] = {
    "default": (),
    "one thread": ("--tile", "--noparallel"),
    "one thread, prevector": ("--tile", "--noparallel", "--prevector"),
    "one thread, no tiling": ("--notile", "--noparallel"),
}
"""What polycc does without a flag depends on its version. Clang passes over marks for OpenMP: one core is timed."""


def literal_groups(data: LayerData, target: Target) -> Groups:
    """The einsum as it is written, by zig cc; with and without leave to reorder sums."""
    return _zig_groups(data, target, LITERAL_FORMS)


def hand_groups(data: LayerData, target: Target) -> Groups:
    """The best order of loops by hand, by zig cc."""
    return _zig_groups(data, target, HAND_FORMS)


def polly_groups(data: LayerData, target: Target) -> Groups:
    """Polly on the plain loops in either order."""
    polly = _Tool(compile_with_polly, POLLY_SETS, {"tool": "Polly"})
    return _polyhedral_groups(data, target, POLLY_FORMS, polly)


def pluto_groups(data: LayerData, target: Target) -> Groups:
    """Pluto under each of its flag sets; nothing where it is not installed."""
    return _pluto_groups(data, target, PLUTO_SETS)


def pluto_default_groups(data: LayerData, target: Target) -> Groups:
    """Pluto as `polycc` comes, without a flag; nothing where it is not installed."""
    return _pluto_groups(data, target, {"default": PLUTO_SETS["default"]})


def _pluto_groups(data: LayerData, target: Target, sets: Mapping[str, tuple[str, ...]]) -> Groups:
    """Its version is part of these programs' keys, and of no other column's: to install it makes no record stale."""
    version = pluto_version()
    if version is None:
        return ()
    pluto = _Tool(compile_with_pluto, sets, {"tool": "Pluto", "version": version})
    return _polyhedral_groups(data, target, PLUTO_FORMS, pluto)


def _polyhedral_groups(data: LayerData, target: Target, forms: Sequence[LoopForm], tool: _Tool) -> Iterator[Group]:
    for way in contractions(data.case.shape, data.case.batch):
        variants: list[Variant] = []
        for form in _forms(forms, way):
            loops = _Loops(data, target, way, form)
            for name, options in tool.sets.items():
                build = partial(loops.build_polyhedral, tool.compile_one, options)
                variants.append(
                    Variant(f"{form}, {name}", {**loops.facts, **tool.facts, "options": list(options)}, build)
                )
        yield Group(way.name, variants)


def _zig_groups(data: LayerData, target: Target, forms: Sequence[LoopForm]) -> Iterator[Group]:
    for way in contractions(data.case.shape, data.case.batch):
        variants = []
        for form in _forms(forms, way):
            loops = _Loops(data, target, way, form)
            for maths, flags in _MATHS.items():
                name = ", ".join(part for part in (form, maths) if part)
                facts = {**loops.facts, "tool": "zig cc", "flags": [*_OPTIMISED, *flags]}
                variants.append(Variant(name, facts, partial(loops.build_zig, flags)))
        yield Group(way.name, variants)


def _forms(forms: Sequence[LoopForm], way: Contraction) -> Iterator[LoopForm]:
    """Those that `way` can be written in: t3f contracts from the last core only."""
    return (
        form for form in forms if form not in FROM_THE_LAST_CORE or list(way.order) == sorted(way.order, reverse=True)
    )


class _Optimiser(Protocol):
    """A polyhedral optimiser of benchmarks.against.polyhedral."""

    def __call__(self, source: Path, target: Target, machine: TunedMachine, options: Sequence[str]) -> Path: ...


@dataclass(frozen=True, eq=False)
class _Tool:
    """A polyhedral optimiser, its flag sets by name, and what of it decides a program."""

    compile_one: _Optimiser
    sets: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Loops:
    """The loops of one layer in one form, and the programs that compilers make of them."""

    data: LayerData
    target: Target
    way: Contraction
    form: LoopForm

    @property
    def facts(self) -> dict[str, Any]:
        return {"way": self.way.name, "form": self.form}

    def build_zig(self, flags: tuple[str, ...], folder: Path) -> Path:
        code = emit_loops(self.way, self.data.cores, self.form)
        options = (*_OPTIMISED, *flags)
        return self._link(code, compile_kernel(code.source, tuned(self.target), folder, name="loops", flags=options))

    def build_polyhedral(self, compile_one: _Optimiser, options: tuple[str, ...], folder: Path) -> Path:
        code = emit_loops(self.way, self.data.cores, self.form, scop=True)
        source = folder.resolve() / "loops.c"
        try:
            source.write_text(code.source, encoding="utf-8")
        except OSError as error:
            raise BuildError(f"{source}: {error.strerror}") from error
        return self._link(
            code, compile_one(source, self.target, TunedMachine(self.target.cc.tune, QEMU_LACKS), options)
        )

    def _link(self, code: LoopCode, built: Path) -> Path:
        sizes = (self.data.x.size, self.data.case.batch * self.data.case.shape.out_features)
        layer = DirectLayer("loops", (Phase(FUNCTION, 1),), code.weights, *sizes, scratch_bytes=code.scratch_bytes)
        return link_direct([layer], [built], self.target, built.parent)


def tuned(target: Target) -> Target:
    """`target` with zig cc compiling for its own core, without the extensions that QEMU lacks."""
    if target.cc.tune is None:
        return target
    mcpu = target.cc.tune.replace("-", "_") + "".join(f"-{extension}" for extension in QEMU_LACKS)
    return target.model_copy(update={"cc": target.cc.model_copy(update={"mcpu": mcpu, "tune": None})})
