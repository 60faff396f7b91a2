"""A backup job: PVE itself backs up machines."""

from nixops_proxmox.kinds.backup_job.kind import ABOUT, DESCRIBED, LIFECYCLE, NAME, World

__all__ = ["ABOUT", "DESCRIBED", "LIFECYCLE", "NAME", "World"]
