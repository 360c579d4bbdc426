"""The columns that IREE fills: t3f's graph, the transpose-free graph and the dense layer, under its flag sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.against.contractions import Contraction, contractions
from benchmarks.against.graphs import T3F_FORMS, T3fForm, dense_model, t3f_model, transpose_free_model
from benchmarks.against.variants import QEMU_LACKS, Group, Groups, LayerData, Variant
from lrf_dse.builders.hal import read_schedule
from lrf_dse.builders.iree import compile_to_hal, import_onnx
from lrf_dse.builders.linking import link_program
from lrf_dse.builders.packing import pack_at_build
from lrf_dse.target import Target

if TYPE_CHECKING:
    import onnx

_TILED = ("--iree-opt-data-tiling",)
_UKERNELS = (*_TILED, "--iree-llvmcpu-enable-ukernels=mmt4d")


@dataclass(frozen=True)
class FlagSet:
    """Flags of iree-compile; `tuned` adds the chip's own --iree-llvmcpu-target-cpu and its extensions."""

    name: str
    flags: tuple[str, ...] = ()
    tuned: bool = False


FLAG_SETS = (
    FlagSet("default"),
    FlagSet("data tiling", _TILED),
    FlagSet("mmt4d ukernels", _UKERNELS),
    FlagSet("target-cpu", tuned=True),
    FlagSet("target-cpu, mmt4d ukernels", _UKERNELS, tuned=True),
    FlagSet("target-cpu, mmt4d ukernels, O3", (*_UKERNELS, "--iree-opt-level=O3"), tuned=True),
    FlagSet("data tiling, inner tiled", (*_TILED, "--iree-llvmcpu-enable-inner-tiled")),
    FlagSet("no distribution", ("--iree-llvmcpu-disable-distribution",)),
)
"""Data tiling alone with target-cpu made the same programs as its ukernels, which are not used then. One thread needs
no distribution to workgroups. What data tiling packs is packed at build. Tried and the same or slower: O3 alone, LLVM
ukernels, aggressive distribution; data tiling without distribution does not compile."""


def as_used_groups(data: LayerData, target: Target) -> Groups:
    """What a user of t3f and IREE gets: t3f's order of the cores as they are, its graph, no flag.

    Exporters write its einsum with either operand first; the faster one counts.
    """
    shape = data.case.shape
    way = Contraction(shape, (1,) * shape.d, tuple(reversed(range(shape.d))), data.case.batch)
    for form in T3F_FORMS:
        yield _t3f_group(way, form, data, target, FLAG_SETS[:1])


def t3f_groups(data: LayerData, target: Target) -> Groups:
    """t3f's graph under every flag set, with its einsum written either way."""
    for way in contractions(data.case.shape, data.case.batch, from_an_end=True):
        for form in T3F_FORMS:
            yield _t3f_group(way, form, data, target, FLAG_SETS)


def _t3f_group(way: Contraction, form: T3fForm, data: LayerData, target: Target, flag_sets: Sequence[FlagSet]) -> Group:
    facts = {"graph": "t3f", "way": way.name, "form": form}
    variants = _variants(facts, lambda: t3f_model(way, data.cores, form), target, flag_sets)
    return Group(f"{way.name}, {form} first", list(variants))


def transpose_free_groups(data: LayerData, target: Target) -> Groups:
    """The transpose-free graph."""
    for way in contractions(data.case.shape, data.case.batch):
        make = partial(lambda way: transpose_free_model(way, data.cores), way)
        yield Group(way.name, list(_variants({"graph": "transpose-free", "way": way.name}, make, target, FLAG_SETS)))


def dense_groups(data: LayerData, target: Target) -> Groups:
    """The dense layer, W stored either way."""
    for transposed, form in ((False, "x W^T, stored [in, out]"), (True, "W x^T, stored [out, in]")):
        make = partial(lambda transposed: dense_model(data.weight, data.case.batch, transposed=transposed), transposed)
        yield Group(form, list(_variants({"graph": "dense", "form": form}, make, target, FLAG_SETS)))


def _variants(
    facts: dict[str, str], make: Callable[[], onnx.ModelProto], target: Target, flag_sets: Sequence[FlagSet]
) -> Iterator[Variant]:
    graph = _Graph(make)
    for flag_set in flag_sets:
        if flag_set.tuned and target.cc.tune is None:
            continue
        wanted = {**facts, "flags": list(flag_set.flags), "tuned": flag_set.tuned}
        yield Variant(flag_set.name, wanted, partial(_build, graph, flag_set, target))


class _Graph:
    """A model that is imported into MLIR once, whatever the flags; the text is kept in memory."""

    def __init__(self, make: Callable[[], onnx.ModelProto]) -> None:
        self._make = make
        self._text: bytes | None = None

    def write(self, folder: Path) -> Path:
        """The MLIR file in `folder`. Raises BuildError."""
        if self._text is None:
            self._text = import_onnx(self._make(), folder).read_bytes()
        path = folder / "model.mlir"
        path.write_bytes(self._text)
        return path


def _build(graph: _Graph, flag_set: FlagSet, target: Target, folder: Path) -> Path:
    machine, flags = target, flag_set.flags
    if flag_set.tuned:
        machine = tuned(target)
        flags = (f"--iree-llvmcpu-target-cpu={target.cc.tune}", *flags)
    hal = compile_to_hal(graph.write(folder), machine, flags=flags)
    schedule = pack_at_build(read_schedule(hal.read_text(encoding="utf-8")), target, folder)
    return link_program(schedule, target, folder, title="baseline")


def tuned(target: Target) -> Target:
    """`target` with the extensions that its core brings along switched off where QEMU lacks them."""
    features = ",".join([target.iree.cpu_features, *(f"-{extension}" for extension in QEMU_LACKS)])
    return target.model_copy(update={"iree": target.iree.model_copy(update={"cpu_features": features})})
