"""The network as a picture for Graphviz and Mermaid: machines, where they run, and what they are attached to."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nixops_proxmox.model import Endpoint
from nixops_proxmox.operations.exporting import Exported
from nixops_proxmox.ssh.argv import name_hops
from nixops_proxmox.texts import clean

# How each sort of thing looks: Graphviz's shape, and Mermaid's brackets.
LOOKS = {
    "hypervisor": ("house", '[["', '"]]'),
    "node": ("box3d", '["', '"]'),
    "machine": ("box", '["', '"]'),
    "bridge": ("ellipse", '(["', '"])'),
    "volume": ("cylinder", '[("', '")]'),
    "jump": ("diamond", '{{"', '"}}'),
}


@dataclass(frozen=True)
class Dot:
    """A thing in the picture. `scope` tells things of the same name apart: `vmbr0` of two hypervisors."""

    sort: str
    name: str
    scope: str = ""
    more: str = ""  # a second line


@dataclass(frozen=True)
class Edge:
    begin: Dot
    end: Dot
    text: str = ""
    dashed: bool = False


def draw(machines: Sequence[Exported]) -> tuple[list[Dot], list[Edge]]:
    """All that is in the picture, each once, in the machines' order."""
    ours = {one.name: Dot("machine", one.name, more=_about(one)) for one in machines}
    gates = {one.name: one.endpoint for one in machines if one.endpoint is not None}
    dots: dict[Dot, None] = {}
    edges: dict[Edge, None] = {}
    for one in machines:
        for edge in _edges(one, ours, gates):
            edges[edge] = None
            dots.setdefault(edge.begin)
            dots.setdefault(edge.end)
        dots.setdefault(ours[one.name])
    return list(dots), list(edges)


def _edges(one: Exported, ours: Mapping[str, Dot], gates: Mapping[str, Endpoint]) -> list[Edge]:
    me, where = ours[one.name], Dot("hypervisor", one.profile or "default")
    edges = []
    if one.node:
        node = Dot("node", one.node, scope=where.name)
        edges.append(Edge(where, node))
        where = node
    edges.append(Edge(where, me))
    for wire in one.wires:
        bridge = Dot("bridge", wire.bridge, scope=one.profile)
        edges.append(Edge(me, bridge, f"{wire.slot}, VLAN {wire.tag}" if wire.tag else wire.slot))
    edges += [Edge(me, Dot("volume", volume)) for volume in one.volumes]
    if one.endpoint is not None and one.endpoint.jump:
        named = name_hops(one.endpoint.jump, gates)
        hops = [ours.get(name or hop.host) or Dot("jump", hop.host) for hop, name in named]
        way = [*hops, me]
        edges += [Edge(begin, end, "ssh", dashed=True) for begin, end in itertools.pairwise(way)]
    return edges


def _about(one: Exported) -> str:
    return one.endpoint.host if one.endpoint is not None else one.phase


def dot_lines(machines: Sequence[Exported]) -> list[str]:
    dots, edges = draw(machines)
    names = {dot: f"n{number}" for number, dot in enumerate(dots)}
    lines = ["digraph network {", "  rankdir=LR;", "  node [fontname=sans];"]
    for dot in dots:
        label = "\\n".join(_in_quotes(text) for text in (dot.name, dot.more) if text)
        lines.append(f'  {names[dot]} [shape={LOOKS[dot.sort][0]}, label="{label}"];')
    for edge in edges:
        looks = [f'label="{_in_quotes(edge.text)}"'] if edge.text else []
        looks += ["style=dashed"] if edge.dashed else []
        more = f" [{', '.join(looks)}]" if looks else ""
        lines.append(f"  {names[edge.begin]} -> {names[edge.end]}{more};")
    return [*lines, "}"]


def mermaid_lines(machines: Sequence[Exported]) -> list[str]:
    dots, edges = draw(machines)
    names = {dot: f"n{number}" for number, dot in enumerate(dots)}
    lines = ["flowchart LR"]
    for dot in dots:
        _, begin, end = LOOKS[dot.sort]
        label = "<br>".join(_as_entities(text) for text in (dot.name, dot.more) if text)
        lines.append(f"    {names[dot]}{begin}{label}{end}")
    for edge in edges:
        arrow = "-.->" if edge.dashed else "-->"
        text = f'|"{_as_entities(edge.text)}"|' if edge.text else ""
        lines.append(f"    {names[edge.begin]} {arrow}{text} {names[edge.end]}")
    return lines


def _in_quotes(text: str) -> str:
    return clean(text, block=False).replace("\\", "\\\\").replace('"', '\\"')


def _as_entities(text: str) -> str:
    """Mermaid has no escapes, and takes `#number;` for any character."""
    cleaned = clean(text, block=False)
    return "".join(c if c.isalnum() or c in " .,:/-_@" else f"#{ord(c)};" for c in cleaned)
