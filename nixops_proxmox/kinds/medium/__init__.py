"""An ISO or a disk image on a storage, by its content."""

from nixops_proxmox.kinds.medium.file import Medium, content_name, refuse_ending
from nixops_proxmox.kinds.medium.kind import ABOUT, LIFECYCLE, NAME
from nixops_proxmox.kinds.medium.ports import Media, World

__all__ = ["ABOUT", "LIFECYCLE", "NAME", "Media", "Medium", "World", "content_name", "refuse_ending"]
