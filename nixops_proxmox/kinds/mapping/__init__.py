"""A resource mapping of PVE."""

from nixops_proxmox.kinds.mapping.kind import ABOUT, DESCRIBED, LIFECYCLE, NAME, World

__all__ = ["ABOUT", "DESCRIBED", "LIFECYCLE", "NAME", "World"]
