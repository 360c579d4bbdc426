"""The report's colours, one table for both renderers; colour-blind readers can tell them apart."""

from __future__ import annotations

from types import MappingProxyType

# Six are of the palette of Okabe and Ito (Color Universal Design, 2008); the light green and the greys are added.
# Shapes tell roles apart as well (plots, figures).
PURPOSE_COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#a6d854", "#d55e00", "#e69f00", "#cc79a7", "#4b5563", "#c8ccd2")
"""Of the parts of a bar, in their order."""

COLOURS = MappingProxyType(
    {
        "front": "#0072b2",
        "dominated": "#a9c4d6",
        "dense": "#4b5563",
        "chosen": "#d55e00",
        "budget": "#b3446c",
        "grid": "#e5e7eb",
        "muted": "#6b7280",
    }
)
