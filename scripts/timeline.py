"""Draws what happened when, as bars: for a terminal, and as an SVG for a browser. Only draws; knows no clock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 48  # characters of a bar's track
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#eeca3b", "#9d755d")


@dataclass(frozen=True)
class Span:
    """What took time; `began` and `ended` in seconds on one clock. `row` is who did it: the demo, or a machine."""

    row: str
    label: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def as_text(spans: Sequence[Span]) -> str:
    """A line for each span: row, label, seconds, and a bar where it lies on the whole."""
    if not spans:
        return ""
    first, whole = _extent(spans)
    rows = max(len(span.row) for span in spans)
    labels = max(len(span.label) for span in spans)
    lines = []
    for span in spans:
        start = min(int((span.began - first) / whole * WIDTH), WIDTH - 1)
        length = max(1, round(span.seconds / whole * WIDTH))
        bar = (" " * start + "█" * min(length, WIDTH - start)).ljust(WIDTH)
        lines.append(f"{span.row:{rows}}  {span.label:{labels}}  {span.seconds:6.1f} s  |{bar}|")
    return "\n".join(lines)


def as_svg(spans: Sequence[Span], title: str) -> str:
    """One picture: a track for each row, its spans side by side, every span's name and time when pointed at."""
    first, whole = _extent(spans)
    rows = list(dict.fromkeys(span.row for span in spans))
    height = 60 + 34 * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="1000" height="{height}" fill="white"/>',
        f'<text x="10" y="22" font-size="16">{escape(title)}: {whole:.1f} s</text>',
        *_ticks(whole, height),
    ]
    for number, row in enumerate(rows):
        top = 40 + 34 * number
        parts.append(f'<text x="10" y="{top + 17}">{escape(row)}</text>')
        mine = [span for span in spans if span.row == row]
        parts += [_bar(span, index, top, first, whole) for index, span in enumerate(mine)]
    return "\n".join([*parts, "</svg>", ""])


def _bar(span: Span, index: int, top: int, first: float, whole: float) -> str:
    left, width = 100 + (span.began - first) / whole * 890, max(1.5, span.seconds / whole * 890)
    name = escape(f"{span.label}: {span.seconds:.1f} s")
    inside = f'<text x="{left + 4:.1f}" y="{top + 17}" fill="white">{escape(_fitting(span.label, width))}</text>'
    colour = COLOURS[index % len(COLOURS)]
    return (
        f'<g><title>{name}</title><rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="26" fill="{colour}"/>'
        f"{inside}</g>"
    )


def _fitting(label: str, width: float) -> str:
    """As much of the label as a bar of this width has room for."""
    room = int((width - 8) / 6.5)
    return label if len(label) <= room else label[: room - 1] + "…" if room > 3 else ""


def _ticks(whole: float, height: int) -> Iterator[str]:
    step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if whole / s <= 12), 1200)
    for second in range(0, int(whole) + 1, step):
        x = 100 + second / whole * 890
        yield f'<line x1="{x:.1f}" y1="34" x2="{x:.1f}" y2="{height - 18}" stroke="#ddd"/>'
        yield f'<text x="{x:.1f}" y="{height - 4}" fill="#777" text-anchor="middle">{second} s</text>'


def _extent(spans: Sequence[Span]) -> tuple[float, float]:
    """When it began, and how long all of it took."""
    first = min(span.began for span in spans)
    return first, max(max(span.ended for span in spans) - first, 0.001)
