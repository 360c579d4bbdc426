"""The README of a bundle says what is in it, and has the commands that run it. It is made from the manifest alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def bundle_readme(manifest: Mapping[str, Any]) -> str:
    """Instructions for one bundle, with its own input and output files in the commands."""
    target = manifest["target"]
    inputs = " ".join(f"golden/input{i}.bin" for i in range(len(manifest["inputs"])))
    expected = " ".join(f"golden/output{i}.bin" for i in range(len(manifest["outputs"])))
    # Beside golden/, so that trying the program does not overwrite what it is compared with.
    outputs = " ".join(f"output{i}.bin" for i in range(len(manifest["outputs"])))
    vector = f"a vector unit with VLEN >= {target['vlen_bits']}" if target["vlen_bits"] else "no vector unit needed"
    files = "\n".join(f"  {name:<22} {facts['bytes']:>10,} bytes" for name, facts in manifest["files"].items())
    return f"""This folder runs one compressed model on riscv64 Linux ({target["isa"]}; {vector}).

Copy it to the board, check it there, use it:

  1. scp -r . user@board:model
  2. ssh user@board 'cd model && ./model-riscv64 --check {inputs} {expected}'
  3. ssh user@board 'cd model && ./model-riscv64 {inputs} {outputs}'

The program reads and writes raw little-endian arrays, inputs then outputs in this order:
{_port_lines("input ", manifest["inputs"])}
{_port_lines("output", manifest["outputs"])}

golden/ holds an input and onnxruntime's output for it. Floating-point sums in another order differ in their
last bits: under QEMU by {manifest["verified"]["max_rel_error"]:.2g} of max |y|.
--check allows {manifest["tolerance"]:.0e}, else exit code 5.
Before that, --check compares every file here with SHA256SUMS: exit code 4 where one is not what was exported.
The program refuses to run (exit code 3) where the vector registers are too short. --threads N uses N cores.

model.vmfb is the same network for the stock IREE runtime; model.onnx for any ONNX runtime.
Expected accuracy: {_accuracy_text(manifest["accuracy"])}.

{files}
"""


def _accuracy_text(accuracy: Mapping[str, Any]) -> str:
    if not accuracy:
        return "unknown (no data was given)"
    values = [
        f"{accuracy[part]:.2f} %" if accuracy["unit"] == "%" else f"{accuracy[part]:.4g} {accuracy['unit']}".rstrip()
        for part in ("validation", "test")
    ]
    return (
        f"{accuracy['metric']} {values[0]} on {accuracy['validation_samples']} validation samples, {values[1]} on "
        f"{accuracy['test_samples']} test samples\n"
        f"(drop from the dense model on the latter: {accuracy['test_drop_points']:.2f} {accuracy['drop_unit']})"
        f"{_confirmed_text(accuracy)}"
    )


def _confirmed_text(accuracy: Mapping[str, Any]) -> str:
    known = accuracy.get("confirmation")
    if not known or known.get("high") is None:
        return ""
    verdict = "Confirmed" if known["confirmed"] else "NOT confirmed to keep its drop budget"
    return (
        f".\n{verdict}: {known['drop']:.2f} {accuracy['drop_unit']} lost, at most {known['high']:.2f} (95 %), on "
        f"{known['samples']} samples that chose nothing"
    )


def _port_lines(kind: str, ports: list[Mapping[str, Any]]) -> str:
    return "\n".join(f"  {kind} {port['name']}: {port['dtype']} {port['shape']}" for port in ports)
