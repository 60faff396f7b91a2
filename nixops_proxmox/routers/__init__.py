"""Routers, DHCP servers and name servers: what they are told of the machines."""

from nixops_proxmox.routers.export import FORMATS, Surroundings, export
from nixops_proxmox.routers.profile import RouterProfile, load_router
from nixops_proxmox.routers.registry import open_router
from nixops_proxmox.routers.reservation import Reservation, Router, find_conflict

__all__ = [
    "FORMATS",
    "Reservation",
    "Router",
    "RouterProfile",
    "Surroundings",
    "export",
    "find_conflict",
    "load_router",
    "open_router",
]
