"""A board: how it is reached, what it says of itself, and whether a target's programs can run there.

The module holds values and pure functions; lrf_dse.runners.ssh_client talks to the board.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lrf_dse.errors import UsageError
from lrf_dse.jsonform import from_json
from lrf_dse.target import Isa, Target

BOARD_STAGE = "board"
"""The stage of a Failure that says nothing about the candidate: the board was away or full, or is now another one. The
same candidate must be measured again."""

DEFAULT_DIRECTORY = "lrf-dse"
RISCV64 = "riscv64"

# Users' names and hosts also meet the user's own ProxyCommand, where the local shell would read them.
_HOST = re.compile(r"(?:[\w.+-]+@)?[\w\[][\w.:%\[\]-]*")
# Left free on the board beside what a program needs: for the outputs, and for whatever else runs there.
_SPARE_BYTES = 8 << 20


@dataclass(frozen=True)
class Board:
    """A machine that OpenSSH reaches as `host` ("user@name" or a name of the user's ssh config).

    `directory` is relative to the login's home folder, or absolute; everything written lies there.
    `runner_prefix` comes before every program: an emulator, or chrt. `cpus` is a list for taskset ("3", "4-7");
    None takes the last core that the login may use. `options` are "Key=value" of ssh_config, `config` is for ssh -F.
    """

    host: str
    directory: str = DEFAULT_DIRECTORY
    runner_prefix: tuple[str, ...] = ()
    cpus: str | None = None
    port: int | None = None
    config: Path | None = None
    options: tuple[str, ...] = ()
    connect_timeout_s: int = 10

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host):
            raise UsageError(f"--board {self.host!r}: give user@host, or a name of your ssh config")
        if self.cpus is not None and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", self.cpus):
            raise UsageError(f"cores {self.cpus!r}: give a list such as 3 or 4-7")
        # These words go through the shell of the board. Quoting makes any printable text safe, but no end of a line.
        for text in (self.directory, *self.runner_prefix, *self.options):
            if not text or any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
                raise UsageError(f"board {self.host}: {text!r} is empty or holds a control character")

    @property
    def folder(self) -> str:
        """`directory` as a path that no program takes for an option."""
        # Scripts get the folder quoted, where no shell expands a tilde; they start in the home folder anyway.
        path = self.directory.removeprefix("~/").rstrip("/") or "/"
        path = "." if self.directory == "~" else path
        return path if path.startswith(("/", "./")) else f"./{path}"

    @property
    def emulator(self) -> str | None:
        """The emulator that the prefix names, if it is one."""
        name = Path(self.runner_prefix[0]).name if self.runner_prefix else ""
        return name if name.startswith("qemu-") else None


def board_for(
    host: str,
    target: Target,
    *,
    directory: str | None = None,
    port: int | None = None,
    config: Path | None = None,
    options: tuple[str, ...] = (),
) -> Board:
    """The board `host` with what the target says of boards: its runner prefix and the cores to measure on."""
    return Board(
        host,
        directory or DEFAULT_DIRECTORY,
        runner_prefix=target.board.runner_prefix,
        cpus=target.board.cpus,
        port=port,
        config=config,
        options=options,
    )


@dataclass(frozen=True)
class BoardFacts:
    """What a board says of itself. `vlen_bits` is 0 without a vector unit of RVV 1.0; `isa` is None where unknown."""

    machine: str
    kernel: str
    isa: str | None
    vlen_bits: int
    vlenb: int
    rdcycle: bool
    cpus: tuple[int, ...]
    memory_available_bytes: int
    disk_free_bytes: int
    tools: frozenset[str]
    emulator: str | None


@dataclass(frozen=True)
class _Probe:
    """What toolchain/board/machine.c prints: whether RVV 1.0 works, vlenb in bytes, whether rdcycle is permitted."""

    rvv: bool
    vlenb: int
    rdcycle: bool

    def __post_init__(self) -> None:
        # RVV 1.0 (section 2, "Implementation-defined Constant Parameters") allows VLEN up to 65,536 bits.
        if not 0 <= self.vlenb <= 8192:
            raise ValueError(f"vector registers of {self.vlenb} bytes")


def parse_facts(text: str, board: Board) -> BoardFacts:
    """The facts in the answer to ssh_scripts.INSPECT. Raises ValueError with one line if it tells too little."""
    parts = _sections(text)
    machine, _, kernel = parts.get("uname", "").strip().partition(" ")
    if not machine:
        raise ValueError("it does not say what machine it is (uname -m)")
    probed = parts.get("probe", "").strip()
    cpuinfo = parts.get("cpuinfo", "")
    if machine != RISCV64 and not board.runner_prefix:
        raise ValueError(
            f"it is {machine[:40]!r}, the programs are for riscv64: "
            "name another board, or a runner prefix that emulates one"
        )
    try:
        probe = from_json(_Probe, json.loads(probed))
    except (ValueError, RecursionError):
        # 126 is the POSIX shell's code for "found, but cannot be executed".
        code = (parts.get("code", "").split() or ["?"])[0][:20]
        hint = "; is its folder mounted noexec?" if code == "126" else ""
        raise ValueError(f"a small riscv64 program does not run there (exit code {code}){hint}") from None
    return BoardFacts(
        machine=machine,
        kernel=kernel,
        isa=_field(cpuinfo, "isa"),
        # Cores of RVV 0.7.1 (C906, C910) answer to vlenb too, but cannot run code of RVV 1.0.
        vlen_bits=probe.vlenb * 8 if probe.rvv else 0,
        vlenb=probe.vlenb,
        rdcycle=probe.rdcycle,
        cpus=_cpus(_field(parts.get("status", ""), "Cpus_allowed_list") or "0"),
        memory_available_bytes=_kilobytes(_field(parts.get("meminfo", ""), "MemAvailable")),
        disk_free_bytes=_disk_free(parts.get("df", "")),
        tools=frozenset(parts.get("tools", "").split()),
        emulator=_emulator(board, machine, cpuinfo),
    )


def refusal(facts: BoardFacts, isa: Isa, *, memory_bytes: int, disk_bytes: int) -> str | None:
    """Why a program for `isa` with these needs cannot run on a board with `facts`; None if it can."""
    wanted = isa.vlen_bits
    if wanted is not None and facts.vlen_bits == 0:
        older = f" (vlenb is {facts.vlenb}: a vector unit older than RVV 1.0?)" if facts.vlenb else ""
        return f"it has no RVV 1.0 vector unit that programs may use{older}; the program needs VLEN {wanted}"
    if wanted is not None and facts.vlen_bits < wanted:
        return f"its vector registers have {facts.vlen_bits} bits, the program needs {wanted}"
    if missing := _missing_extensions(facts, isa):
        return f"its cores ({facts.isa}) lack the extensions {missing!r} of {isa.march}"
    if "tar" not in facts.tools:
        return "it has no tar: install tar or busybox there"
    if facts.disk_free_bytes < disk_bytes + _SPARE_BYTES:
        return f"{_mb(facts.disk_free_bytes)} free in its folder, {_mb(disk_bytes + _SPARE_BYTES)} are needed"
    if facts.memory_available_bytes < memory_bytes + _SPARE_BYTES:
        return f"{_mb(facts.memory_available_bytes)} memory available, {_mb(memory_bytes + _SPARE_BYTES)} are needed"
    return None


def pinned_cpus(facts: BoardFacts, board: Board, *, threads: int = 1) -> str | None:
    """The list for taskset: the board's own, else the last cores allowed (core 0 serves most interrupts).

    None where the board has no taskset, or fewer cores than threads.
    """
    if "taskset" not in facts.tools or len(facts.cpus) < threads:
        return None
    return board.cpus or ",".join(map(str, facts.cpus[-threads:]))


def _sections(text: str) -> Mapping[str, str]:
    """The parts of the answer by name; each begins with a line "@name"."""
    parts = re.split(r"^@(\w+) ?", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _field(text: str, name: str) -> str | None:
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else None


def _kilobytes(text: str | None) -> int:
    """Bytes of "123 kB". A board that does not tell gets a figure so large that nothing is refused for it."""
    found = re.match(r"(\d{1,15}) kB", text or "")
    return int(found.group(1)) * 1024 if found else 1 << 62


def _disk_free(df: str) -> int:
    """Bytes available, of `df -Pk`: the fourth of the columns that end with "NN% /mount"."""
    found = re.search(r"\b(\d{1,15})\s+\d+%\s", df)
    return int(found.group(1)) * 1024 if found else 1 << 62


def _cpus(text: str) -> tuple[int, ...]:
    """The numbers in a list such as "0-3,6". A text that is no such list stands for core 0 alone."""
    if not re.fullmatch(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*", text):
        return (0,)
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus) or (0,)


def _emulator(board: Board, machine: str, cpuinfo: str) -> str | None:
    """The name of what runs the programs if no riscv64 core does; None on a real core."""
    if board.emulator or machine != RISCV64:
        return board.emulator or Path(board.runner_prefix[0]).name
    # A machine that calls itself riscv64 may be a chroot or container under qemu-user: there /proc/cpuinfo is that of
    # the host, without the field "isa", or QEMU's own, which names itself.
    if "qemu" in (_field(cpuinfo, "uarch") or "") or _field(cpuinfo, "isa") is None:
        return "an emulated user space"
    return None


def _missing_extensions(facts: BoardFacts, isa: Isa) -> str:
    """The letters of `isa` that the board lacks. Longer names are left out: kernels list few of them."""
    if facts.isa is None or facts.emulator is not None:
        return ""
    has, wants = (_letters(text) for text in (facts.isa, isa.march))
    return "".join(sorted(wants - has))


def _letters(isa: str) -> frozenset[str]:
    letters = isa.lower().removeprefix("rv64").partition("_")[0]
    letters = re.split(r"[zsx]", letters)[0]  # older kernels write multi-letter names without the underscore
    # "g" is short for IMAFD (unprivileged ISA, "ISA Extension Naming Conventions").
    return frozenset(letters.replace("g", "imafd"))


def _mb(size: int) -> str:
    return f"{size / 2**20:.1f} MB"
