"""What a router has for a deployment's machines."""

from nixops_proxmox.kinds.routing.kind import ABOUT, DESCRIBED, LIFECYCLE, NAME, World

__all__ = ["ABOUT", "DESCRIBED", "LIFECYCLE", "NAME", "World"]
