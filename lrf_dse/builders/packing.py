"""Do at build time what a schedule would do once at load: packed weights become constants.

With data tiling IREE packs weights into the layout of its kernels when a module is loaded, into RAM, beside the
originals. The packing is deterministic, so it is run here, under QEMU, and the shipped program holds the result:
same kernels, no second copy. (The .vmfb packs by itself, as the stock runtime does it.)

Weights that kernels of ours widen at load are still widened at load, because the artifact is to hold the codes alone.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from lrf_dse.builders.kernel_calls import is_load
from lrf_dse.builders.linking import PACK_SOURCES, link_program
from lrf_dse.builders.schedule import Buffer, Command, Copy, Dispatch, Fill, Port, Schedule, Span
from lrf_dse.errors import BuildError, ToolError, ToolHangs, ToolTimeout
from lrf_dse.process import Limit, run
from lrf_dse.target import Target

_MOST_CPU_S = 1200.0


def pack_at_build(schedule: Schedule, target: Target, work_dir: Path) -> Schedule:
    """`schedule` with nothing left to do at load but to widen weights, without constants that only the rest needed."""
    widened, left = _widening(schedule)
    done = tuple(command for command in schedule.at_load if command not in left)
    if not done:
        return schedule
    states = tuple(state for state in schedule.of_kind("state") if state.symbol not in widened)
    others = tuple(storage for storage in schedule.storages if storage.kind != "state")
    packing = replace(schedule, storages=(*others, *states), at_load=done)
    data = _run_packer(packing, target, work_dir)
    if len(data) != sum(state.size_bytes for state in states):
        raise BuildError(f"the packer wrote {len(data)} bytes for states of {[s.size_bytes for s in states]}")
    # The packer writes its states one behind the other in the order of their index; as constants they are numbered
    # behind those that are there.
    first, offset, packed = len(schedule.of_kind("constant")), 0, dict[str, Buffer]()
    for index, state in enumerate(states):
        content = data[offset : offset + state.size_bytes]
        packed[state.symbol] = Buffer("constant", first + index, state.size_bytes, content)
        offset += state.size_bytes
    commands, loading = (tuple(_moved_command(c, packed) for c in some) for some in (schedule.commands, left))
    outputs = tuple(_moved_port(port, packed) for port in schedule.outputs)
    used = {span.storage.symbol for command in (*loading, *commands) for span in _spans(command)}
    used |= {port.span.storage.symbol for port in outputs}
    storages = [packed.get(storage.symbol, storage) for storage in schedule.storages]
    # The originals of packed weights are read by nothing any more.
    kept = tuple(s for s in storages if s.kind != "constant" or s.symbol in used)
    return replace(schedule, storages=kept, at_load=loading, commands=commands, outputs=outputs)


def _widening(schedule: Schedule) -> tuple[set[str], tuple[Command, ...]]:
    """The states that kernels of ours fill at load, and the commands there that use one of them.

    States that such a command uses besides belong to them: a buffer may hold what several commands make.
    """
    found: set[str] = set()
    left: tuple[Command, ...] = ()
    # Until nothing is added: a command that uses a state of such a command belongs to them, with its own states.
    while True:
        wanted = tuple(c for c in schedule.at_load if _widens(c) or found & _states_of(c))
        if wanted == left:
            return found, left
        left, found = wanted, found.union(*map(_states_of, wanted))


def _widens(command: Command) -> bool:
    return isinstance(command, Dispatch) and is_load(command.function)


def _states_of(command: Command) -> set[str]:
    return {span.storage.symbol for span in _spans(command) if span.storage.kind == "state"}


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


def _moved(span: Span, packed: dict[str, Buffer]) -> Span:
    return replace(span, storage=packed.get(span.storage.symbol, span.storage))


def _moved_port(port: Port, packed: dict[str, Buffer]) -> Port:
    return replace(port, span=_moved(port.span, packed))


def _moved_command(command: Command, packed: dict[str, Buffer]) -> Command:
    match command:
        case Dispatch():
            return replace(command, bindings=tuple(_moved(span, packed) for span in command.bindings))
        case Fill():
            return replace(command, target=_moved(command.target, packed))
        case Copy():
            return Copy(_moved(command.source, packed), _moved(command.target, packed))
