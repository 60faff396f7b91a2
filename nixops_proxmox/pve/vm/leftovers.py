"""Pure: what a VM has and its description does not say (any more). It stays, for somebody may have set it by hand.
The plan says so, with the command that resets it."""

import re
import shlex
from collections.abc import Iterator, Mapping

from nixops_proxmox.model import Vm
from nixops_proxmox.pve.api.answers import split_list
from nixops_proxmox.pve.vm.correction import same_scalar
from nixops_proxmox.pve.vm.diff import DEFAULT_KEYS, is_default
from nixops_proxmox.pve.vm.drives import DISK_OPTION_DEFAULTS
from nixops_proxmox.pve.vm.identity import Identity, notes_without_mark
from nixops_proxmox.pve.vm.requests import controller, disk_options, extra, nic_options, settings, wanted_tags
from nixops_proxmox.pve.wire.properties import (
    is_cdrom,
    is_disk_slot,
    parse_drive,
    parse_nic,
    parse_properties,
    print_drive,
    print_nic,
    set_aside,
)
from nixops_proxmox.pve.wire.properties import print_properties as print_parts
from nixops_proxmox.spec import Disk, MachineSpec, Nic
from nixops_proxmox.spec.extra import objection
from nixops_proxmox.texts import head

# Set by PVE, by us at creation, or shown elsewhere.
_NOT_SAID = frozenset(
    {"name", "description", "tags", "scsihw", "ostype", "boot", "smbios1", "digest", "meta", "vmgenid"}
)
_OPTIONS = frozenset(
    {
        "agent", "arch", "args", "balloon", "bios", "cores", "cpu", "cpulimit", "cpuunits", "hotplug", "machine",
        "memory", "numa", "onboot", "protection", "serial0", "sockets", "startup", "vga",
    }
)  # fmt: skip
_DISK_FACTS = frozenset({"file", "size", "serial", "media", "format"})
SHOWN = 60  # characters of a value


def leftovers(vm: Vm, spec: MachineSpec, identity: Identity, pool: str = "") -> tuple[str, ...]:
    """A line each. `pool`: where the VM is."""
    found = (*_set_aside(vm), *_place(vm, spec, pool), *_settings(vm, spec, identity), *_tags(vm, spec))
    found += (*_notes(vm, spec), *_controller(vm, spec))
    found += tuple(line for disk in spec.disks for line in _disk(vm, disk, identity))
    return found + tuple(line for nic in spec.network for line in _nic(vm, nic))


def _set_aside(vm: Vm) -> Iterator[str]:
    for key, volume in set_aside(vm.config).items():
        yield (
            f"{key}: {volume} was detached and keeps its data; on its node, `qm set {vm.vmid} --SLOT {volume}` attaches"
            f" it again, `qm set {vm.vmid} --delete {key}` deletes it, and so does destroying the machine"
        )


def _place(vm: Vm, spec: MachineSpec, pool: str) -> Iterator[str]:
    """What only counts when a VM is made."""
    if spec.vmid not in (None, vm.vmid):
        yield f"vmid: {spec.vmid} is in the description, but the VM keeps {vm.vmid}: only a new VM gets another one"
    if spec.node not in (None, vm.node):
        migrate = f"qm migrate {vm.vmid} {spec.node} --online"
        yield f"node: {spec.node} is in the description, but the VM stays on {vm.node}; `{migrate}` there moves it"
    if pool and not spec.pool:
        command = f"pvesh set /pools/{pool} --vms {vm.vmid} --delete 1"
        yield f"pool: none is described, and it stays in {pool}; on a node, `{command}` changes that"
    for key, device in (("efidisk0", spec.efi), ("tpmstate0", spec.tpm)):
        if key in vm.config and device is None:
            yield (
                f"{key}: it is not in the description, but it stays, because the installed system may need it; to"
                f" detach it all the same, stop the VM and run `qm set {vm.vmid} --delete {key}` on its node"
            )


def _settings(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[str]:
    wanted = {key: str(value) for key, value in (settings(spec, identity) | dict(extra(spec))).items()}
    for key, have in sorted(vm.config.items()):
        if key in _NOT_SAID or not (key in _OPTIONS or not objection(key)):
            continue
        if key not in wanted:
            if not is_default(key, have):
                yield _line(key, have, f"qm set {vm.vmid} --delete {key}")
        elif not is_disk_slot(key) and "," in have and (key in DEFAULT_KEYS or "=" in wanted[key]):
            default = DEFAULT_KEYS.get(key, "")
            yield from _parts(vm, key, parse_properties(have, default), parse_properties(wanted[key], default))


def _notes(vm: Vm, spec: MachineSpec) -> Iterator[str]:
    notes = notes_without_mark(vm.config.get("description", "")).strip()
    if notes and spec.description is None:
        shown = _shown(" ".join(notes.split()))
        yield f'description: {shown} is not in the description, but it stays; `description = "";` there removes it'


def _controller(vm: Vm, spec: MachineSpec) -> Iterator[str]:
    """Without a wish of the user's, only a new VM gets ours."""
    have, ours = vm.config.get("scsihw", ""), controller(spec)
    if have and ours and have != ours and spec.scsi_controller is None:
        yield _line("scsihw", have, f"qm set {vm.vmid} --scsihw {ours}")


def _parts(vm: Vm, key: str, has: Mapping[str, str], wants: Mapping[str, str]) -> Iterator[str]:
    """The rest of a property string that is described only in part."""
    rest = {name: value for name, value in has.items() if name not in wants}
    if rest:
        without = {name: value for name, value in has.items() if name in wants}
        text = print_parts(without, DEFAULT_KEYS.get(key, ""))
        yield _line(key, print_parts(rest), f"qm set {vm.vmid} --{key} {shlex.quote(text)}")


def _tags(vm: Vm, spec: MachineSpec) -> Iterator[str]:
    """Tags that are described are all there are. Without any, those that somebody gave it stay."""
    rest = sorted({tag.lower() for tag in split_list(vm.config.get("tags", ""))} - set(wanted_tags(spec)))
    if rest and not spec.tags:
        tags = shlex.quote(";".join(wanted_tags(spec)))
        yield _line("tags", ";".join(rest), f"qm set {vm.vmid} --tags {tags}")


def _disk(vm: Vm, disk: Disk, identity: Identity) -> Iterator[str]:
    drive = parse_drive(vm.config.get(disk.slot, ""))
    if not drive or is_cdrom(drive):
        return
    said = {*disk_options(disk, identity), *_DISK_FACTS}
    rest = {
        name: value
        for name, value in drive.items()
        if name not in said and not same_scalar(value, DISK_OPTION_DEFAULTS.get(name, ""))
    }
    if rest:
        text = print_drive({name: value for name, value in drive.items() if name not in rest})
        yield _line(disk.slot, print_parts(rest), f"qm set {vm.vmid} --{disk.slot} {shlex.quote(text)}")


def _nic(vm: Vm, nic: Nic) -> Iterator[str]:
    has = parse_nic(vm.config.get(nic.slot, ""))
    said = {*nic_options(nic, ""), "model", "macaddr"}
    rest = {name: value for name, value in has.items() if name not in said and value != "0"}
    if rest:
        text = print_nic({name: value for name, value in has.items() if name not in rest})
        yield _line(nic.slot, print_parts(rest), f"qm set {vm.vmid} --{nic.slot} {shlex.quote(text)}")


def _line(key: str, have: str, command: str) -> str:
    return f"{key}: {_shown(have)} is not in the description, but it stays; to reset it, run `{command}` on its node"


def _shown(text: str) -> str:
    """A backtick would begin another command."""
    return re.sub(r"[^ -_a-~…]", "?", head(text, SHOWN))
