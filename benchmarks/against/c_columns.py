"""The columns that C compilers fill: plain loops by zig cc, and by polyhedral optimisers through clang."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.against.contractions import Contraction, contractions
from benchmarks.against.plain_loops import FUNCTION, LoopCode, LoopForm, emit_loops
from benchmarks.against.polyhedral import TunedMachine, compile_with_pluto, compile_with_polly, has_pluto
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
POLYHEDRAL_FORMS: tuple[LoopForm, ...] = ("t3f einsum", "einsum", "i-k-j")

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
    "tile": ("--tile", "--noparallel"),
    "tile, prevector": ("--tile", "--noparallel", "--prevector"),
    "no tiling": ("--notile", "--noparallel"),
}


def literal_groups(data: LayerData, target: Target) -> Groups:
    """The einsum as it is written, by zig cc; with and without leave to reorder sums."""
    return _zig_groups(data, target, LITERAL_FORMS)


def hand_groups(data: LayerData, target: Target) -> Groups:
    """The best order of loops by hand, by zig cc."""
    return _zig_groups(data, target, HAND_FORMS)


def polyhedral_groups(data: LayerData, target: Target) -> Groups:
    """Polly, and Pluto where it is installed, on the plain loops in either order."""
    optimisers: list[tuple[str, _Optimiser, dict[str, tuple[str, ...]]]] = [("Polly", compile_with_polly, POLLY_SETS)]
    if has_pluto():
        optimisers.append(("Pluto", compile_with_pluto, PLUTO_SETS))
    for way in contractions(data.case.shape, data.case.batch):
        variants: list[Variant] = []
        for form in _forms(POLYHEDRAL_FORMS, way):
            loops = _Loops(data, target, way, form)
            for tool, compile_one, sets in optimisers:
                for name, options in sets.items():
                    facts = {**loops.facts, "tool": tool, "options": list(options)}
                    build = partial(loops.build_polyhedral, compile_one, options)
                    variants.append(Variant(f"{form}, {tool} {name}", facts, build))
        yield Group(way.name, variants)


def _zig_groups(data: LayerData, target: Target, forms: Sequence[LoopForm]) -> Iterator[Group]:
    for way in contractions(data.case.shape, data.case.batch):
        variants = []
        for form in _forms(forms, way):
            loops = _Loops(data, target, way, form)
            for maths, flags in _MATHS.items():
                name = ", ".join(part for part in (form, maths) if part)
                facts = {**loops.facts, "flags": [*_OPTIMISED, *flags]}
                variants.append(Variant(name, facts, partial(loops.build_zig, flags)))
        yield Group(way.name, variants)


def _forms(forms: Sequence[LoopForm], way: Contraction) -> Iterator[LoopForm]:
    """Those that `way` can be written in: t3f contracts from the last core only."""
    return (form for form in forms if form != "t3f einsum" or list(way.order) == sorted(way.order, reverse=True))


class _Optimiser(Protocol):
    """A polyhedral optimiser of benchmarks.against.polyhedral."""

    def __call__(self, source: Path, target: Target, machine: TunedMachine, options: Sequence[str]) -> Path: ...


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
