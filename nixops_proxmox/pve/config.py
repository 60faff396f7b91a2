"""Pure: how a VM differs from its description, and the calls that make it so; compared by meaning, never by text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from nixops_proxmox.model import Change, Vm
from nixops_proxmox.pve.answers import split_list
from nixops_proxmox.pve.boot import boot_devices
from nixops_proxmox.pve.calls import Value
from nixops_proxmox.pve.identity import (
    Identity,
    derived_serial,
    find_mark,
    is_unfinished,
    notes_with_mark,
    notes_without_mark,
    uuid_of,
)
from nixops_proxmox.pve.properties import (
    MIB,
    is_cdrom,
    is_disk_slot,
    parse_drive,
    parse_flag,
    parse_nic,
    parse_properties,
    parse_size,
    print_drive,
    print_nic,
    print_properties,
    print_size,
    storage_of,
)
from nixops_proxmox.pve.requests import (
    boot_order,
    controller,
    disk_options,
    extra,
    new_disk,
    new_efi_disk,
    new_tpm,
    nic_options,
    nics,
    settings,
    wanted_tags,
)
from nixops_proxmox.spec import Disk, MachineSpec

# §8.3 of PVE's behaviour: these act on a running VM at once; everything else waits for a full stop and start.
HOT = frozenset(
    {"name", "description", "onboot", "tags", "protection", "startup", "hotplug", "cpulimit", "cpuunits", "shares"}
)
HOT_DISK_OPTIONS = frozenset({"backup"})
SLACK = 64 * MIB  # storages round sizes up: LVM to 4 MiB extents, others to more
DEFAULT_KEYS = {"cpu": "cputype", "agent": "enabled", "vga": "type", "machine": "type", "memory": "current"}


@dataclass(frozen=True)
class Update:
    """Calls to make, in this order: a config call for each of `calls` (with `delete`), then a resize for each disk."""

    calls: tuple[Mapping[str, Value], ...] = ()
    resize: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Step:
    """One difference and what undoes it: a value to set, a key to delete, a size to grow to."""

    change: Change
    value: str | None = None
    delete: bool = False
    size: str = ""


def changes(vm: Vm, spec: MachineSpec, identity: Identity) -> tuple[Change, ...]:
    return tuple(step.change for step in _all_steps(vm, spec, identity))


def update(vm: Vm, spec: MachineSpec, identity: Identity) -> Update:
    """What to send. Forbidden changes are left out: whoever asks refuses them first."""
    steps = [step for step in _all_steps(vm, spec, identity) if not step.change.forbidden]
    params: dict[str, Value] = {step.change.key: step.value for step in steps if step.value is not None}
    removed = [step.change.key for step in steps if step.delete]
    if removed:
        params["delete"] = ",".join(removed)
    return Update(tuple(in_order(params)), {step.change.key: step.size for step in steps if step.size})


def in_order(params: Mapping[str, Value]) -> Iterator[Mapping[str, Value]]:
    """PVE takes the keys of one call in no order, and derives some from others. What decides how the rest is taken
    (hotplug, an end of protection) goes first; the boot order, to which PVE itself adds and from which it takes
    devices, goes last, and with it the notes: they say that a clone is finished."""
    first = {key for key in params if key == "hotplug" or (key == "protection" and not parse_flag(str(params[key])))}
    last = {"boot", "description"} & params.keys() if "boot" in params else set[str]()
    for keys in (first, params.keys() - first - last, last):
        if keys:
            yield {key: value for key, value in params.items() if key in keys}


def _all_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[_Step]:
    """What is not wanted yet, and what PVE knows that we want and the VM does not have yet."""
    differing = list(_steps(vm, spec, identity))
    if not vm.pending or not vm.active:
        yield from differing
        return
    by_key = {step.change.key: step for step in _steps(replace(vm, config=vm.active), spec, identity)}
    for step in differing:  # one that only takes back what was pending has its effect at once
        waits = step.change.restart and step.change.key in by_key
        yield replace(step, change=replace(step.change, restart=waits))
    known = {step.change.key for step in differing}
    for key in vm.pending:
        if key in by_key and key not in known:
            yield _waiting_step(vm, by_key[key])


def _waiting_step(vm: Vm, step: _Step) -> _Step:
    """A device that can be plugged is asked for again, in PVE's own words: others would make a second volume."""
    key, wanted = step.change.key, vm.config.get(step.change.key)
    change = replace(
        step.change,
        want=wanted or "",
        restart=True,
        forbidden="",
        waiting=True,
        missing=is_device(key) and key not in vm.active,
    )
    if step.change.restart or not is_device(key):
        return _Step(change)
    return _Step(change, value=wanted, delete=wanted is None)


def is_device(key: str) -> bool:
    return is_disk_slot(key) or (key.startswith("net") and key[3:].isdecimal()) or key in ("efidisk0", "tpmstate0")


def _steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[_Step]:
    yield from _identity_steps(vm, spec, identity)
    yield from _setting_steps(vm, spec, identity)
    yield from _firmware_steps(vm, spec)
    for disk in spec.disks:
        yield from _disk_steps(vm, spec, disk, identity)
    yield from _removed_disks(vm, spec, identity)
    yield from _nic_steps(vm, spec, identity)


def _identity_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[_Step]:
    """A clone's first write: PVE gave it a UUID of its own, and it has the template's boot order."""
    if not is_unfinished(vm.config.get("description", "")):
        return
    have = vm.config.get("smbios1", "")
    if uuid_of(vm.config) != identity.uuid:
        want = print_properties({**parse_properties(have), "uuid": identity.uuid})
        yield _Step(Change("smbios1", have, want, restart=True), value=want)
    if spec.disks and spec.disks[0].slot not in boot_devices(vm.config)[:1]:
        want = boot_order(spec, installer=False)
        yield _Step(Change("boot", vm.config.get("boot", ""), want, restart=True), value=want)


def _setting_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[_Step]:
    wanted = {key: _wire(value) for key, value in (settings(spec, identity) | dict(extra(spec))).items()}
    if spec.description is None:
        wanted["description"] = _own_notes(vm, identity)
    if not spec.tags:
        wanted["tags"] = ";".join(sorted({*_tags(vm.config.get("tags", "")), *wanted_tags(spec)}))
    if spec.scsi_controller is None and controller(spec):
        wanted.pop("scsihw")  # our default for a new VM, not the user's wish for this one
    for key, want in wanted.items():
        have = vm.config.get(key, "")
        if not same_setting(key, have, want):
            yield _Step(
                Change(key, have, want, _needs_restart(vm, key), _forbidden_setting(key, have, want)), value=want
            )


def _own_notes(vm: Vm, identity: Identity) -> str:
    notes = vm.config.get("description", "")
    if find_mark(notes) == identity.mark and not is_unfinished(notes):
        return notes
    return notes_with_mark(notes_without_mark(notes), identity.mark)


def _forbidden_setting(key: str, have: str, want: str) -> str:
    if key == "bios":
        return f"the installed system boots with {have or 'seabios'} and would not with {want}"
    return ""


def _needs_restart(vm: Vm, key: str) -> bool:
    return key not in HOT and not (key == "memory" and "memory" in hotplugged(vm))


def hotplugged(vm: Vm) -> frozenset[str]:
    """What PVE plugs into a running VM."""
    text = vm.config.get("hotplug", "1")
    if parse_flag(text) is not None:
        return frozenset({"network", "disk", "usb"}) if parse_flag(text) else frozenset()
    return frozenset(split_list(text))


def same_setting(key: str, have: str, want: str) -> bool:
    """Do two spellings of a setting mean the same? A property string may have more than what is wanted."""
    if key == "tags":
        return _tags(have) == _tags(want)
    if key == "description":
        return have.strip() == want.strip()
    if not have:
        return is_default(key, want)
    if _scalar(have) == _scalar(want):
        return True
    default_key = DEFAULT_KEYS.get(key, "")
    if not default_key and "=" not in want:
        return False
    has, wants = parse_properties(have, default_key), parse_properties(want, default_key)
    return all(name in has and _scalar(has[name]) == _scalar(value) for name, value in wants.items())


_DEFAULTS = {
    "bios": "seabios", "sockets": "1", "cores": "1", "numa": "0", "onboot": "0", "protection": "0", "memory": "512",
    "scsihw": "lsi", "cpulimit": "0", "arch": "x86_64", "hotplug": "network,disk,usb", "agent": "0",
}  # fmt: skip


def is_default(key: str, want: str) -> bool:
    """PVE leaves out what was never set; asking for its default then is no difference."""
    return key in _DEFAULTS and _scalar(want) == _scalar(_DEFAULTS[key])


def same_scalar(one: str, other: str) -> bool:
    return _scalar(one) == _scalar(other)


def _scalar(text: str) -> str | float | bool:
    """2048, "2048" and 2048.0 are one number; 1, on and yes are one flag."""
    stripped = text.strip()
    try:
        return float(stripped)
    except ValueError:
        flag = parse_flag(stripped)
        return stripped if flag is None else float(flag)


def _tags(text: str) -> frozenset[str]:
    return frozenset(tag.lower() for tag in split_list(text))


def _wire(value: Value) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)


def _firmware_steps(vm: Vm, spec: MachineSpec) -> Iterator[_Step]:
    if spec.efi is not None:
        want = new_efi_disk(spec.efi)
        yield from _fixed_device(vm, "efidisk0", want, {"efitype": "2m", "pre-enrolled-keys": "0"})
    if spec.tpm is not None:
        yield from _fixed_device(vm, "tpmstate0", new_tpm(spec.tpm), {"version": "v1.2"})


def _fixed_device(vm: Vm, key: str, want: str, defaults: Mapping[str, str]) -> Iterator[_Step]:
    """A device that can be added but whose nature cannot be changed later."""
    have = vm.config.get(key, "")
    if not have:
        yield _Step(Change(key, "", want, restart=True), value=want)
        return
    has, wants = {**defaults, **parse_drive(have)}, parse_drive(want)
    if any(_scalar(has[name]) != _scalar(wants[name]) for name in defaults):
        why = "it is made once: its content cannot be converted"
        yield _Step(Change(key, have, want, restart=True, forbidden=why))


def _disk_steps(vm: Vm, spec: MachineSpec, disk: Disk, identity: Identity) -> Iterator[_Step]:
    have = vm.config.get(disk.slot, "")
    if not have:
        want = new_disk(spec, disk, identity)
        yield _Step(Change(disk.slot, "", want, restart=not _pluggable(vm, disk.slot)), value=want)
        return
    drive = parse_drive(have)
    if is_cdrom(drive):
        yield _Step(Change(disk.slot, have, "a disk", forbidden="a CD drive is in its slot: choose another"))
        return
    if storage_of(drive.get("file", "")) != disk.storage:
        why = f"move it in PVE first (qm disk move {vm.vmid} {disk.slot} {disk.storage})"
        yield _Step(Change(disk.slot, have, f"on {disk.storage}", forbidden=why))
        return
    yield from _size_steps(disk, drive)
    yield from _option_steps(disk, drive, have, identity)


def _size_steps(disk: Disk, drive: Mapping[str, str]) -> Iterator[_Step]:
    size = parse_size(drive.get("size", ""))
    if size is None or size <= disk.size <= size or size - SLACK <= disk.size <= size:
        return
    have, want = print_size(size), print_size(-(-disk.size // 1024) * 1024)
    if disk.size < size:
        yield _Step(Change(disk.slot, have, want, forbidden="PVE cannot shrink a disk"))
    else:
        yield _Step(Change(disk.slot, have, want), size=want)


DISK_OPTION_DEFAULTS = {
    "backup": "1",
    "cache": "none",
    "discard": "ignore",
    "iothread": "0",
    "ssd": "0",
    "aio": "io_uring",
}


def _option_steps(disk: Disk, drive: Mapping[str, str], have: str, identity: Identity) -> Iterator[_Step]:
    wanted = disk_options(disk, identity)
    if disk.serial is None and "serial" not in drive:
        del wanted["serial"]  # not made by us: its guest knows it by the name that it has without one
    differing = {
        name: value
        for name, value in wanted.items()
        if _scalar(drive.get(name, DISK_OPTION_DEFAULTS.get(name, ""))) != _scalar(value)
    }
    if differing:
        want = print_drive({**drive, **differing})  # starts from what PVE has: its volume, never an allocation
        yield _Step(Change(disk.slot, have, want, restart=not differing.keys() <= HOT_DISK_OPTIONS), value=want)


def _removed_disks(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[_Step]:
    """Disks that we made (their serial says so) and that are described no more: detached, their volume kept.
    A disk that somebody added by hand is left alone."""
    described = {disk.slot for disk in spec.disks}
    for slot in sorted(vm.config):
        drive = parse_drive(vm.config[slot]) if is_disk_slot(slot) else {}
        if slot not in described and drive and drive.get("serial") == derived_serial(identity.uuid, slot):
            yield _Step(Change(slot, vm.config[slot], "", restart=not _pluggable(vm, slot)), delete=True)


def _pluggable(vm: Vm, slot: str) -> bool:
    return "disk" in hotplugged(vm) and slot.startswith(("scsi", "virtio"))


def _nic_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[_Step]:
    restart = "network" not in hotplugged(vm)
    wanted = nics(spec, identity)
    for index, nic in enumerate(spec.network):
        have = vm.config.get(nic.slot, "")
        if not have:
            yield _Step(Change(nic.slot, "", str(wanted[nic.slot]), restart), value=str(wanted[nic.slot]))
            continue
        has = parse_nic(have)
        wants = nic_options(nic, identity.macs[index] if index < len(identity.macs) else nic.mac or "")
        if not all(_same_nic_option(name, has.get(name, ""), value) for name, value in wants.items()):
            merged = print_nic({**has, **wants})
            yield _Step(Change(nic.slot, have, merged, restart), value=merged)
    if spec.network:
        described = {nic.slot for nic in spec.network}
        for slot in sorted(vm.config):
            if slot.startswith("net") and slot[3:].isdecimal() and slot not in described:
                yield _Step(Change(slot, vm.config[slot], "", restart), delete=True)


def _same_nic_option(name: str, have: str, want: str) -> bool:
    if name == "trunks":
        return frozenset(split_list(have)) == frozenset(split_list(want))
    if name == "firewall" and not have:
        return parse_flag(want) is False
    return have.lower() == want.lower() or (name not in ("bridge", "macaddr") and _scalar(have) == _scalar(want))
