"""What the resource types of machines give out."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.model import Machine
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.volume import volume_path


def vm_outputs(machine: Machine, taken: Mapping[str, Mapping[str, str]]) -> Mapping[str, Any]:
    """`taken`: what its NICs have taken from lists of MACs, by slot."""
    facts, endpoint = machine.facts, machine.facts.endpoint
    return {
        "machine": machine.name,
        "uuid": facts.uuid,
        "vmid": facts.vmid,
        "node": facts.node,
        "macs": list(facts.macs),
        "addresses": [str(a.ip) for a in facts.addresses if a.mac in facts.macs and not a.ip.is_link_local],
        "sshHost": endpoint.host if endpoint else "",
        "sshPort": endpoint.port if endpoint else 22,
        "sshHostKeys": list(facts.shown_keys),
        "serialsFrom": facts.serials_told,
        "taken": {slot: dict(one) for slot, one in taken.items()},
    }


def volume_outputs(name: str, serial: str, *, container: bool) -> Mapping[str, Any]:
    return {"volume": name, "serial": serial, "device": volume_path(serial, container=container)}


def thing_outputs(spec: ResourceSpec) -> Mapping[str, Any]:
    return {"name": spec.name, "id": spec.given_name}


def nixos_outputs(machine: Machine) -> Mapping[str, Any]:
    facts, endpoint = machine.facts, machine.facts.endpoint
    return {
        "system": facts.system,
        "generation": facts.generation,
        "sshHost": endpoint.host if endpoint else "",
        "sshPort": endpoint.port if endpoint else 22,
        "sshHostKey": facts.host_key,
    }
