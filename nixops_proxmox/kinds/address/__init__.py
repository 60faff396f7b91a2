"""A NIC's entry in a list of MACs that people share."""

from nixops_proxmox.kinds.address.kind import ABOUT, LIFECYCLE, NAME, known_of
from nixops_proxmox.kinds.address.ports import Lists, OpenList, World

__all__ = ["ABOUT", "LIFECYCLE", "NAME", "Lists", "OpenList", "World", "known_of"]
