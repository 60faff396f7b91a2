"""Changing a configuration: checks, new disks, pending values, and what can be applied to a running VM."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import check_digest, is_cdrom, is_disk, normalise_tags, parse_disk
from nixops_proxmox.lab.refusals import PARAMETERS, Refused, bad_parameter, die
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.vm import config_table
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.create import config_values
from nixops_proxmox.lab.vms.disks import check_disks
from nixops_proxmox.lab.vms.pending import apply_pending
from nixops_proxmox.lab.vms.plug import plug
from nixops_proxmox.lab.vms.queue import queue
from nixops_proxmox.lab.vms.rights import check_bridges, check_rights, check_tags


@dataclass
class Change:
    """What a call asks for, parsed."""

    values: dict[str, str] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    reverted: list[str] = field(default_factory=list)
    digest: str | None = None
    force: bool = False
    skip_lock: bool = False


def parse_change(cluster: Cluster, params: Mapping[str, Any]) -> Change:
    values = config_values({key: value for key, value in params.items() if key not in ("description",)})
    deleted = split_list(params.get("delete", ""))
    if "description" in params:
        text = str(params["description"]).rstrip()
        if text:
            values["description"] = text
        else:
            deleted.append("description")
    known = config_table(cluster.release.number)
    for key in deleted:
        if key not in known or not known[key].exists_in(cluster.release.number):
            raise bad_parameter("delete", f"unknown option '{key}'")
        if key in values:
            raise bad_parameter("delete", f"you can't use '-{key}' and -delete {key}' at the same time")
    reverted = split_list(params.get("revert", ""))
    for key in reverted:
        if key not in known:
            raise bad_parameter("revert", f"unknown option '{key}'")
        if key in values:
            raise bad_parameter("revert", f"you can't use '-{key}' and '-revert {key}' at the same time")
    if not values and not deleted and not reverted:
        die("no options specified")
    return Change(
        values, deleted, reverted, params.get("digest"), params.get("force", False), params.get("skiplock", False)
    )


def check_change(cluster: Cluster, auth: Auth, vm: Vm, change: Change) -> None:
    """What is refused at once, whichever way the change is made."""
    check_rights(
        cluster, auth, vm.vmid, _with_old(vm, change), deleted=[key for key in change.deleted if key not in vm.config]
    )
    check_disks(cluster, auth, vm.node, vm.vmid, change.values)
    check_bridges(cluster, auth, change.values)
    cluster.check_quorum()
    check_digest(change.digest, vm.digest, cluster.release)
    if not change.skip_lock:
        vm.check_lock()
    if vm.config.get("protection") == "1":
        for key in change.deleted:
            if is_disk(key) and key in vm.config and not is_cdrom(parse_disk(key, vm.config[key])):
                die(f"can't remove drive '{key}' - protection mode enabled")
            if key.startswith("unused") and key in vm.config:
                die(f"can't remove unused disk '{key}' - protection mode enabled")
    if "tags" in change.values or "tags" in change.deleted:
        new = "" if "tags" in change.deleted else normalise_tags(change.values["tags"])
        check_tags(cluster, auth, vm.config.get("tags", ""), new)
    _check_balloon(vm, change)


def _with_old(vm: Vm, change: Change) -> dict[str, str]:
    """For rights: deleted keys with the value they have; a key that is a CD-ROM now stays one when it changes media."""
    return {**{key: vm.config[key] for key in change.deleted if key in vm.config}, **change.values}


def _check_balloon(vm: Vm, change: Change) -> None:
    from nixops_proxmox.lab.config import memory_of

    merged = {**vm.merged(), **change.values}
    if "balloon" in change.values and int(merged["balloon"]) > memory_of(merged):
        die("balloon value too large (must be smaller than assigned memory)")


async def apply_change(cluster: Cluster, vm: Vm, change: Change, log: Log) -> dict[str, str]:
    """Within the flock. What could not be hotplugged: key → why (the change stays pending)."""
    check_digest(change.digest, vm.digest, cluster.release)
    if not change.skip_lock:
        vm.check_lock()
    for key in change.reverted:
        vm.pending.pop(key, None)
        vm.deleted.pop(key, None)
    touched = await queue(cluster, vm, change, log)
    if vm.running is None:
        await apply_pending(cluster, vm)
        return {}
    return await plug(cluster, vm, touched)


def raise_problems(problems: Mapping[str, str]) -> None:
    if problems:
        raise Refused(400, PARAMETERS, problems)


def described(change: Change) -> str:
    """qmconfig's first log line."""
    parts = [f"-{key} {'<hidden>' if key == 'cipassword' else value}" for key, value in sorted(change.values.items())]
    parts += [f"-delete {','.join(change.deleted)}"] if change.deleted else []
    return " ".join(parts)
