"""Pure: could the other nodes take the machines of one that fails?"""

from collections.abc import Iterator

from nixops_proxmox.pve.api.answers import ClusterResources
from nixops_proxmox.pve.cluster.groups import Peer
from nixops_proxmox.pve.cluster.placement import Placed
from nixops_proxmox.pve.wire.properties import GIB


def find_shortfalls(seen: ClusterResources, placed: Placed) -> Iterator[str]:
    """A line for each node whose failure would leave memory for our machines missing. Nothing, where we may not see
    the memory of every node."""
    if len(seen.nodes) < 2 or any(node.online and node.memory_free is None for node in seen.nodes):
        return
    for node in seen.nodes:
        ours = [peer for peer in placed.peers if peer.node == node.name and peer.runs]
        free = {
            other.name: (other.memory_free or 0) - placed.memory.get(other.name, 0)
            for other in seen.nodes
            if other.online and not other.maintenance and other.name != node.name
        }
        homeless = list(_without_room(ours, free))
        if homeless:
            missing = sum(peer.memory for peer in homeless) / GIB
            names = ", ".join(sorted(peer.name for peer in homeless)[:5]) + (", …" if len(homeless) > 5 else "")
            yield f"if {node.name} fails, {missing:.1f} GiB of memory are missing on the other nodes ({names})"


def _without_room(machines: list[Peer], free: dict[str, int]) -> Iterator[Peer]:
    """The largest first, each where most is free."""
    for peer in sorted(machines, key=lambda one: (-one.memory, one.name)):
        best = max(free, key=lambda name: free[name], default="")
        if best and free[best] >= peer.memory:
            free[best] -= peer.memory
        else:
            yield peer
