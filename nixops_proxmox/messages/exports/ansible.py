"""Ansible's inventory: as a dynamic inventory script prints it, and as a static YAML file.

Ansible takes what an inventory says for templates, and would run what stands between braces. So a value with a brace in
it is marked as unsafe, which is Ansible's word for text that is only text.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nixops_proxmox.operations.exporting import Exported
from nixops_proxmox.ssh.argv import canonical_host, option_args
from nixops_proxmox.texts import clean

Vars = Mapping[str, Any]


def list_json(machines: Sequence[Exported]) -> dict[str, Any]:
    """What `--list` of an inventory script prints."""
    known = [one for one in machines if one.access is not None]
    groups = {name: {"hosts": hosts} for name, hosts in _groups(known).items()}
    hostvars = {one.name: {name: _marked(value) for name, value in host_vars(one).items()} for one in known}
    everyone = {"children": ["ungrouped", *groups], "hosts": [one.name for one in known]}
    return {"_meta": {"hostvars": hostvars}, "all": everyone, **groups}


def host_json(machines: Sequence[Exported], name: str) -> dict[str, Any]:
    """What `--host NAME` prints: nothing for a machine that has no way in."""
    return dict(list_json(machines)["_meta"]["hostvars"].get(name, {}))


def static_text(machines: Sequence[Exported]) -> str:
    """The same as a YAML file."""
    known = [one for one in machines if one.access is not None]
    lines = ["# Written by nixops-proxmox; changes are lost.", "all:", "  hosts:" if known else "  hosts: {}"]
    for one in known:
        lines.append(f"    {_scalar(one.name)}:")
        lines += [f"      {name}: {_yaml(value)}" for name, value in host_vars(one).items()]
    groups = _groups(known)
    lines.append("  children:" if groups else "  children: {}")
    for group, hosts in groups.items():
        lines += [f"    {group}:", "      hosts:", *(f"        {_scalar(host)}: {{}}" for host in hosts)]
    return "\n".join(lines) + "\n"


def host_vars(one: Exported) -> dict[str, Any]:
    access = one.access
    if access is None:
        return {}
    endpoint = access.endpoint
    return {
        "ansible_host": canonical_host(endpoint.host),
        "ansible_port": endpoint.port,
        "ansible_user": endpoint.user,
        **({"ansible_ssh_private_key_file": str(access.identity)} if access.identity is not None else {}),
        "ansible_ssh_common_args": shlex.join(option_args(access)),
        **({"ansible_become_method": "sudo"} if endpoint.user != "root" else {}),
        "proxmox_deployment": one.deployment,
        "proxmox_phase": one.phase,
        "proxmox_profile": one.profile,
        "proxmox_node": one.node,
        "proxmox_vmid": one.vmid,
        "proxmox_tags": list(one.tags),
    }


def _groups(machines: Sequence[Exported]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for one in machines:
        named = [("tag", tag) for tag in one.tags]
        named += [("hypervisor", one.profile), ("node", one.node), ("deployment", one.deployment)]
        for kind, name in named:
            hosts = groups.setdefault(group_name(kind, name), []) if name else [one.name]
            if one.name not in hosts:
                hosts.append(one.name)
    return dict(sorted(groups.items()))


def group_name(kind: str, name: str) -> str:
    """A name that Ansible takes for a group: letters, digits and _."""
    return re.sub(r"[^A-Za-z0-9_]", "_", f"{kind}_{name}")


def _marked(value: Any) -> Any:
    match value:
        case str() if "{" in value:
            return {"__ansible_unsafe": value}
        case list():
            return [_marked(inner) for inner in value]
    return value


def _yaml(value: Any) -> str:
    match value:
        case list():
            return f"[{', '.join(map(_yaml, value))}]"
        case str() if "{" in value:
            return f"!unsafe {_scalar(value)}"
        case str():
            return _scalar(value)
    return json.dumps(value)


def _scalar(text: str) -> str:
    """JSON's strings are YAML's, too, once nothing in them is out of the ordinary."""
    return json.dumps(clean(text, block=False), ensure_ascii=False)
