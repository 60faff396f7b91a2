"""What DHCP servers and name servers should be told of the machines: from the description and the record, offline."""

from nixops_proxmox.kinds.reservation.wanted import reservation_of
from nixops_proxmox.kinds.resource import KnownNic
from nixops_proxmox.operations.addressing import MacShown
from nixops_proxmox.routers import Reservation


def reservations_of(deployment: str, shown: list[MacShown]) -> tuple[list[Reservation], list[str]]:
    """A reservation for each NIC whose MAC and address are known, and a line for each that is left out."""
    found, left = [], []
    for one in shown:
        entry = reservation_of(deployment, KnownNic(one.machine, one.slot, one.mac, one.host, one.addresses))
        if entry is None:
            lacking = "address" if one.mac else "MAC"
            left.append(f"{one.machine}.{one.slot}: its {lacking} is not known, so it is left out")
            continue
        found.append(entry)
    return found, left
