"""Bar plots as SVG, readable on light and dark pages. It does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, LABEL, ROW, TOP = 760, 250, 30, 46
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:16px}.bar{fill:#8c959f}"
    ".ours{fill:#0969da}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6e7681}.ours{fill:#4493f8}}"
)


def bars(title: str, rows: Sequence[tuple[str, float, bool]], unit: str) -> str:
    """Return a plot with one bar per row, scaled to the largest value.

    A row is (label, value, whether it is Turnwire's).
    """
    most = max((value for _, value, _ in rows), default=1) or 1
    room = WIDTH - LABEL - 130
    height = TOP + ROW * len(rows) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="8" y="24">{escape(title)}</text>',
    ]
    for number, (label, value, ours) in enumerate(rows):
        y = TOP + ROW * number
        length = max(room * value / most, 1)
        lines += [
            f'<text x="{LABEL - 10}" y="{y + 16}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{"ours" if ours else "bar"}" x="{LABEL}" y="{y}" width="{length:.1f}" height="22" rx="3"/>',
            f'<text x="{LABEL + length + 8:.1f}" y="{y + 16}">{shown(value)} {escape(unit)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def shown(value: float) -> str:
    """Return the value with three significant digits, or as an integer with thousands separators."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
