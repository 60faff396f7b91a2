"""Descriptions to start tests from."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import MachineSpec, NetworkSpec, parse_machine, parse_network

DISK = {"storage": "local-lvm", "size": 8}
NIC = {"bridge": "vmbr0"}


def options(**more: Any) -> dict[str, Any]:
    """The least that a machine says, and more."""
    return {"disks": [DISK], "network": [NIC], **more}


def machine(**more: Any) -> MachineSpec:
    return parse_machine("web", {"deployment": {"proxmox": options(**more)}})


def network(machines: Mapping[str, Mapping[str, Any]]) -> NetworkSpec:
    entries = {name: {"deployment": {"proxmox": options(**more)}} for name, more in machines.items()}
    return parse_network("demo", {"network": {}, "machines": entries})


def refusal(**more: Any) -> SpecError:
    """The error that these options end in."""
    return refusal_of({"deployment": {"proxmox": options(**more)}})


def refusal_of(entry: Any) -> SpecError:
    try:
        parse_machine("web", entry)
    except SpecError as error:
        return error
    raise AssertionError("it was accepted")


def mistakes(**more: Any) -> dict[str, str]:
    """Text by option path, the common beginning left out."""
    lines = (line.partition(": ") for line in str(refusal(**more)).splitlines())
    return {path.removeprefix("web.deployment.proxmox").removeprefix("."): text for path, _, text in lines}
