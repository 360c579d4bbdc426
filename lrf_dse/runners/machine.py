"""What a measurement depends on besides the program: the machine as compilers and runners see it, for content keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrf_dse.runners.ssh import BOARD_TOOL
from lrf_dse.runners.timing import timing_model_text
from lrf_dse.target import Target


def machine_facts(target: Target, tools: Mapping[str, str], threads: int) -> dict[str, Any]:
    """Facts of a content key. `tools` are the versions of builders and of the runner.

    Only what decides: the target's titles and the sources of its figures change no measurement. A board is itself:
    neither an emulator's flags nor a model of it decide what it says.
    """
    parts, model = {"isa", "iree", "cc"}, None
    if BOARD_TOOL not in tools:
        parts |= {"qemu"}
        model = None if target.timing is None else timing_model_text(target, threads=threads)
    return {"target": target.model_dump(mode="json", include=parts), "timing_model": model, "tools": dict(tools)}
