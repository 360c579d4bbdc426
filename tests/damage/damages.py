"""Seeded damage to bytes, and the count of what became of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lrf_dse.errors import LrfDseError

HARMLESS = "harmless"
"""The result is the same as without the damage, and nothing was done."""
HEALED = "healed"
"""The same command put it right from what was left, and lost nothing."""
AGAIN = "made again"
"""The same command noticed what is lost and makes it anew."""
REFUSED = "refused by name"
"""One line names the file, and nothing was read from it."""
TAKEN = "taken as it is"
"""Nothing tells it from the truth: a board's figures carry no digest but that of the connection."""
SILENT = "silent"
TRACEBACK = "traceback"

_BLOCK_BYTES = (16, 512, 4096)
_KINDS = (
    *("bit flip", "bit flip", "bit flips", "truncated", "zeroed block", "random block", "swapped blocks", "longer"),
    *("deleted", "emptied"),
)


def damage(content: bytes, others: Mapping[str, bytes], source: random.Random) -> tuple[str, bytes | None]:
    """The name of one damage, and what is left of `content`: None for no file. `others` may take its place."""
    size = max(1, len(content))
    block = min(source.choice(_BLOCK_BYTES), size)
    at, other = source.randrange(size), source.randrange(size)
    start = at - at % block
    changed = bytearray(content)
    kind = source.choice([*_KINDS, *(["another file"] if others else [])])
    match kind:
        case "bit flip" | "bit flips":
            for place in [at, *(source.randrange(size) for _ in range(7 if kind == "bit flips" else 0))]:
                changed[place : place + 1] = bytes(
                    byte ^ 1 << source.randrange(8) for byte in changed[place : place + 1]
                )
        case "truncated":
            del changed[at:]
        case "zeroed block":
            changed[start : start + block] = bytes(len(changed[start : start + block]))
        case "random block":
            changed[start : start + block] = source.randbytes(len(changed[start : start + block]))
        case "swapped blocks":
            first, second = sorted((start, other - other % block))
            a, b = changed[first : first + block], changed[second : second + block]
            changed[second : second + block] = a
            changed[first : first + block] = b
        case "longer":
            changed += source.randbytes(source.randrange(1, 600))
        case "deleted":
            return kind, None
        case "emptied":
            changed.clear()
        case _:
            return kind, source.choice(sorted(others.values()))
    return kind, bytes(changed)


@dataclass
class Tally:
    """What became of the damages, by their kind; `faults` says of those that went wrong what they were."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, kind: str, judge: Callable[[], str]) -> None:
        """Count what `judge` says; its LrfDseError is a refusal in one line, any other exception a traceback."""
        try:
            became = judge()
        except LrfDseError as error:
            became = REFUSED if "\n" not in str(error) else SILENT
        except Exception as error:  # noqa: BLE001 - to count what would be a traceback is what this is for
            became = TRACEBACK
            self.faults.append(f"{kind}: {type(error).__name__}: {error}")
        if became == SILENT:
            self.faults.append(f"{kind}: silent")
        self.counts[kind, became] += 1

    def by_outcome(self) -> dict[str, int]:
        """How many damages ended in each way."""
        found = dict.fromkeys((HARMLESS, HEALED, AGAIN, REFUSED, TAKEN, SILENT, TRACEBACK), 0)
        for (_, became), count in self.counts.items():
            found[became] += count
        return found

    def table(self, title: str) -> str:
        """A line for each kind of damage."""
        lines = [f"{title}: {self.by_outcome()}"]
        for kind in sorted({kind for kind, _ in self.counts}):
            ends = {became: count for (found, became), count in sorted(self.counts.items()) if found == kind}
            lines.append(f"  {kind:<16} {ends}")
        return "\n".join(lines)


def seeded(count: int, *, seed: int) -> Iterator[random.Random]:
    """A source of randomness for each of `count` damages: each can be had again alone."""
    return (random.Random(f"{seed}:{number}") for number in range(count))
