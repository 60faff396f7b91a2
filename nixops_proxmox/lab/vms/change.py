"""Changing a configuration: checks, new disks, pending values, and what can be applied to a running VM."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nixops_proxmox.lab.access import Auth
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import (
    agent_enabled,
    check_digest,
    is_cdrom,
    is_disk,
    is_nic,
    normalise_tags,
    parse_boot,
    parse_disk,
    volume_of,
)
from nixops_proxmox.lab.hardware import hardware_of
from nixops_proxmox.lab.machines.base import StartFailed
from nixops_proxmox.lab.refusals import PARAMETERS, Refused, bad_parameter, die
from nixops_proxmox.lab.schema.formats import split_list
from nixops_proxmox.lab.schema.vm import config_table
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.create import config_values, with_mac
from nixops_proxmox.lab.vms.disks import Made, check_disks, make_disks
from nixops_proxmox.lab.vms.pending import apply_pending
from nixops_proxmox.lab.vms.power import find_volume
from nixops_proxmox.lab.vms.rights import check_bridges, check_rights, check_tags

# What takes effect on a running VM without anybody doing anything.
AT_ONCE = re.compile(
    r"name|description|onboot|autostart|tags|protection|startup|hookscript|shares|vmstatestorage|lock|template|migrate_\w+|cpulimit|cpuunits|balloon|"
    r"ciuser|cipassword|sshkeys|ipconfig\d+|nameserver|searchdomain|citype|cicustom|ciupgrade|unused\d+|bootdisk"
)
DEVICES = re.compile(r"net\d+|scsi\d+|virtio\d+|usb\d+")


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
    made = Made()
    try:
        await make_disks(cluster, vm.node, vm.vmid, change.values, made, log)
        values = {key: _prepared(cluster, key, made.values.get(key, value)) for key, value in change.values.items()}
        _check_boot(vm, values)
    except Refused:
        await made.undo(cluster)
        raise
    _queue(vm, values, change)
    if vm.running is None:
        await apply_pending(cluster, vm)
        return {}
    return await _hotplug(cluster, vm)


def _prepared(cluster: Cluster, key: str, value: str) -> str:
    if is_nic(key):
        return with_mac(cluster, value)
    if key == "tags":
        return normalise_tags(value) or " "
    return value


def _check_boot(vm: Vm, values: Mapping[str, str]) -> None:
    if "order=" not in values.get("boot", ""):
        return
    there = {**vm.merged(), **values}
    for device in parse_boot(values):
        if device not in there:
            die(f"invalid bootorder: device '{device}' does not exist'")


def _queue(vm: Vm, values: Mapping[str, str], change: Change) -> None:
    for key in change.deleted:
        vm.pending.pop(key, None)
        if key in vm.config:
            vm.deleted[key] = change.force
    for key, value in values.items():
        vm.deleted.pop(key, None)
        _extend_boot_order(vm, key, value)
        if vm.config.get(key) == value:
            vm.pending.pop(key, None)  # back to what is active: nothing to do
        else:
            vm.pending[key] = value


def _extend_boot_order(vm: Vm, key: str, value: str) -> None:
    """A CD-ROM drive that is new joins an existing order."""
    boot = vm.config.get("boot", "")
    new = is_disk(key) and key not in vm.merged() and is_cdrom(parse_disk(key, value))
    if new and "order=" in boot and key not in parse_boot(vm.config):
        vm.config["boot"] = f"{boot};{key}"


# A running VM.


async def _hotplug(cluster: Cluster, vm: Vm) -> dict[str, str]:
    problems: dict[str, str] = {}
    for key in [*vm.deleted, *vm.pending]:
        if not _is_hot(vm, key):
            continue
        before = hardware_of(vm, lambda volid: find_volume(cluster, vm, volid))
        saved = dict(vm.config), dict(vm.pending), dict(vm.deleted)
        try:
            await apply_pending(cluster, vm, {key})
            after = hardware_of(vm, lambda volid: find_volume(cluster, vm, volid))
            if vm.running is not None and (is_disk(key) or is_nic(key)):
                await vm.running.change(before, after)
            if key in vm.config:
                vm.started[key] = vm.config[key]
            else:
                vm.started.pop(key, None)
        except (StartFailed, Refused) as error:
            vm.config, vm.pending, vm.deleted = saved
            problems[key] = f"hotplug problem - {error}\n"
    return problems


def _is_hot(vm: Vm, key: str) -> bool:
    features = vm.config.get("hotplug", "network,disk,usb")
    features = "network,disk,usb" if features == "1" else features
    if AT_ONCE.fullmatch(key):
        return True
    if key == "agent":  # its other settings; whether the device is there needs a new start
        new = {"agent": vm.pending.get("agent", "0")}
        return agent_enabled(new) == agent_enabled(vm.config)
    if is_disk(key) and _is_media_change(vm, key):
        return True
    if DEVICES.fullmatch(key):
        kind = "network" if key.startswith("net") else "usb" if key.startswith("usb") else "disk"
        return kind in features.split(",")
    return key in ("cores", "vcpus", "sockets") and "cpu" in features.split(",") and key == "vcpus"


def _is_media_change(vm: Vm, key: str) -> bool:
    old, new = vm.config.get(key), vm.pending.get(key)
    if old is None or new is None:
        return False
    return is_cdrom(parse_disk(key, old)) and is_cdrom(parse_disk(key, new)) and "cloudinit" not in volume_of(new)


def raise_problems(problems: Mapping[str, str]) -> None:
    if problems:
        raise Refused(400, PARAMETERS, problems)


def described(change: Change) -> str:
    """qmconfig's first log line."""
    parts = [f"-{key} {'<hidden>' if key == 'cipassword' else value}" for key, value in sorted(change.values.items())]
    parts += [f"-delete {','.join(change.deleted)}"] if change.deleted else []
    return " ".join(parts)
