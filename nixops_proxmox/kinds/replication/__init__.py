"""A replication job: PVE copies a machine's disks to another node, again and again."""

from nixops_proxmox.kinds.replication.kind import ABOUT, DESCRIBED, LIFECYCLE, NAME, World

__all__ = ["ABOUT", "DESCRIBED", "LIFECYCLE", "NAME", "World"]
