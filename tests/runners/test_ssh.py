"""The ssh runner against a real sshd on loopback whose board runs riscv64 programs through QEMU."""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from runners.loopback import Sshd

from lrf_dse.errors import ToolError
from lrf_dse.jsonform import from_json, to_json
from lrf_dse.runners.job import Job
from lrf_dse.runners.repeats import RepeatPolicy
from lrf_dse.runners.runner import runner_for
from lrf_dse.runners.ssh import SshRunner
from lrf_dse.schema import Failure, Measurement

QUICK = RepeatPolicy(min_repeats=4, max_repeats=16, spread=9.0, time_limit_s=5.0, warm_up_s=0.0)
CPU = "rv64,v=true,vlen={},elen=64,vext_spec=v1.0"
JobOf = Callable[..., Job]


def run(board: object, job: Job) -> Measurement | Failure:
    return SshRunner(board, policy=QUICK).run(job)  # type: ignore[arg-type]


def failure(board: object, job: Job) -> Failure:
    result = run(board, job)
    assert isinstance(result, Failure), result
    assert "\n" not in result.reason
    return result


def test_a_measurement_says_what_was_observed(sshd: Sshd, board_job: JobOf) -> None:
    result = run(sshd.board(), board_job("slow"))
    assert isinstance(result, Measurement), result
    assert result.source == "board seconds, board (programs run by qemu-riscv64)"
    assert result.instructions is None
    assert (result.max_abs_error, result.max_rel_error) == (0.0, 0.0)
    assert result.ram_parts["transient_bytes"] == 200 and result.ram_bytes == sum(result.ram_parts.values())
    board = result.board
    assert board is not None
    assert 0.002 <= board.min_s <= board.median_s < 0.1, "the case sleeps for 2 ms"
    assert result.seconds == board.median_s
    assert QUICK.min_repeats <= board.repeats <= QUICK.max_repeats
    assert board.cold_s >= 0.002 and board.spread >= 0
    assert (board.emulator, board.vlen_bits) == ("qemu-riscv64", 256)
    assert board.cpus == str(max(os.sched_getaffinity(0)))
    assert (result.cycles, board.min_cycles, board.peak_resident_bytes) == (None, None, None), "they would be QEMU's"
    assert from_json(Measurement, to_json(result)) == result
    assert sshd.leftovers() == ["d"], "the remote copy is removed"


def test_short_inferences_are_timed_many_at_a_time(sshd: Sshd, board_job: JobOf) -> None:
    result = run(sshd.board(), board_job("fast"))
    assert isinstance(result, Measurement) and result.seconds is not None, result
    assert 0 < result.seconds < 200e-6


def test_an_unstable_median_is_repeated_up_to_the_limit(sshd: Sshd, board_job: JobOf) -> None:
    policy = dataclasses.replace(QUICK, spread=1e-12, max_repeats=7)
    result = SshRunner(sshd.board(), policy=policy).run(board_job("slow"))
    assert isinstance(result, Measurement) and result.board is not None
    assert (result.board.repeats, result.board.stable) == (7, False)


def test_threads_have_a_core_each(sshd: Sshd, board_job: JobOf) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    result = run(sshd.board(), board_job(threads=len(allowed)))
    assert isinstance(result, Measurement) and result.board is not None, result
    assert result.board.cpus == ",".join(map(str, allowed))
    result = failure(sshd.board(), board_job(threads=len(allowed) + 1))
    assert f"it lets programs run on {len(allowed)} cores, this one wants {len(allowed) + 1} threads" in result.reason


def test_a_board_has_a_runner(sshd: Sshd, board_job: JobOf) -> None:
    assert isinstance(runner_for(sshd.board(), QUICK).run(board_job()), Measurement)


@pytest.mark.parametrize(
    ("case", "stage", "reason"),
    [
        ("wrong", "verify", "output 0: element 2 is 8.5, expected 8: off by 0.0025 of max |y|, tolerance 0.0001"),
        ("drifts", "verify", "output 0: element 2 is 8.5, expected 8: off by 0.0025 of max |y|, tolerance 0.0001"),
        ("crashes", "run", "killed by SIGSEGV"),
        ("exits 255", "run", "exit code 255: nothing on stderr"),
    ],
)
def test_a_program_that_goes_wrong_is_a_failure(
    case: str, stage: str, reason: str, sshd: Sshd, board_job: JobOf
) -> None:
    result = failure(sshd.board(), board_job(case))
    assert (result.stage, result.reason) == (stage, reason)
    assert result.kept_files and all(Path(name).is_file() for name in result.kept_files)
    assert sshd.leftovers() == ["d"]


def test_a_wrong_program_is_never_timed(sshd: Sshd, board_job: JobOf) -> None:
    job = board_job("wrong")
    failure(sshd.board(), job)
    assert not (job.work / "board.json").exists()


def test_files_of_an_earlier_run_are_never_taken_for_this_one(sshd: Sshd, board_job: JobOf) -> None:
    assert isinstance(run(sshd.board(), board_job()), Measurement)
    crashed = failure(sshd.board(), board_job("crashes"))
    assert not [name for name in crashed.kept_files if "output" in name]


def test_a_reference_of_another_shape_is_a_failure(sshd: Sshd, board_job: JobOf) -> None:
    result = failure(sshd.board(), board_job(expected=(np.zeros((2, 3), np.float32),)))
    assert result.reason == "output0.bin has 16 bytes, expected 24 (float32 (2, 3))"


def test_a_program_that_hangs_is_ended_and_leaves_nothing(sshd: Sshd, board_job: JobOf) -> None:
    board = dataclasses.replace(sshd.board(), connect_timeout_s=1)
    assert isinstance(run(board, board_job()), Measurement)
    result = failure(board, board_job("hangs", timeout_s=1.0))
    assert (result.stage, result.reason) == ("run", "did not finish in 1 s")
    wait_until(lambda: sshd.leftovers() == ["d"] and not working_in(sshd.home))


def test_a_connection_that_is_lost_half_way(sshd: Sshd, board_job: JobOf) -> None:
    """The board ends the program and removes its folder by itself, and the next run is as if nothing had been."""
    with when(lambda: working_in(sshd.home), sshd.kill_sessions):
        result = failure(sshd.board(), board_job("hangs"))
    assert result.stage == "board"
    assert result.reason.startswith("board board: the connection was lost half way"), result.reason
    assert result.reason.endswith("; the same command goes on when it is back")
    wait_until(lambda: sshd.leftovers() == ["d"] and not working_in(sshd.home))
    assert isinstance(run(sshd.board(), board_job()), Measurement)


def test_a_connection_that_is_lost_while_files_are_sent(own_sshd: Sshd, board_job: JobOf) -> None:
    board = own_sshd.board()
    assert isinstance(run(board, board_job()), Measurement), "from now on the board is known"
    own_sshd.stop()
    own_sshd.start("ForceCommand sleep 3")  # takes the connection and never begins
    with when(lambda: b"Accepted" in log_since_start(own_sshd), own_sshd.kill_sessions):
        result = failure(board, board_job())
    assert result.stage == "board"
    assert own_sshd.leftovers() == ["d"]


def test_a_board_that_is_away_and_comes_back(own_sshd: Sshd, board_job: JobOf) -> None:
    board = own_sshd.board()
    assert isinstance(run(board, board_job()), Measurement)
    own_sshd.stop()
    result = failure(board, board_job())
    assert result.stage == "board"
    assert result.reason == (
        f"board board: cannot be reached: ssh: connect to host 127.0.0.1 port {own_sshd.port}: Connection refused; "
        "is it on, and does `ssh board` work?"
    )
    own_sshd.start()
    assert isinstance(run(board, board_job()), Measurement)


def test_a_changed_host_key_names_the_line_to_remove(own_sshd: Sshd, board_job: JobOf) -> None:
    own_sshd.stop()
    own_sshd.new_key("host")
    own_sshd.start()
    known_hosts = own_sshd.folder / "known_hosts"
    before = known_hosts.read_bytes()
    result = failure(own_sshd.board(), board_job())
    assert result.stage == "board"
    assert (
        f"its host key has changed: if that is right (a new system on the board), remove line 1 of {known_hosts}"
        in (result.reason)
    )
    assert f'-R "[127.0.0.1]:{own_sshd.port}"' in result.reason
    assert known_hosts.read_bytes() == before and own_sshd.leftovers() == []


@pytest.mark.parametrize("policy", ["yes", "ask"])
def test_an_unknown_host_key_is_never_accepted(policy: str, sshd: Sshd, board_job: JobOf, tmp_path: Path) -> None:
    known_hosts = tmp_path / "none known"
    config = sshd.config(UserKnownHostsFile=f'"{known_hosts}"', StrictHostKeyChecking=policy)
    result = failure(sshd.board(config=config), board_job())
    assert "its host key is not known here: connect once by hand" in result.reason
    assert not known_hosts.exists() and sshd.leftovers() == []


def test_a_refused_login(sshd: Sshd, board_job: JobOf, tmp_path: Path) -> None:
    result = failure(sshd.board(config=sshd.config(IdentityFile=str(tmp_path / "none"))), board_job())
    assert "it refused the login (" in result.reason and "Permission denied (publickey)" in result.reason


def test_a_host_that_does_not_exist(sshd: Sshd, board_job: JobOf) -> None:
    result = failure(sshd.board(config=sshd.config(HostName="no-such-board.invalid")), board_job())
    assert "cannot be reached: ssh: Could not resolve hostname no-such-board.invalid" in result.reason


def test_a_board_that_takes_the_connection_and_says_nothing(own_sshd: Sshd, board_job: JobOf) -> None:
    board = dataclasses.replace(own_sshd.board(), connect_timeout_s=1)
    own_sshd.stop()
    with silent_listener(own_sshd.port):
        result = failure(board, board_job())
    assert (
        result.stage == "board"
        and f"cannot be reached: Connection to 127.0.0.1 port {own_sshd.port} timed out" in result.reason
    )


def test_a_machine_of_another_architecture_starts_nothing(sshd: Sshd, board_job: JobOf) -> None:
    machine = os.uname().machine
    assert machine != "riscv64"
    result = failure(sshd.board(runner_prefix=()), board_job())
    assert result.stage == "board"
    assert result.reason == (
        f"board board: it is {machine!r}, the programs are for riscv64: name another board, or a runner prefix that "
        "emulates one"
    )


@pytest.mark.parametrize(
    ("cpu", "reason"),
    [
        (CPU.format(128), "its vector registers have 128 bits, the program needs 256"),
        ("rv64", "it has no RVV 1.0 vector unit that programs may use; the program needs VLEN 256"),
    ],
)
def test_a_board_with_too_short_vectors_is_refused_before_anything_is_sent(
    cpu: str, reason: str, sshd: Sshd, board_job: JobOf
) -> None:
    result = failure(sshd.board(runner_prefix=("qemu-riscv64", "-cpu", cpu)), board_job())
    assert (result.stage, result.reason) == ("board", f"board board: {reason}")


def test_a_program_refuses_short_vectors_itself_too(sshd: Sshd, board_job: JobOf) -> None:
    """Where the target is wrong about its program."""
    job = board_job(target="qemu-rv64gcv", vlen_bits=256)
    result = failure(sshd.board("qemu-rv64gcv"), job)
    assert result.stage == "run"
    assert "exit code 3: error: this program needs vector registers of 256 bits" in result.reason


def test_a_prefix_that_is_not_there(sshd: Sshd, board_job: JobOf) -> None:
    result = failure(sshd.board(runner_prefix=("qemu-of-nobody",)), board_job())
    assert "a small riscv64 program does not run there (exit code 127)" in result.reason


def test_a_full_disk(own_sshd: Sshd, board_job: JobOf, tmp_path: Path) -> None:
    """A limit on the size of files stands for it: the write fails half way, as on a full disk."""
    board = own_sshd.board()
    assert isinstance(run(board, board_job()), Measurement), "the small program that inspects the board fits"
    own_sshd.stop()
    shell = tmp_path / "shell"
    shell.write_text("#!/bin/sh\ntrap '' XFSZ\nulimit -f 40\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n")
    shell.chmod(0o755)
    own_sshd.start(f"ForceCommand {shell}")
    result = failure(board, board_job())
    assert result.stage == "board"
    assert re.fullmatch(
        r"board board: its disk is full \(.*Wrote only [0-9]+ of [0-9]+ bytes\): free some space there", result.reason
    )
    assert own_sshd.leftovers() == ["d"], "a folder that is half there is removed"


def test_a_directory_that_cannot_be_made(sshd: Sshd, board_job: JobOf) -> None:
    (sshd.home / "file").touch()
    result = failure(sshd.board(directory=str(sshd.home / "file" / "d")), board_job())
    assert result.stage == "board" and "Not a directory" in result.reason


HOSTILE = (
    *("a b", "$(touch canary)", "`touch canary`", "a;touch canary", "-rf", "it's", 'say "hi"'),
    *("a*?[b]", "~", "x\\y", "!!", "é"),
)


def test_hostile_directory_names_are_only_names(sshd: Sshd, board_job: JobOf) -> None:
    """One directory of them all: what would be run or split shows in its name, or as a file called canary."""
    directory = sshd.home.joinpath(*HOSTILE)
    assert isinstance(run(sshd.board(directory=str(directory)), board_job()), Measurement)
    assert sorted(sshd.leftovers()) == sorted(HOSTILE)
    assert not list(Path.home().glob("canary"))


def test_hostile_prefixes_are_only_words(sshd: Sshd, board_job: JobOf, tmp_path: Path) -> None:
    wrapper = tmp_path / "a 'wrapper' $(touch canary); #"
    wrapper.write_text('#!/bin/sh\n[ "$1" = \'two words; $x\' ] || exit 9\nshift\nexec "$@"\n')
    wrapper.chmod(0o755)
    prefix = (str(wrapper), "two words; $x", *sshd.board().runner_prefix)
    assert isinstance(run(sshd.board(runner_prefix=prefix), board_job()), Measurement)


def test_a_relative_directory_lies_in_the_home_folder(own_sshd: Sshd, board_job: JobOf, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    own_sshd.stop()
    own_sshd.start(f'ForceCommand cd {home}; eval "$SSH_ORIGINAL_COMMAND"')
    assert isinstance(run(own_sshd.board(directory="-d/e"), board_job()), Measurement)
    assert (home / "-d" / "e").is_dir() and not list((home / "-d" / "e").iterdir())


def test_what_a_login_prints_is_ignored(own_sshd: Sshd, board_job: JobOf) -> None:
    own_sshd.stop()
    own_sshd.start('ForceCommand echo "Welcome! @uname x"; echo hint >&2; eval "$SSH_ORIGINAL_COMMAND"')
    assert isinstance(run(own_sshd.board(), board_job()), Measurement)


def test_a_login_that_runs_no_commands(own_sshd: Sshd, board_job: JobOf) -> None:
    own_sshd.stop()
    own_sshd.start("ForceCommand echo This account is currently not available.; exit 1")
    result = failure(own_sshd.board(), board_job())
    assert result.reason == "board board: its login shell does not run `sh -c` (exit code 1): no output"


def test_settings_of_the_users_own_that_would_be_in_the_way(sshd: Sshd, board_job: JobOf) -> None:
    config = sshd.config(
        RemoteCommand="false", RequestTTY="force", LocalForward="1 127.0.0.1:1", LogLevel="QUIET", BatchMode="no"
    )
    assert isinstance(run(sshd.board(config=config), board_job()), Measurement)


def test_a_master_connection_of_the_users_own(own_sshd: Sshd, board_job: JobOf) -> None:
    """It outlives the command that made it, and holds its files open."""
    config = own_sshd.config(**own_sshd.master())
    assert isinstance(run(own_sshd.board(config=config), board_job()), Measurement)
    (socket,) = own_sshd.sockets.iterdir()
    own_sshd.stop()
    wait_until(lambda: not socket.exists())


def test_options_of_the_callers_own(sshd: Sshd, board_job: JobOf) -> None:
    board = sshd.board(config=sshd.config(Port="1"), port=sshd.port, options=("Compression=yes",))
    assert isinstance(run(board, board_job()), Measurement)
    with pytest.raises(ToolError, match="ssh: .*[Bb]ad configuration option: nonsense"):
        run(sshd.board(options=("Nonsense=yes",)), board_job())


def test_missing_ssh_names_the_package(
    sshd: Sshd, board_job: JobOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    board, job = sshd.board(directory="elsewhere"), board_job()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"ssh not found: .*openssh-client \(apt-get install openssh-client\)"):
        run(board, job)


def test_a_damaged_answer_is_a_failure_of_the_board(own_sshd: Sshd, board_job: JobOf) -> None:
    board = own_sshd.board()
    assert isinstance(run(board, board_job()), Measurement)
    own_sshd.stop()
    own_sshd.start('ForceCommand eval "$SSH_ORIGINAL_COMMAND" | head -c 700')
    result = failure(board, board_job())
    assert (result.stage, "what came back is cut off" in result.reason) == ("board", True), result


def test_two_threads_take_turns(sshd: Sshd, board_job: JobOf, tmp_path: Path) -> None:
    """Never two programs on the board: they would time each other."""
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, len(working_in(sshd.home)))
            time.sleep(0.001)

    jobs = [board_job("slow", work=tmp_path / str(number)) for number in range(2)]
    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=run, args=(sshd.board(), job)) for job in jobs]
    watcher.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert most == 1


def working_in(folder: Path) -> list[int]:
    """The QEMU processes whose working folder lies in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            cwd = (process / "cwd").readlink()
            comm = (process / "comm").read_text()
        except OSError:
            continue
        if cwd.is_relative_to(folder) and comm.startswith("qemu"):
            found.append(int(process.name))
    return found


def log_since_start(sshd: Sshd) -> bytes:
    return (sshd.folder / "sshd.log").read_bytes().rpartition(b"Server listening")[2]


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class when:  # read as a sentence
    """Do `action` in a thread once `condition` holds."""

    def __init__(self, condition: Callable[[], object], action: Callable[[], object]) -> None:
        self.thread = threading.Thread(target=lambda: (wait_until(condition), action()))

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.thread.join()


class silent_listener:
    """Takes connections on a port and never says a word."""

    def __init__(self, port: int) -> None:
        import socket

        self.socket = socket.create_server(("127.0.0.1", port))

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.socket.close()
