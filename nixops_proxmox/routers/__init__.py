"""Routers, DHCP servers and name servers: what they are told of the machines."""

from nixops_proxmox.routers.export import FORMATS, Surroundings, export
from nixops_proxmox.routers.reservation import Reservation

__all__ = ["FORMATS", "Reservation", "Surroundings", "export"]
