"""The machines inside of their nodes and hypervisors, and what they are attached to, as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nixops_proxmox.messages.exports.drawing import Dot, Edge, draw
from nixops_proxmox.messages.report.markup import Markup, element, joined
from nixops_proxmox.operations.exporting import Exported
from nixops_proxmox.texts import shown_line

WIDTH, LEFT, MACHINE_WIDTH, RIGHT, SIDE = 780, 70, 250, 520, 220  # in pixels; RIGHT: where the other things stand
HIGH, GAP, HEAD = 46, 10, 26
CHARACTER = 7.4  # of the texts, at most
SORTS = {"bridge": "network", "volume": "volume", "jump": "jump host"}
WELL, NOT_THERE = ("ready",), ("absent", "reserved", "lost")


@dataclass(frozen=True)
class Box:
    """A box: its left and top, and its size."""

    x: float
    y: float
    width: float
    height: float = HIGH

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def topology(machines: Sequence[Exported]) -> Markup:
    """The picture. Its styles are those of the page or file that it is in: classes alone tell what is what."""
    dots, edges = draw(machines)
    theirs = {dot.name: dot for dot in dots if dot.sort == "machine"}
    frames, places, bottom = _stand(machines, theirs)
    places |= _beside(dots, edges, places)
    height = max([bottom, *(place.y + place.height for place in places.values())]) + 12
    lines = [_line(edge, places) for edge in edges if edge.begin in places and edge.end in places]
    boxes = [_machine(one, places[theirs[one.name]]) for one in machines]
    others = [_other(dot, places[dot]) for dot in dots if dot.sort in SORTS]
    label = "The machines, and what they are attached to"
    return element(
        "svg",
        element("title", label),
        *frames,
        *lines,
        *boxes,
        *others,
        xmlns="http://www.w3.org/2000/svg",
        class_="topology",
        role="img",
        aria_label=label,
        viewBox=f"0 0 {WIDTH} {height:.0f}",
        width=WIDTH,
        height=f"{height:.0f}",
    )


def _stand(machines: Sequence[Exported], dots: Mapping[str, Dot]) -> tuple[list[Markup], dict[Dot, Box], float]:
    """The frames of hypervisors and nodes, the machines' places, and where that ends. `dots`: by machine."""
    frames: list[Markup] = []
    places: dict[Dot, Box] = {}
    y = 10.0
    for profile in sorted({one.profile for one in machines}):
        top, y = y, y + HEAD
        theirs = [one for one in machines if one.profile == profile]
        for node in sorted({one.node for one in theirs}):
            begin, y = y, y + HEAD
            for one in theirs:
                if one.node == node:
                    places[dots[one.name]] = Box(LEFT, y, MACHINE_WIDTH)
                    y += HIGH + GAP
            frames.append(_frame("node", node or "no node yet", Box(LEFT - 14, begin, MACHINE_WIDTH + 28, y - begin)))
            y += GAP
        frames.insert(0, _frame("hypervisor", profile or "default", Box(LEFT - 28, top, MACHINE_WIDTH + 56, y - top)))
        y += GAP
    return frames, places, y


def _frame(sort: str, name: str, at: Box) -> Markup:
    box = element("rect", x=at.x, y=at.y, width=at.width, height=at.height, rx=8)
    return element("g", box, _label(f"{sort} {name}", at.x + 10, at.y + 17, at.width - 20), class_=sort)


def _beside(dots: Sequence[Dot], edges: Sequence[Edge], places: Mapping[Dot, Box]) -> dict[Dot, Box]:
    """Networks, volumes and jump hosts, each near the machines that it belongs to."""
    middle: dict[Dot, float] = {}
    for dot in (dot for dot in dots if dot.sort in SORTS):
        ends = [edge.begin if edge.end == dot else edge.end for edge in edges if dot in (edge.begin, edge.end)]
        known = [places[end].middle for end in ends if end in places]
        middle[dot] = sum(known) / len(known) if known else 0.0
    found: dict[Dot, Box] = {}
    y = 10.0
    for dot, wish in sorted(middle.items(), key=lambda one: one[1]):
        y = max(y, wish - HIGH / 2)
        found[dot] = Box(RIGHT, y, SIDE)
        y += HIGH + GAP
    return found


def _machine(one: Exported, at: Box) -> Markup:
    state = "well" if one.phase in WELL else "gone" if one.phase in NOT_THERE else "between"
    address = one.endpoint.host if one.endpoint is not None else "no address"
    return element(
        "g",
        element("rect", x=at.x, y=at.y, width=at.width, height=at.height, rx=6),
        element("circle", cx=at.x + 16, cy=at.y + 16, r=5),
        _label(one.name, at.x + 28, at.y + 20, at.width - 36, class_="name"),
        _label(f"{one.phase} · {address}", at.x + 12, at.y + 37, at.width - 20),
        class_=f"machine {state}",
    )


def _other(dot: Dot, at: Box) -> Markup:
    return element(
        "g",
        element("rect", x=at.x, y=at.y, width=at.width, height=at.height, rx=20 if dot.sort == "bridge" else 6),
        _label(dot.name, at.x + 18, at.y + 20, at.width - 30, class_="name"),
        _label(SORTS[dot.sort], at.x + 18, at.y + 36, at.width - 30),
        class_=dot.sort,
    )


def _label(words: str, x: float, y: float, width: float, **more: object) -> Markup:
    """As much as there is room for; all of it where one points at it."""
    line = shown_line(words)
    room = max(3, int(width / CHARACTER))
    shown = line if len(line) <= room else f"{line[: room - 1]}…"
    return element("text", element("title", line), shown, x=x, y=y, **more)


def _line(edge: Edge, places: Mapping[Dot, Box]) -> Markup:
    begin, end = places[edge.begin], places[edge.end]
    told = f"{edge.begin.name} → {edge.end.name}{f', {edge.text}' if edge.text else ''}"
    way = _around(begin, end) if begin.x == end.x else _across(begin, end)
    kind = "way" if edge.dashed else "wire"
    return element("path", element("title", told), d=way, class_=kind)


def _across(begin: Box, end: Box) -> str:
    left, right = (begin, end) if begin.x < end.x else (end, begin)
    x1, x2 = left.x + left.width, right.x
    bend = (x2 - x1) / 2
    return f"M{x1} {left.middle}C{x1 + bend} {left.middle} {x2 - bend} {right.middle} {x2} {right.middle}"


def _around(begin: Box, end: Box) -> str:
    """Between two machines, along their left."""
    out = begin.x - 60
    return f"M{begin.x} {begin.middle}C{out} {begin.middle} {out} {end.middle} {end.x} {end.middle}"


def as_file(machines: Sequence[Exported]) -> str:
    """The picture as a file of its own."""
    from nixops_proxmox.messages.report.styles import COLOURS, PICTURES

    picture = topology(machines)
    begin, rest = picture.split(">", 1)
    return joined(
        Markup(f"{begin}><style>svg{{font-family:sans-serif;background:var(--page)}}{COLOURS}{PICTURES}</style>{rest}")
    )
