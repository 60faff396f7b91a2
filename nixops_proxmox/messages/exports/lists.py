"""Lists of addresses: a hosts file, Prometheus's file_sd, and Terraform's outputs and external data."""

import re
from collections.abc import Sequence
from typing import Any

from nixops_proxmox.model import Address, Endpoint
from nixops_proxmox.operations.exporting import Exported
from nixops_proxmox.ssh.argv import bracketed, canonical_host

NODE_EXPORTER = 9100


def hosts_lines(machines: Sequence[Exported]) -> list[str]:
    """The lines of /etc/hosts: the address that we log in at first, then all others that are not link-local."""
    lines = ["# Written by nixops-proxmox; changes are lost."]
    for one in machines:
        lines += [f"{address} {one.name} {one.name}.{one.deployment}" for address in _plain_addresses(one)]
    return lines


def prometheus_json(machines: Sequence[Exported], port: int = NODE_EXPORTER) -> list[dict[str, Any]]:
    """Targets of `file_sd_configs`. Each label is text; tags have commas around them, as `__meta_` labels do."""
    return [
        {
            "targets": [f"{bracketed(one.endpoint.host)}:{port}"],
            "labels": {
                "machine": one.name,
                "deployment": one.deployment,
                "hypervisor": one.profile,
                "node": one.node,
                "vmid": str(one.vmid or ""),
                "phase": one.phase,
                "tags": f",{','.join(one.tags)}," if one.tags else "",
            },
        }
        for one in machines
        if one.endpoint is not None
    ]


def terraform_json(machines: Sequence[Exported]) -> dict[str, Any]:
    """As `terraform output -json` prints an output `machines`."""
    value = {one.name: machine_json(one) for one in machines}
    return {"machines": {"sensitive": False, "type": _type_of(value), "value": value}}


def external_json(machines: Sequence[Exported]) -> dict[str, str]:
    """What a program for Terraform's data source `external` prints: text by text. `web.address`, `web.node`, …"""
    found = {}
    for one in machines:
        for name, value in machine_json(one).items():
            if isinstance(value, str | int):
                found[f"{one.name}.{name}"] = str(value)
            elif isinstance(value, list):
                found[f"{one.name}.{name}"] = ",".join(value)
    return found


def machine_json(one: Exported) -> dict[str, Any]:
    endpoint = one.endpoint or Endpoint("")
    return {
        "address": canonical_host(endpoint.host),
        "port": endpoint.port,
        "user": endpoint.user,
        "jump": endpoint.jump,
        "addresses": [str(address.ip) for address in one.addresses],
        "macs": [wire.mac for wire in one.wires if wire.mac],
        "phase": one.phase,
        "hypervisor": one.profile,
        "node": one.node,
        "vmid": one.vmid,
        "uuid": one.uuid,
        "tags": list(one.tags),
        "volumes": list(one.volumes),
        "host_key": one.host_keys[0] if one.host_keys else "",
    }


def _plain_addresses(one: Exported) -> list[str]:
    first = canonical_host(one.endpoint.host) if one.endpoint is not None else ""
    others = [str(address.ip) for address in one.addresses if _is_plain(address)]
    is_address = re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", first)
    return list(dict.fromkeys([*([first] if is_address else []), *others]))


def _is_plain(address: Address) -> bool:
    return not (address.ip.is_link_local or address.ip.is_loopback or getattr(address.ip, "scope_id", None))


def _type_of(value: Any) -> Any:
    """A type of Terraform's as its JSON has it."""
    match value:
        case str():
            return "string"
        case int():
            return "number"
        case list():
            return ["list", "string"]
        case dict():
            return ["object", {name: _type_of(inner) for name, inner in value.items()}]
    raise TypeError(value)
