"""A real sshd on loopback, with keys, configuration and known_hosts of its own, for the tests of boards.

The "board" is this machine: riscv64 programs run through qemu-riscv64, which the board's runner prefix names.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lrf_dse.runners.board import Board
from lrf_dse.target import load_target

SSHD = "/usr/sbin/sshd"
QEMU_PREFIX = ("qemu-riscv64", "-cpu")
_START_TIMEOUT_S = 20.0


@dataclass
class Sshd:
    """One sshd in `folder`; `home` is where its board's files go. `options` are the client's for `board`."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    home: Path = field(init=False)
    sockets: Path = field(init=False)
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.folder / "board"
        self.home.mkdir(parents=True)
        self.sockets = Path(tempfile.mkdtemp(prefix="lrf-"))  # short: the path of a socket has 108 bytes
        for name in ("host", "user"):
            self.new_key(name)
        shutil.copy(self.folder / "user.pub", self.folder / "authorized_keys")
        self.port = _free_port()
        self.trust_host()
        self.start()

    def new_key(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True, timeout=60
        )

    def trust_host(self) -> None:
        key = (self.folder / "host.pub").read_text(encoding="utf-8")
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}", encoding="utf-8")

    def start(self, *extra: str) -> None:
        """Start it, with `extra` lines of sshd_config, and wait until it answers."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists when it is root
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder}/host",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            f"PidFile {self.folder}/pid",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",  # pytest's folders may lie below a world-writable one
            "PermitRootLogin prohibit-password",
            *extra,
        ]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n", encoding="utf-8")
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")], stdin=subprocess.DEVNULL, stderr=log
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _answers(self.port):
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < deadline, "sshd does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """End the listener and the sessions, as when the board is switched off."""
        if self.process is not None:
            self.kill_sessions()
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.sockets)

    def master(self) -> dict[str, str]:
        """Options for one connection that all commands share; it ends when sshd does."""
        return {"ControlMaster": "auto", "ControlPath": str(self.sockets / "m"), "ControlPersist": "60"}

    def kill_sessions(self) -> int:
        """End every connection (never what runs in it): the children of this sshd."""
        assert self.process is not None
        sessions = _children(self.process.pid)
        for pid in [*(child for session in sessions for child in _children(session) if _is_sshd(child)), *sessions]:
            with suppress(ProcessLookupError):  # a connection may end by itself just now
                os.kill(pid, signal.SIGKILL)
        return len(sessions)

    def config(self, **changes: str) -> Path:
        """A client's configuration file with the host "board"; `changes` go over its options."""
        options = {
            "HostName": "127.0.0.1",
            "Port": str(self.port),
            "IdentityFile": str(self.folder / "user"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.folder / "known_hosts"),
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
        }
        lines = ["Host board", *(f"  {key} {value}" for key, value in (options | changes).items())]
        text = "\n".join(lines) + "\n"
        # The same options are the same file: a board is known by it, and a known board is not inspected again.
        path = self.folder / f"config-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        path.write_text(text, encoding="utf-8")
        return path

    def board(self, target: str = "spacemit-k1", **changes: object) -> Board:
        """This board, running the programs of `target`."""
        prefix = (*QEMU_PREFIX, load_target(target).qemu.cpu)
        fields = {"directory": str(self.home / "d"), "runner_prefix": prefix, "config": self.config(**self.options)}
        return Board("board", **(fields | changes))  # type: ignore[arg-type]

    def leftovers(self) -> list[str]:
        """Everything that lies in the board's folder."""
        return sorted(path.name for path in self.home.rglob("*"))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        children += [int(word) for word in task.read_text().split()]
    return children


def _is_sshd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().startswith("sshd")
    except OSError:
        return False
