"""What boards say of themselves, and which are refused: pure text, from real boards where there is one."""

from __future__ import annotations

import dataclasses

import pytest

from lrf_dse.errors import UsageError
from lrf_dse.runners.board import Board, board_for, parse_facts, pinned_cpus, refusal
from lrf_dse.target import Isa, load_target

K1 = """@uname riscv64 6.6.63
@cpuinfo
processor\t: 0
hart\t\t: 0
model name\t: Spacemit(R) X60
isa\t\t: rv64imafdcv_zicbom_zicboz_zicntr_zicsr_zifencei_zihintpause_zihpm_zfh_sscofpmf_sstc_svpbmt
mmu\t\t: sv39
uarch\t\t: spacemit,x60
@meminfo
MemTotal:        3941368 kB
MemAvailable:    3310092 kB
@df
Filesystem     1024-blocks     Used Available Capacity Mounted on
/dev/mmcblk2p6    29855036 12345678  16200000      44% /
@status
Cpus_allowed:\tff
Cpus_allowed_list:\t0-5,7
@tools
tar
taskset
sha256sum
@probe
{"vlenb": 32, "rvv": true, "rdcycle": false}

@code 0

@end
"""
ISA = Isa(march="rv64gcv_zvl256b", vlen_bits=256)
NEEDS = {"memory_bytes": 1 << 20, "disk_bytes": 1 << 20}


def test_the_facts_of_a_k1() -> None:
    facts = parse_facts(K1, Board("me@k1"))
    assert (facts.machine, facts.kernel, facts.vlen_bits, facts.rdcycle) == ("riscv64", "6.6.63", 256, False)
    assert facts.cpus == (0, 1, 2, 3, 4, 5, 7)
    assert facts.memory_available_bytes == 3310092 * 1024
    assert facts.disk_free_bytes == 16200000 * 1024
    assert facts.emulator is None
    assert refusal(facts, ISA, **NEEDS) is None
    assert refusal(facts, Isa(march="rv64gc"), **NEEDS) is None


def test_cores_are_the_last_allowed_ones() -> None:
    facts, board = parse_facts(K1, Board("k1")), Board("k1")
    assert pinned_cpus(facts, board) == "7"
    assert pinned_cpus(facts, board, threads=3) == "4,5,7"
    assert pinned_cpus(facts, board, threads=8) is None
    assert pinned_cpus(facts, dataclasses.replace(board, cpus="2-3")) == "2-3"
    assert pinned_cpus(dataclasses.replace(facts, tools=frozenset()), board) is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"vlenb": 32', '"vlenb": 16', "its vector registers have 128 bits, the program needs 256"),
        ('{"vlenb": 32, "rvv": true', '{"vlenb": 0, "rvv": false', "it has no RVV 1.0 vector unit"),
        ('"rvv": true', '"rvv": false', "(vlenb is 32: a vector unit older than RVV 1.0?)"),
        ("rv64imafdcv_", "rv64imacv_", "lack the extensions 'df' of rv64gcv_zvl256b"),
        ("tar\n", "", "it has no tar: install tar or busybox there"),
        ("  16200000 ", "  100 ", "0.1 MB free in its folder, 9.0 MB are needed"),
        ("MemAvailable:    3310092", "MemAvailable:    1024", "1.0 MB memory available, 9.0 MB are needed"),
    ],
)
def test_an_unfit_board_is_refused_with_the_reason(old: str, new: str, reason: str) -> None:
    assert K1.count(old) == 1
    said = refusal(parse_facts(K1.replace(old, new), Board("k1")), ISA, **NEEDS)
    assert said is not None and reason in said


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("@uname riscv64", "@uname x86_64", "it is 'x86_64', the programs are for riscv64"),
        ("@uname riscv64 6.6.63", "@uname ", "it does not say what machine it is"),
        ('{"vlenb": 32, "rvv": true, "rdcycle": false}', "", r"does not run there \(exit code 0\)"),
        ('{"vlenb": 32, "rvv": true, "rdcycle": false}\n\n@code 0', "\n@code 126", "is its folder mounted noexec"),
    ],
)
def test_a_board_that_cannot_run_riscv64_is_an_error(old: str, new: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_facts(K1.replace(old, new), Board("k1"))


def test_a_board_that_tells_little_is_not_refused_for_it() -> None:
    probe = K1[K1.index("@probe") :]
    facts = parse_facts(
        "@uname riscv64 5.10\n@df\nnonsense\n@tools tar\n@cpuinfo\nisa : rv64imafdcv\n" + probe, Board("k1")
    )
    assert refusal(facts, ISA, **NEEDS) is None


@pytest.mark.parametrize(
    ("board", "change", "emulator"),
    [
        (Board("b", runner_prefix=("/usr/bin/qemu-riscv64", "-cpu", "max")), ("", ""), "qemu-riscv64"),
        (Board("b", runner_prefix=("spike", "pk")), ("@uname riscv64", "@uname x86_64"), "spike"),
        (Board("b", runner_prefix=("chrt", "-f", "50")), ("", ""), None),
        (Board("b"), ("uarch\t\t: spacemit,x60", "uarch\t\t: qemu"), "an emulated user space"),
        (Board("b"), ("isa\t", "flags\t"), "an emulated user space"),
    ],
)
def test_an_emulator_is_known_for_one(board: Board, change: tuple[str, str], emulator: str | None) -> None:
    assert parse_facts(K1.replace(*change) if change[0] else K1, board).emulator == emulator


@pytest.mark.parametrize(
    ("letters", "lacks"), [("rv64imafdcvsu", ""), ("rv64imafdcvxtheadc", ""), ("RV64GCV", ""), ("rv64imafdcsu_v", "v")]
)
def test_isa_strings_of_older_kernels_are_read(letters: str, lacks: str) -> None:
    isa_line = next(line for line in K1.splitlines() if line.startswith("isa"))
    said = refusal(parse_facts(K1.replace(isa_line, f"isa : {letters}"), Board("k1")), ISA, **NEEDS)
    assert (said or "") == (f"its cores ({letters}) lack the extensions {lacks!r} of rv64gcv_zvl256b" if lacks else "")


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "a b", "me@host;id", "$(id)", "a\nb", "me@", "`id`@host"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="give user@host"):
        Board(host)


@pytest.mark.parametrize("host", ["k1", "me@k1.local", "a.b-c@192.168.0.7", "[fe80::1%eth0]", "me@fe80::1", "_x"])
def test_hosts_that_ssh_takes_are_taken(host: str) -> None:
    assert Board(host).host == host


@pytest.mark.parametrize(
    ("directory", "folder"),
    [("d", "./d"), ("-rf", "./-rf"), ("~/d", "./d"), ("~", "./."), ("/data/d/", "/data/d"), ("/", "/"), ("./d", "./d")],
)
def test_no_directory_is_taken_for_an_option(directory: str, folder: str) -> None:
    assert Board("k1", directory).folder == folder


@pytest.mark.parametrize(
    "bad", [{"directory": "a\nb"}, {"directory": ""}, {"runner_prefix": ("\0",)}, {"cpus": "1;id"}]
)
def test_what_no_shell_should_see_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Board("k1", **bad)  # type: ignore[arg-type]


def test_a_target_may_say_how_its_boards_run_programs() -> None:
    target = load_target("spacemit-k1")
    flags = target.board.model_copy(update={"runner_prefix": ("chrt", "-f", "50"), "cpus": "4-7"})
    board = board_for("k1", target.model_copy(update={"board": flags}), directory="/data", options=("Compression=yes",))
    assert (board.runner_prefix, board.cpus, board.directory) == (("chrt", "-f", "50"), "4-7", "/data")
    assert board_for("k1", target) == Board("k1")
