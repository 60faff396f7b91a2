"""A resource pool of PVE."""

from nixops_proxmox.kinds.pool.kind import ABOUT, DESCRIBED, LIFECYCLE, NAME, World

__all__ = ["ABOUT", "DESCRIBED", "LIFECYCLE", "NAME", "World"]
