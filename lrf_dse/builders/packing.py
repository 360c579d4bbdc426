"""Do at build time what a schedule would do once at load: packed weights become constants.

With data tiling IREE packs weights into the layout of its kernels when a module is loaded, into RAM, beside the
originals. The packing is deterministic, so it is run here, under QEMU, and the shipped program holds the result:
same kernels, no second copy. (The .vmfb packs by itself, as the stock runtime does it.)
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from lrf_dse.builders.linking import PACK_SOURCES, link_program
from lrf_dse.builders.schedule import Command, Copy, Dispatch, Fill, Port, Schedule, Span, Storage
from lrf_dse.errors import BuildError, ToolError, ToolHangs, ToolTimeout
from lrf_dse.process import Limit, run
from lrf_dse.target import Target

_MOST_CPU_S = 1200.0


def pack_at_build(schedule: Schedule, target: Target, work_dir: Path) -> Schedule:
    """`schedule` with nothing left to do at load, and without the constants that only that needed."""
    states = schedule.of_kind("state")
    if not schedule.at_load:
        return schedule
    data = _run_packer(schedule, target, work_dir)
    if len(data) != sum(state.size_bytes for state in states):
        raise BuildError(f"the packer wrote {len(data)} bytes for states of {[s.size_bytes for s in states]}")
    first, offset, packed = len(schedule.of_kind("constant")), 0, dict[str, Storage]()
    for index, state in enumerate(states):
        content = data[offset : offset + state.size_bytes]
        packed[state.symbol] = Storage("constant", first + index, state.size_bytes, content)
        offset += state.size_bytes
    commands = tuple(_moved_command(command, packed) for command in schedule.commands)
    outputs = tuple(_moved_port(port, packed) for port in schedule.outputs)
    used = {span.storage.symbol for command in commands for span in _spans(command)}
    used |= {port.span.storage.symbol for port in outputs}
    storages = [packed.get(storage.symbol, storage) for storage in schedule.storages]
    kept = tuple(s for s in storages if s.kind != "constant" or s.symbol in used)
    return replace(schedule, storages=kept, at_load=(), commands=commands, outputs=outputs)


def _run_packer(schedule: Schedule, target: Target, work_dir: Path) -> bytes:
    folder = work_dir / "pack"
    folder.mkdir(exist_ok=True)
    program = link_program(schedule, target, folder, title="packing", name="pack-riscv64", sources=PACK_SOURCES)
    qemu = shutil.which("qemu-riscv64")
    if qemu is None:
        raise ToolError("qemu-riscv64 not found: install the Debian package qemu-user (apt-get install qemu-user)")
    out = folder / "states.bin"
    command = [qemu, "-cpu", target.qemu.cpu, str(program), out.name]
    try:
        done = run(command, name="packing the weights under qemu-riscv64", limit=Limit(cpu_s=_MOST_CPU_S), cwd=folder)
    except ToolHangs:
        raise
    except ToolTimeout as error:
        raise BuildError(str(error)) from error
    if done.code != 0:
        raise BuildError(f"packing the weights failed: {done.stderr.strip() or f'exit code {done.code}'}")
    return out.read_bytes()


def _spans(command: Command) -> tuple[Span, ...]:
    match command:
        case Dispatch():
            return command.bindings
        case Fill():
            return (command.target,)
        case Copy():
            return (command.source, command.target)


def _moved(span: Span, packed: dict[str, Storage]) -> Span:
    return replace(span, storage=packed.get(span.storage.symbol, span.storage))


def _moved_port(port: Port, packed: dict[str, Storage]) -> Port:
    return replace(port, span=_moved(port.span, packed))


def _moved_command(command: Command, packed: dict[str, Storage]) -> Command:
    match command:
        case Dispatch():
            return replace(command, bindings=tuple(_moved(span, packed) for span in command.bindings))
        case Fill():
            return replace(command, target=_moved(command.target, packed))
        case Copy():
            return Copy(_moved(command.source, packed), _moved(command.target, packed))
