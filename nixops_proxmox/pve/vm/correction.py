"""One difference between a VM and its description, and what a value means, however it is spelled."""

from dataclasses import dataclass

from nixops_proxmox.model import Change, Vm
from nixops_proxmox.pve.api.answers import split_list
from nixops_proxmox.pve.wire.properties import parse_flag


@dataclass(frozen=True)
class Correction:
    """One difference and what undoes it: a value to set, a key to delete, a size to grow to."""

    change: Change
    value: str | None = None
    delete: bool = False
    size: str = ""
    move: str = ""  # to this storage
    drop: str = ""  # delete the volume: the old copy of the disk in this slot, which was moved


def hotplugged(vm: Vm) -> frozenset[str]:
    """What PVE plugs into a running VM."""
    text = vm.config.get("hotplug", "1")
    if parse_flag(text) is not None:
        return frozenset({"network", "disk", "usb"}) if parse_flag(text) else frozenset()
    return frozenset(split_list(text))


def same_scalar(one: str, other: str) -> bool:
    return as_scalar(one) == as_scalar(other)


def as_scalar(text: str) -> str | float | bool:
    """2048, "2048" and 2048.0 are one number; 1, on and yes are one flag."""
    stripped = text.strip()
    try:
        return float(stripped)
    except ValueError:
        flag = parse_flag(stripped)
        return stripped if flag is None else float(flag)
