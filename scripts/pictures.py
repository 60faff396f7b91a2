"""Diagrams that pages have as Mermaid's text, drawn as SVG: a browser needs no script, and nothing from elsewhere.

It reads what our pages write: `stateDiagram-v2` with transitions, and `flowchart LR` with boxes and arrows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

FENCE = re.compile(r"(?ms)^```mermaid\n(.*?)^```$")
STATE = re.compile(r"^\s*(\[\*\]|\w+) --> (\w+)(?:: (.+))?$")
SHAPE = r"([\[({].+?[\])}])?"  # around the text of a box
ARROW = re.compile(rf"^\s*(\w+){SHAPE} (-->|---)(?:\|(.+?)\|)? (\w+){SHAPE}$")
CHARACTER, PAD, HEIGHT, LINE = 7.6, 12.0, 38.0, 14.0  # of a box, in pixels
BETWEEN, BESIDE = 74.0, 18.0  # from one rank to the next, and from one box to its neighbour
ROUNDS = 12  # of putting boxes beside what they are connected with
START = "[*]"
Point = tuple[float, float]


@dataclass
class Graph:
    """`names`: what stands in a box, by its key. `edges`: (from, to) with the texts of all arrows between them.
    `plain`: those without a tip."""

    names: dict[str, str] = field(default_factory=dict)
    edges: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    plain: set[tuple[str, str]] = field(default_factory=set)

    def told(self, name: str) -> str:
        """Its text in one line."""
        first, *rest = self.names[name].split("\n")
        return f"{first} ({', '.join(rest)})" if rest else first or "at first"

    def add(self, begin: str, end: str, text: str) -> None:
        self.edges.setdefault((begin, end), []).extend([text] if text else [])


def with_pictures(text: str) -> str:
    """The page with each diagram as a picture, and its arrows as a list that a screen reader can read."""
    return FENCE.sub(lambda found: picture(read(found[1])), text)


def read(text: str) -> Graph:
    """A diagram. Raises ValueError for a line that says something else."""
    graph = Graph()
    for line in text.strip().splitlines()[1:]:
        if state := STATE.match(line):
            for name in (state[1], state[2]):
                graph.names.setdefault(name, "" if name == START else name)
            graph.add(state[1], state[2], state[3] or "")
        elif arrow := ARROW.match(line):
            for name, shape in ((arrow[1], arrow[2]), (arrow[5], arrow[6])):
                if shape or name not in graph.names:
                    graph.names[name] = re.sub("<br>", "\n", (shape or name).strip('[](){}/"'))
            graph.add(arrow[1], arrow[5], arrow[4] or "")
            graph.plain |= {(arrow[1], arrow[5])} if arrow[3] == "---" else set()
        else:
            raise ValueError(f"a diagram has a line that is not understood: {line.strip()}")
    return graph


def picture(graph: Graph) -> str:
    lines = "".join(
        f"<li>{escape(graph.told(begin))} → {escape(graph.told(end))}"
        f"{': ' + escape('; '.join(texts)) if texts else ''}</li>"
        for (begin, end), texts in graph.edges.items()
    )
    return (
        f'<figure class="picture">{draw(graph)}</figure>\n\n'
        f"<details><summary>The arrows as a list</summary><ul>{lines}</ul></details>"
    )


def ranks(graph: Graph) -> dict[str, int]:
    """How far each box is from the first one, along arrows that lead on. Others that nothing leads to stand before what
    they lead to."""
    found: dict[str, int] = {}
    after: dict[str, list[str]] = {name: [] for name in graph.names}
    for begin, end in graph.edges:
        after[begin].append(end)
    into = {end for _, end in graph.edges}
    firsts = [name for name in graph.names if name not in into]
    wave, depth = (firsts or list(graph.names))[:1], 0
    while wave:
        for name in wave:
            found.setdefault(name, depth)
        wave = list(dict.fromkeys(end for name in wave for end in after[name] if end not in found))
        depth += 1
    for name in firsts[1:]:
        found[name] = max(0, min((found[end] for end in after[name] if end in found), default=1) - 1)
    return {name: found.get(name, depth) for name in graph.names}


def rows(graph: Graph, rank: Mapping[str, int]) -> list[list[str]]:
    """The boxes of each rank, in an order that crosses few arrows."""
    found: list[list[str]] = [[] for _ in range(max(rank.values()) + 1)]
    for name in graph.names:
        found[rank[name]].append(name)
    beside: dict[str, list[str]] = {name: [] for name in graph.names}
    for begin, end in graph.edges:
        beside[begin].append(end)
        beside[end].append(begin)
    for _ in range(ROUNDS):
        place = {name: index - len(row) / 2 for row in found for index, name in enumerate(row)}
        for row in found:
            row.sort(key=lambda name: _mean(place[other] for other in beside[name]) if beside[name] else place[name])
    return found


def _mean(numbers: Iterable[float]) -> float:
    values = list(numbers)
    return sum(values) / len(values)


def draw(graph: Graph) -> str:
    rank = ranks(graph)
    found = rows(graph, rank)
    wide = {
        name: max(HEIGHT, max(map(len, text.split("\n"))) * CHARACTER + 2 * PAD) if text else 14.0
        for name, text in graph.names.items()
    }
    total = [sum(wide[name] for name in row) + BESIDE * (len(row) - 1) for row in found]
    width, height = max(total) + 40, len(found) * (HEIGHT + BETWEEN) - BETWEEN + 24
    middle: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(found):
        x, y = (width - total[number]) / 2, 12 + number * (HEIGHT + BETWEEN) + HEIGHT / 2
        for name in row:
            middle[name] = (x + wide[name] / 2, y)
            x += wide[name] + BESIDE
    parts = [_arrow(graph, begin, end, middle, wide) for begin, end in graph.edges]
    parts += [_box(text, middle[name], wide[name]) for name, text in graph.names.items()]
    return (
        f'<svg role="img" aria-label="Diagram; its arrows are listed below" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}"><defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>{"".join(parts)}</svg>'
    )


def _box(text: str, at: tuple[float, float], width: float) -> str:
    x, y = at
    if not text:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    lines = text.split("\n")
    first = y + 4.5 - (len(lines) - 1) * LINE / 2
    words = (
        f'<text x="{x:.1f}" y="{first + number * LINE:.1f}">{escape(line)}</text>' for number, line in enumerate(lines)
    )
    box = f'x="{x - width / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{width:.1f}" height="{HEIGHT:.0f}"'
    return f'<rect {box} rx="6"/>{"".join(words)}'


def _arrow(
    graph: Graph, begin: str, end: str, middle: Mapping[str, tuple[float, float]], wide: Mapping[str, float]
) -> str:
    """Down from below a box to above the next; back, or to the same rank, around its side."""
    (x1, y1), (x2, y2) = middle[begin], middle[end]
    half = HEIGHT / 2
    if y2 > y1:
        top, bottom = y1 + half, y2 - half
        way = _curve((x1, top), (x1, top + 40), (x2, bottom - 40), (x2, bottom))
    else:
        side = 1.0 if x2 >= x1 else -1.0
        from_x, to_x = x1 + side * wide[begin] / 2, x2 + side * wide[end] / 2
        if y1 == y2:
            to_x = x2 - side * wide[end] / 2
        reach = side * (24 + abs(y1 - y2) / 8)
        way = _curve((from_x, y1), (from_x + reach, y1), (to_x + (reach if y1 != y2 else -reach), y2), (to_x, y2))
    texts: Sequence[str] = graph.edges[begin, end]
    title = f"{graph.told(begin)} → {graph.told(end)}" + (f": {'; '.join(texts)}" if texts else "")
    tip = "" if (begin, end) in graph.plain else ' marker-end="url(#tip)"'
    return f'<path class="arrow" d="{way}"{tip}><title>{escape(title)}</title></path>'


def _curve(begin: Point, first: Point, second: Point, end: Point) -> str:
    return f"M{_at(begin)}C{_at(first)} {_at(second)} {_at(end)}"


def _at(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
