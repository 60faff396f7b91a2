"""A template that we make of an image."""

from nixops_proxmox.kinds.template.kind import ABOUT, DESCRIBED, LIFECYCLE, NAME, World

__all__ = ["ABOUT", "DESCRIBED", "LIFECYCLE", "NAME", "World"]
