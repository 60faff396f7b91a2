"""What a cluster offers, in lines."""

from nixops_proxmox.messages.starter import offer_lines
from nixops_proxmox.operations.beginning import ClusterOffer, NodeOffered

NODES = tuple(NodeOffered(name, True, 1 << 30) for name in ("pve1", "pve2"))


def test_bridges_and_isos_of_the_same_nodes_are_named_together() -> None:
    bridges = {"vmbr0": ("pve1", "pve2"), "vmbr7": ("pve2",), "vmbr1": ("pve2", "pve1"), "vmbr8": ("pve2",)}
    lines = list(offer_lines(ClusterOffer("9.1", NODES, (), bridges, {})))
    assert "bridges: vmbr0, vmbr1 on each node; vmbr7, vmbr8 on pve2" in lines
    assert "ISOs: none that we see" in lines
