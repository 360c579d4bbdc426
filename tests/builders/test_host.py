"""The emitted C: a golden file for one schedule that holds every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrf_dse.builders.host import emit_host
from lrf_dse.builders.schedule import Buffer, Copy, Dispatch, Fill, Port, Schedule, Span

GOLDEN = Path(__file__).parent / "golden_model.c"


def _schedule() -> Schedule:
    constant = Buffer("constant", 0, 8, b"\x00\x00\x80?\x00\x00\x00@")
    state = Buffer("state", 0, 64)
    source = Buffer("input", 0, 16)
    scratch, result = Buffer("transient", 0, 32), Buffer("transient", 1, 16)

    def whole(storage: Buffer) -> Span:
        return Span(storage, 0, storage.size_bytes)

    return Schedule(
        executables={"m_linked": b"\x7fELF-image"},
        storages=(constant, state, source, scratch, result),
        at_load=(Dispatch("m_linked", "pack", (1, 1, 1), (), (whole(constant), whole(state))),),
        commands=(
            Fill(whole(scratch), b"\x00\x00\xc0?"),
            Dispatch("m_linked", "f$0 */ tricky", (4, 2, 1), (7, -1), (whole(source), Span(scratch, 16, 16))),
            Copy(Span(scratch, 16, 16), whole(result)),
        ),
        inputs=(Port(whole(source), (2, 2), "f32"),),
        outputs=(Port(whole(result), (4,), "f32"),),
    )


def test_the_emitted_c_is_the_golden_file() -> None:
    sources = emit_host(_schedule(), title="a test", required_vlen_bits=256)
    assert sources.model_c == GOLDEN.read_text()


def test_blobs_are_named_by_their_content() -> None:
    first = emit_host(_schedule(), title="t", required_vlen_bits=0)
    names = set(first.blobs)
    assert all(f'.incbin "{name}"' in first.blobs_s for name in names)
    assert first.blobs[next(n for n in names if n.startswith("constant_0-"))] == b"\x00\x00\x80?\x00\x00\x00@"
    changed = _schedule()
    storages = (Buffer("constant", 0, 8, b"other!!!"), *changed.storages[1:])
    second = emit_host(Schedule(**{**changed.__dict__, "storages": storages}), title="t", required_vlen_bits=0)
    assert {n for n in names if n.startswith("constant")}.isdisjoint(second.blobs)
    assert {n for n in names if n.startswith("image")} <= set(second.blobs)


@pytest.mark.parametrize("bits", [0, 128, 256])
def test_the_required_vector_length_is_in_the_program(bits: int) -> None:
    text = emit_host(_schedule(), title="t", required_vlen_bits=bits).model_c
    assert f"lrf_required_vlen_bits = {bits};" in text


def test_transient_bytes_leave_out_what_is_an_output() -> None:
    assert "lrf_transient_bytes = 32;" in emit_host(_schedule(), title="t", required_vlen_bits=0).model_c
