"""Bundles of one network in every storage, on chips with short, long and no vectors: file sizes, flash, RAM, errors.

    python -m benchmarks.bundles [--chips NAME ...] [--docs]

The network is LeNet-300-100 with a tensor train in the first layer, low rank in the second and the third as it is, all
of them stored in one storage; "widened at load" is the same bundle whose kernels read a copy in RAM where that saves
cycles. Every bundle is made and verified as `lrf-dse export` does it: the program under the chip's own QEMU, and the
module's twin by IREE's runtime on this machine, both against onnxruntime on the bundle's model.onnx. `--docs` writes
the table into docs/storages.md. Exit code 1 if a bundle is refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.kit.page import markdown_table, with_section
from benchmarks.kit.training_data import EXAMPLES
from lrf_dse.codegen import KernelSchedule
from lrf_dse.deploy.bundle import BundleRequest, write_bundle
from lrf_dse.errors import LrfDseError
from lrf_dse.models.compress import Compressor, replaced
from lrf_dse.models.data import load_data
from lrf_dse.models.few_bits_file import in_few_bits
from lrf_dse.models.reader import read_model
from lrf_dse.pipeline.golden import golden_cases
from lrf_dse.pipeline.kernels import default_schedules, with_kernels
from lrf_dse.pipeline.storages import STORAGES
from lrf_dse.pipeline.widening import widened_variants
from lrf_dse.schema import Candidate, Measurement, Plan, Storage, TTShape, dense_candidate
from lrf_dse.target import Target, load_target

PAGE = Path(__file__).resolve().parents[1] / "docs" / "storages.md"
CHIPS = ("spacemit-k1", "canaan-k230", "sifive-x280", "starfive-jh7110")
SHAPES = (TTShape((20, 15), (28, 28), (1, 8, 1)), TTShape((100, 1), (1, 300), (1, 24, 1)), None)
"""Of the layers 784x300, 300x100 and 100x10; None is one matrix."""
CASES = 2
HEADER = [
    "chip",
    "weights",
    "model.onnx",
    "model.vmfb",
    "program",
    "flash",
    "RAM",
    "error by QEMU",
    "by IREE's runtime",
]


class Network:
    """The network with its fits, which all chips and bundles share."""

    def __init__(self) -> None:
        folder = EXAMPLES / "lenet300"
        self.model = read_model(folder / "model.onnx")
        calibration = load_data(folder / "calibration.npz", self.model, judges=False)
        self.compressor = Compressor(self.model, seed=0, calibration=calibration)
        self.cases = golden_cases(self.model, calibration, seed=0, count=CASES)

    def choices(self, storage: Storage) -> tuple[Candidate, ...]:
        """The layers in one storage."""
        found = []
        for layer, shape in zip(self.model.fc_layers, SHAPES, strict=True):
            dense = replace(dense_candidate(layer, "rvv"), storage=storage)
            found.append(dense if shape is None else replace(dense, tt_shape=shape, decomposer="als"))
        return tuple(found)

    def bundle(self, choices: Sequence[Candidate], schedules: dict[str, KernelSchedule], target: Target) -> list[str]:
        """The cells of one bundle: sizes of its files, flash and RAM of its program, and its errors."""
        made = self.compressor.replacements(choices)
        stored = [one for replacement in made.values() for one in replacement.stored or ()]
        request = BundleRequest(
            plan=Plan("p1", tuple(choices), None, "", None, 0, 0, 0.0),
            model=in_few_bits(replaced(self.model, made), stored),
            compiled=replaced(self.model, with_kernels(made, choices, schedules)),
            kernels={name: str(schedule) for name, schedule in schedules.items()},
            cases=self.cases,
            cases_source="samples of the data",
            target=target,
            accuracy={},
            run_facts={},
        )
        with tempfile.TemporaryDirectory(prefix="lrf-dse-") as folder:
            manifest = write_bundle(request, Path(folder) / "bundle")
        files, verified = manifest["files"], manifest["verified"]
        sizes = [files[name]["bytes"] for name in ("model.onnx", "model.vmfb", "model-riscv64")]
        sizes += [manifest["flash_bytes"], manifest["ram_bytes"]]
        errors = (verified["max_rel_error"], verified["on_this_machine"]["max_rel_error"])
        return [*(f"{size:,}" for size in sizes), *(f"{error:.1e}" for error in errors)]


def rows(network: Network, target: Target) -> Iterator[tuple[list[str], bool]]:
    """A line for each bundle of a chip, and whether it was made."""
    for storage in STORAGES:
        choices = network.choices(storage)
        plain = dict(default_schedules(choices, target))
        nothing = Measurement("", None, {}, 0, 0, {}, 0.0, 0.0)
        ways: list[tuple[str, dict[str, KernelSchedule]]] = [(storage, plain)]
        twins = widened_variants([(choices, plain, nothing)], target, max_ram_bytes=None)
        ways += [(f"{storage}, widened at load", schedules) for _, schedules in twins]
        for name, schedules in ways:
            try:
                cells, made = network.bundle(choices, schedules, target), True
            except LrfDseError as error:
                cells, made = [*[""] * 5, str(error)[:160], ""], False
            print(target.name, name, *cells, file=sys.stderr, flush=True)
            yield [target.name, name, *cells], made


def main() -> int:
    """Make the bundles, print the table, and say by the exit code whether all were made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="+", default=list(CHIPS))
    parser.add_argument("--docs", action="store_true")
    chosen = parser.parse_args()
    network = Network()
    found = [row for name in chosen.chips for row in rows(network, load_target(name))]
    table = markdown_table(HEADER, [cells for cells, _ in found])
    print(table)
    if chosen.docs:
        PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), "bundles", table), encoding="utf-8")
    return 0 if all(made for _, made in found) else 1


if __name__ == "__main__":
    sys.exit(main())
