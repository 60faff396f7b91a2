"""What DHCP servers and name servers should be told of the machines: from the description and the record, offline."""

from nixops_proxmox.operations.addressing import MacShown
from nixops_proxmox.routers import Reservation


def reservations_of(deployment: str, shown: list[MacShown]) -> tuple[list[Reservation], list[str]]:
    """A reservation for each NIC whose MAC and address are known, and a line for each that is left out. A machine's
    first NIC has its name; the others have the slot behind it."""
    found, left = [], []
    for one in shown:
        if not one.mac or not one.addresses:
            lacking = "address" if one.mac else "MAC"
            left.append(f"{one.machine}.{one.slot}: its {lacking} is not known, so it is left out")
            continue
        ipv4 = next((address for address in one.addresses if ":" not in address), "")
        ipv6 = next((address for address in one.addresses if ":" in address), "")
        host = one.host or (one.machine if one.slot == "net0" else f"{one.machine}-{one.slot}")
        found.append(Reservation(f"{deployment}/{one.machine}.{one.slot}", one.mac.lower(), ipv4, ipv6, host))
    return found, left
