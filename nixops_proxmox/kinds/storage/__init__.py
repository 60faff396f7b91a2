"""A storage that the cluster has: which kinds of content it takes."""

from nixops_proxmox.kinds.storage.kind import ABOUT, DESCRIBED, LIFECYCLE, NAME, World

__all__ = ["ABOUT", "DESCRIBED", "LIFECYCLE", "NAME", "World"]
