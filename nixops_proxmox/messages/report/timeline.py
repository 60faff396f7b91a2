"""What was done when, run by run, as SVG: a row for each thing, and a bar for each step."""

from collections.abc import Iterator, Sequence
from itertools import islice

from nixops_proxmox.messages.amounts import duration
from nixops_proxmox.messages.report.markup import Markup, Values, element
from nixops_proxmox.texts import moment_text, shown_line

PAUSE = 300.0  # seconds without a step that part one run from the next
RUNS = 6  # that are drawn, the last ones
WIDTH, LEFT, ROW, TOP = 780, 150, 26, 22
STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200)  # seconds between two ticks


def runs(history: Sequence[Values]) -> list[list[Values]]:
    """The steps that took time, parted where nothing was done for a while, in order."""
    found: list[list[Values]] = []
    end = 0.0
    for entry in sorted(history, key=lambda one: one["began"]):
        if entry["outcome"] == "seen":
            continue
        if not found or entry["began"] - end > PAUSE:
            found.append([])
        found[-1].append(entry)
        end = max(end, _end(entry))
    return found


def timelines(history: Sequence[Values]) -> Iterator[Markup]:
    """The last runs, the newest first, each with its heading."""
    for entries in islice(reversed(runs(history)), RUNS):
        began = min(entry["began"] for entry in entries)
        took = max(map(_end, entries)) - began
        failed = sum(entry["outcome"] == "failed" for entry in entries)
        bad = f", {failed} failed" if failed else ""
        title = f"{moment_text(began)}: {len(entries)} steps in {duration(took)}{bad}"
        yield element("h3", title)
        yield element(
            "div", _picture(entries, began, took, title), class_="wide", tabindex=0, role="group", aria_label=title
        )


def _end(entry: Values) -> float:
    return float(entry["began"] if entry["ended"] is None else entry["ended"])


def _picture(entries: Sequence[Values], began: float, took: float, title: str) -> Markup:
    rows = list(dict.fromkeys(_thing(entry) for entry in entries))
    scale = (WIDTH - LEFT - 12) / max(took, 0.1)
    height = TOP + ROW * len(rows) + 8
    parts = [*_ticks(took, scale, height)]
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        name = row if len(row) <= 20 else f"{row[:19]}…"
        parts.append(element("text", element("title", row), name, x=6, y=y + 16))
        parts += [_bar(entry, began, scale, y) for entry in entries if _thing(entry) == row]
    return element(
        "svg",
        element("title", title),
        *parts,
        class_="timeline",
        role="img",
        aria_label=title,
        viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH,
        height=height,
    )


def _thing(entry: Values) -> str:
    name = shown_line(str(entry["machine"]))
    return name if entry["kind"] == "machine" else f"{entry['kind']} {name}"


def _bar(entry: Values, began: float, scale: float, y: float) -> Markup:
    seconds = _end(entry) - entry["began"]
    told = f"{entry['label']}: {duration(seconds)}, {entry['outcome']}"
    x, width = LEFT + (entry["began"] - began) * scale, max(2.0, seconds * scale - 1)
    box = element("rect", x=f"{x:.1f}", y=y + 3, width=f"{width:.1f}", height=ROW - 6, rx=3)
    return element("g", element("title", told), box, class_=f"step {_sort(entry)}")


def _sort(entry: Values) -> str:
    return {"done": "done", "failed": "failed"}.get(str(entry["outcome"]), "cut")


def _ticks(took: float, scale: float, height: float) -> Iterator[Markup]:
    step = next((one for one in STEPS if took / one <= 8), max(1, int(took / 8)))
    for second in range(0, int(took) + 1, step):
        x = f"{LEFT + second * scale:.1f}"
        yield element("line", x1=x, x2=x, y1=TOP - 4, y2=height - 4, class_="tick")
        yield element("text", duration(second) if second else "0", x=x, y=12, text_anchor="middle", class_="small")
