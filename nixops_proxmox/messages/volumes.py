"""Volumes as rows, lines of a plan, and JSON."""

from typing import TYPE_CHECKING

from nixops_proxmox.messages.amounts import amount
from nixops_proxmox.messages.shapes.volumes import VolumeJson
from nixops_proxmox.texts import shown_line

if TYPE_CHECKING:
    from nixops_proxmox.operations.keeping import VolumeShown

HEADS = ("volume", "size", "storage", "node", "state", "serial", "described by")


def volume_row(one: "VolumeShown") -> list[str]:
    size = one.spot.size if one.spot is not None else one.spec.size
    node = one.spot.vm.node if one.spot is not None else one.spec.node or "-"
    described = one.wanted_by or ("no machine" if one.described else "nothing: it is kept")
    return [one.volume.name, amount(size), one.spec.storage, shown_line(node), state_of(one), one.serial, described]


def state_of(one: "VolumeShown") -> str:
    """`attached to web`, `parked (900000)`, …"""
    if one.spot is None:
        return one.volume.phase.value
    facts, vmid = one.volume.facts, one.spot.vm.vmid
    if one.parked:
        return f"parked ({vmid})"
    return f"attached to {facts.machine}" if facts.machine else f"in VM {vmid}"


def volume_json(one: "VolumeShown") -> VolumeJson:
    spot = one.spot
    return {
        "volume": one.volume.name,
        "phase": one.volume.phase.value,
        "serial": one.serial,
        "storage": one.spec.storage,
        "size": one.spec.size if spot is None else spot.size,
        "node": None if spot is None else spot.vm.node,
        "vmid": None if spot is None else spot.vm.vmid,
        "slot": None if spot is None else spot.slot,
        "volume ID": None if spot is None else spot.volume,
        "machine": one.volume.facts.machine or None,
        "described": one.described,
        "described by": one.wanted_by or None,
        "protected": one.spec.protect,
    }


def is_new(one: "VolumeShown") -> bool:
    return one.volume.phase.value in ("absent", "begun")


def has_change(one: "VolumeShown") -> bool:
    """Would a deploy change it? What happens to one that a machine has, or gets, is among the machine's changes."""
    return is_new(one) or (not one.wanted_by and one.volume.phase.value == "parked-small")


def plan_line(one: "VolumeShown") -> str:
    """What a deploy does to the volume, and where it is."""
    name, place = f"volume {one.volume.name}", f"{amount(one.spec.size)} on {one.spec.storage}"
    if is_new(one):
        return f"{name}: new, {place}{f', then attached to {one.wanted_by}' if one.wanted_by else ', and parked'}"
    if not one.described:
        return f"{name}: kept, {state_of(one)}; nothing describes it any more"
    if has_change(one):
        return f"{name}: {state_of(one)}, grows to {amount(one.spec.size)}"
    return f"{name}: {state_of(one)}"
