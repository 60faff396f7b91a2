"""Pure: machines that shall be on different nodes, or on the same one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nixops_proxmox.spec import MachineSpec, Placement


@dataclass(frozen=True)
class Peer:
    """A machine of ours that has a node: it exists, or this run has placed it."""

    name: str
    node: str
    wanted: Placement
    memory: int = 0  # bytes
    runs: bool = True  # or will, as a new one


@dataclass(frozen=True)
class Conflict:
    """What a group says against a node. `strict`: it is a condition."""

    text: str
    strict: bool


def find_conflicts(spec: MachineSpec, node: str, peers: Iterable[Peer]) -> Iterator[Conflict]:
    """A group is a condition between two machines if one of them says so."""
    others = [peer for peer in peers if peer.name != spec.name]
    spread, together = spec.placement.spread, spec.placement.together
    same = [peer for peer in others if spread and peer.wanted.spread == spread and peer.node == node]
    if same:
        yield _conflict(spec, same, f'{_named(same)} there (spread "{spread}")')
    group = [peer for peer in others if together and peer.wanted.together == together]
    apart = [peer for peer in group if peer.node != node]
    if apart:
        where = ", ".join(sorted({peer.node for peer in apart}))
        yield _conflict(spec, apart, f'{_named(apart)} on {where} (together "{together}")')


def _conflict(spec: MachineSpec, peers: list[Peer], text: str) -> Conflict:
    return Conflict(text, spec.placement.strict or any(peer.wanted.strict for peer in peers))


def _named(peers: list[Peer]) -> str:
    names = sorted(peer.name for peer in peers)
    return f"{names[0]} is" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} are"
