"""The machines' MACs, for people and for programs."""

from typing import TYPE_CHECKING

from nixops_proxmox.messages.shapes.machines import MacJson

if TYPE_CHECKING:
    from nixops_proxmox.operations.addressing import MacShown

HEADS = ("machine", "NIC", "MAC", "from", "host", "addresses")


def mac_row(shown: "MacShown") -> tuple[str, ...]:
    mac = shown.mac or "not known yet"
    return (shown.machine, shown.slot, mac, shown.origin, shown.host, ", ".join(shown.addresses))


def mac_json(shown: "MacShown") -> MacJson:
    return {
        "machine": shown.machine,
        "nic": shown.slot,
        "mac": shown.mac or None,
        "from": shown.origin,
        "host": shown.host or None,
        "addresses": list(shown.addresses),
        "elsewhere": shown.elsewhere or None,
    }
