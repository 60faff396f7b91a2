"""Builds the lab's installer image out of Debian packages: a small live system that installs, as NixOS's would."""

from nixops_proxmox.lab.image.build import ImagePaths, build_image, default_cache
from nixops_proxmox.lab.image.debs import ImageFailed
from nixops_proxmox.lab.image.disk import build_disk

__all__ = ["ImageFailed", "ImagePaths", "build_disk", "build_image", "default_cache"]
