"""Nothing phones home: strace follows every command; no system call opens a connection or looks up a name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from explored import copy_of, tiny_data, tiny_model

from lrf_dse.builders.cache import cache_dir

ROOT = Path(__file__).resolve().parents[2]
MAIN = "from lrf_dse.cli import main; main()"
CALLS = ("socket", "bind", "connect", "sendto", "sendmsg", "openat")
NETWORK = re.compile(r"AF_INET|AF_PACKET|resolv\.conf|/etc/hosts|host\.conf")
"""Addresses of the internet, and what a look-up of a name reads first. Sockets of AF_UNIX stay on this machine."""

PROBE = re.compile(r"(\d+) +socket\(AF_INET6, SOCK_STREAM[^)]*\) = (\d+)$")
"""urllib3, which TensorFlow imports, asks whether the machine has IPv6: a socket that it binds to `OWN`, and closes."""

OWN = r"{pid} +bind\({fd}, .*sin6_port=htons\(0\).*\"::1\""
"""The machine itself, any port. What would connect such a socket, or send by it, is seen with its address."""


def network_calls(trace: Path) -> list[str]:
    """The system calls in a trace that have to do with the network, without urllib3's question."""
    text = trace.read_text(encoding="utf-8", errors="replace")
    assert "openat(" in text, "strace followed something"
    lines = [line for line in text.splitlines() if NETWORK.search(line)]
    left: list[str] = []
    for line in lines:
        asked = PROBE.match(left[-1]) if left else None
        if asked and re.match(OWN.format(pid=asked[1], fd=asked[2]), line):
            left.pop()
        else:
            left.append(line)
    return left


def followed(arguments: list[object], folder: Path) -> list[str]:
    """The system calls of `lrf-dse ARGUMENTS` and all that it starts that have to do with the network."""
    trace, home = folder / "trace.txt", folder / "home"
    home.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home), "LRF_DSE_CACHE": str(cache_dir())}
    del environment["ORT_DISABLE_TELEMETRY"]  # the command has to set it by itself
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={','.join(CALLS)}", "-o", str(trace)]
    done = subprocess.run(
        [*strace, sys.executable, "-c", MAIN, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return network_calls(trace)


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("socket.getaddrinfo('localhost', 80)", ["/etc/"]),
        ("socket.socket().connect_ex(('127.0.0.1', 9))", ["socket(AF_INET,", "connect("]),
        ("s = socket.socket(socket.AF_INET6); s.bind(('::1', 0))", []),
        ("s = socket.socket(socket.AF_INET6); s.bind(('::1', 0)); s.connect_ex(('::1', 9))", ["connect("]),
        ("s = socket.socket(socket.AF_INET6); s.bind(('::', 0))", ["socket(AF_INET6,", "bind("]),
    ],
)
def test_a_look_up_and_a_connection_are_seen(code: str, seen: list[str], tmp_path: Path) -> None:
    """The test itself: it sees what it is there for."""
    trace = tmp_path / "trace.txt"
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={','.join(CALLS)}", "-o", str(trace)]
    subprocess.run([*strace, sys.executable, "-W", "ignore", "-c", f"import socket; {code}"], check=True, timeout=60)
    found = network_calls(trace)
    assert bool(found) == bool(seen), found
    for call in seen:
        assert any(call in line for line in found), found


def test_onnxruntime_is_told_before_it_is_imported(tmp_path: Path) -> None:
    """It writes an id of the device under the user's home where it was not told: whatever is imported first."""
    code = (
        "import {first}; import numpy as np; from lrf_dse.models.evaluate import run_once; import onnx;"
        "run_once(onnx.load('tiny.onnx'), [np.zeros((1, 64), np.float32)])"
    )
    tiny_model(tmp_path)
    for first in ("lrf_dse", "lrf_dse.models.evaluate", "lrf_dse.cli", "lrf_dse.pipeline.explore"):
        home = tmp_path / first
        home.mkdir()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home)}
        del environment["ORT_DISABLE_TELEMETRY"]
        command = [sys.executable, "-c", code.format(first=first)]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
        assert list(home.rglob("*")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["layers", "tiny.onnx"],
        ["doctor"],
        ["targets", "spacemit-k1"],
        ["report", "run"],
        ["profile", "tiny.onnx", "--target", "spacemit-k1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_command_opens_a_connection(arguments: list[object], finished: Path, tmp_path: Path) -> None:
    assert followed(arguments, copy_of(finished, tmp_path)) == []


@pytest.mark.soak
def test_no_exploration_opens_a_connection(tmp_path: Path) -> None:
    """From an empty folder to a bundle, trained plans among them: TensorFlow, IREE, zig, QEMU."""
    tiny_model(tmp_path)
    tiny_data(tmp_path)
    few = ["--top", 1, "--tune", 1, "--evaluations", 20, "--finetune", 1]
    arguments = ["explore", "tiny.onnx", "--data", "tiny.npz", "--target", "spacemit-k1", "-o", "run", *few]
    assert followed(arguments, tmp_path) == []
    assert followed(["export", "run"], tmp_path) == []
