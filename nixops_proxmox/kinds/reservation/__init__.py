"""What a router is told of a deployment's machines."""

from nixops_proxmox.kinds.reservation.kind import ABOUT, DESCRIBED, LIFECYCLE, NAME, World

__all__ = ["ABOUT", "DESCRIBED", "LIFECYCLE", "NAME", "World"]
