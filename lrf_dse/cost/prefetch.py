"""What a stride prefetcher leaves out when vectors are loaded at a fixed pitch, row after row of a panel.

It follows the prefetcher of the timing model (toolchain/plugin/timing_memory.c): every line of a load is asked for
again some strides on. Where the pitch is no multiple of a line, the load then lies otherwise on its lines, and the last
one may be left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from lrf_dse.cost.matmuls import ceil_div

_STEPS, _WARM_UP = 40, 8  # loads that are followed, and the first ones, which are not counted
_STARTS = 16  # panels that stand for all


@dataclass(frozen=True)
class Prefetcher:
    """Line size, and how many lines it runs ahead into the first and into the last cache."""

    line_bytes: int
    near_lines: int
    far_lines: int


@dataclass(frozen=True)
class LeftOut:
    """Lines per load that were asked for nowhere; late, by the near prefetch alone; or only into the last cache."""

    nowhere: float
    late: float
    near_only: float


@lru_cache(maxsize=65536)
def left_out(prefetcher: Prefetcher, pitch: int, width: int, panels: int) -> LeftOut:
    """The mean over the first `panels` panels of `width` bytes, side by side in rows of `pitch` bytes."""
    starts = [panel * width % prefetcher.line_bytes for panel in range(min(panels, _STARTS))]
    found = [_followed(prefetcher, pitch, width, start) for start in starts]
    return LeftOut(*(sum(column) / len(found) for column in zip(*found, strict=True)))


@lru_cache(maxsize=65536)
def _followed(p: Prefetcher, pitch: int, width: int, start: int) -> tuple[float, float, float]:
    line = p.line_bytes
    stride = line if pitch < line else pitch
    ahead = [0, 0]  # strides on, up to which was asked, as seen from this load
    near: set[int] = set()
    far: set[int] = set()
    nowhere = late = near_only = 0
    for step in range(_STEPS):
        first, last = (start + step * pitch) // line, ceil_div(start + step * pitch + width, line) - 1
        wanted = {*range(first, last + 1)} - near
        if step >= _WARM_UP:
            near_only += len(wanted & far)
            nowhere += len(wanted - far)
        near |= wanted
        far |= wanted
        follows = step > 1 and (stride == pitch or first != (start + (step - 1) * pitch) // line)
        if not follows:
            continue
        touched = [start + step * pitch, *(line * n for n in range(first + 1, last + 1))]
        for level, (lines, cache) in enumerate(((p.far_lines, far), (p.near_lines, near))):
            steps = max(1, lines // len(touched))
            asked = {(a + stride * n) // line for n in range(max(1, ahead[level]), steps + 1) for a in touched}
            if cache is near and step >= _WARM_UP:
                late += len(asked - near - far)
            cache.update(asked)
            far.update(asked)
            ahead[level] = max(ahead[level] - 1, steps)
    counted = _STEPS - _WARM_UP
    return nowhere / counted, late / counted, near_only / counted
