"""Moved to `lab/owned.py`."""

from nixops_proxmox.lab.owned import sweep

__all__ = ["sweep"]
