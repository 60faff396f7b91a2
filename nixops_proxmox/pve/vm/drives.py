"""Pure: how a VM's drives differ from what is described. A volume that is not the machine's own is never changed, and
none is made where data is, or was, without permission."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import unquote

from nixops_proxmox.model import Change, Power, Vm
from nixops_proxmox.pve.vm.correction import Correction, as_scalar, hotplugged
from nixops_proxmox.pve.vm.identity import Identity, is_unfinished
from nixops_proxmox.pve.vm.requests import disk_options, extra, new_disk, new_efi_disk, new_tpm
from nixops_proxmox.pve.wire.properties import (
    GIB,
    MIB,
    drives_of,
    is_cdrom,
    is_cloud_init,
    is_disk_slot,
    parse_drive,
    parse_size,
    print_drive,
    print_size,
    set_aside,
    storage_of,
)
from nixops_proxmox.spec import Disk, MachineSpec
from nixops_proxmox.spec.serials import derived_serial, disk_serial
from nixops_proxmox.spec.volume import is_volume_serial
from nixops_proxmox.spelling import Verb, command

TPM = "tpmstate0"
NOT_LIVE = "PVE moves TPM state only while the VM is stopped"
SLACK = 64 * MIB  # storages round sizes up: LVM to 4 MiB extents, others to more
HOT_DISK_OPTIONS = frozenset({"backup"})
DISK_OPTION_DEFAULTS = {
    "backup": "1",
    "cache": "none",
    "discard": "ignore",
    "iothread": "0",
    "ssd": "0",
    "aio": "io_uring",
}
_NEW = re.compile(r"(?:([^:\s]+):)?([0-9]+(?:\.[0-9]+)?)")  # PVE's syntax for "make a volume"
_NO_OPTIONS = frozenset({"file", "format", "import-from", "media", "size"})  # of use when a drive is made, or never


def drive_steps(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    if spec.efi is not None:
        want = new_efi_disk(spec.efi)
        yield from _fixed_device(vm, "efidisk0", spec.efi.storage, want, {"efitype": "2m", "pre-enrolled-keys": "0"})
    if spec.tpm is not None:
        yield from _fixed_device(vm, TPM, spec.tpm.storage, new_tpm(spec.tpm), {"version": "v1.2"})
    for disk in spec.disks:
        yield from _disk_steps(vm, spec, disk, identity)
    for slot, wanted in extra(spec):
        if is_disk_slot(slot):
            yield from _extra_steps(vm, slot, str(wanted))
    yield from _removed_disks(vm, spec, identity)
    yield from _old_copies(vm, spec, identity)


def _new_device(vm: Vm, slot: str, want: str, *, allocates: bool = True) -> Iterator[Correction]:
    """Put back what the slot has until the VM stops. A new volume beside detached ones needs permission, because one of
    them may be the machine's own."""
    if slot in vm.active and slot not in vm.config:
        yield Correction(Change(slot, "", vm.active[slot]), value=vm.active[slot])
        return
    aside = set_aside(vm.config) if allocates else {}
    permission, remedy = "", ""
    if aside:
        held = " and ".join(f"{key} holds {volume}" for key, volume in aside.items())
        permission = (
            f"{held}, detached with all its data, and it may be this disk:"
            " we create no empty volume without your permission"
        )
        options = ",".join(part for part in want.split(",")[1:] if not part.startswith("import-from="))
        drive = f"{next(iter(aside.values()))}{',' if options else ''}{options}"
        remedy = (
            f"`qm set {vm.vmid} --{slot} {drive}` on {vm.node} attaches it again; "
            f"{command(Verb.DEPLOY, '--allow-recreate')} creates a new, empty one and leaves the old one detached"
        )
    yield Correction(
        Change(slot, "", want, restart=not _pluggable(vm, slot), permission=permission, remedy=remedy), value=want
    )


def _fixed_device(vm: Vm, key: str, storage: str, want: str, defaults: Mapping[str, str]) -> Iterator[Correction]:
    """A device that can be added and moved but whose nature cannot be changed later."""
    have = vm.config.get(key, "")
    if not have:
        yield from _new_device(vm, key, want)
        return
    has, wants = {**defaults, **parse_drive(have)}, parse_drive(want)
    if any(as_scalar(has[name]) != as_scalar(wants[name]) for name in defaults):
        why = "its content cannot be converted"
        yield Correction(Change(key, have, want, restart=True, forbidden=why))
    elif storage_of(has["file"]) != storage:
        yield _move(vm, key, have, storage)


def _disk_steps(vm: Vm, spec: MachineSpec, disk: Disk, identity: Identity) -> Iterator[Correction]:
    have = vm.config.get(disk.slot, "")
    if not have:
        yield from _new_device(vm, disk.slot, new_disk(spec, disk, identity))
        return
    drive = parse_drive(have)
    if is_cdrom(drive):
        yield _cd_in_the_way(disk.slot, have)
        return
    if strange := _stranger(vm, disk, identity):
        yield Correction(strange)
        return
    is_new_clone = "serial" not in drive and _is_clone(vm)  # nothing tells yet whose it is
    if storage_of(drive.get("file", "")) != disk.storage:
        move = _elsewhere if is_new_clone else _move
        yield move(vm, disk.slot, have, disk.storage)
        return
    yield from _size_steps(disk.slot, disk.size, drive)
    wanted = disk_options(disk, identity)
    if disk.serial is None and "serial" not in drive and not _is_clone(vm):
        del wanted["serial"]  # not made by us: its guest knows it by the name that it has without one
    yield from _option_steps(disk.slot, drive, have, wanted)


def strangers(vm: Vm, spec: MachineSpec, identity: Identity) -> tuple[Change, ...]:
    """The volumes in our disks' slots that are not the machine's own, as the VM runs now and as it will."""
    looks = (vm, replace(vm, config=vm.active)) if vm.active else (vm,)
    found = [_stranger(look, disk, identity) for disk in spec.disks for look in looks]
    return tuple(dict.fromkeys(strange for strange in found if strange))


def _stranger(vm: Vm, disk: Disk, identity: Identity) -> Change | None:
    """Our disks have serials. Those that the original plugin made have none, and are known by their volumes. A fresh
    clone's get theirs with the first write."""
    have = vm.config.get(disk.slot, "")
    drive = parse_drive(have)
    if not drive or is_cdrom(drive) or _is_clone(vm):
        return None
    serial, volume = unquote(drive.get("serial", "")), drive.get("file", "")
    moved = _was_moved(vm, disk, identity, volume)
    if serial in (disk_serial(identity.serial_base, disk), derived_serial(identity.serial_base, disk.slot)):
        return None
    if not serial and identity.nameless and (volume == identity.volumes.get(disk.slot, volume) or moved):
        return None
    has = f"the serial {serial}" if serial else "no serial"
    why = f"somebody put the volume {volume} there: it has {has}, and this machine's disk has one of its own"
    adopted = print_drive(drive | {"serial": disk_options(disk, identity)["serial"]})
    remedy = (
        f"put the machine's own volume back into {disk.slot}; if this one is to be its disk, and may be written, "
        f"`qm set {vm.vmid} --{disk.slot} {adopted}` on {vm.node} says so"
    )
    return Change(disk.slot, have, "its own disk", forbidden=why, remedy=remedy)


def _was_moved(vm: Vm, disk: Disk, identity: Identity, volume: str) -> bool:
    """We asked PVE to move the disk, which has no serial: the volume that we know is detached, and the VM has another
    one of its own on the storage that it was to go to."""
    old = identity.volumes.get(disk.slot, "")
    asked = identity.copies.get(old) == disk.slot and old in set_aside(vm.config).values()
    return asked and storage_of(volume) == disk.storage and _owns(vm, volume)


def _is_clone(vm: Vm) -> bool:
    return is_unfinished(vm.config.get("description", ""))


def _cd_in_the_way(slot: str, have: str) -> Correction:
    return Correction(Change(slot, have, "a disk", forbidden="a CD drive is in its slot: choose another"))


def _elsewhere(vm: Vm, slot: str, have: str, storage: str) -> Correction:
    why = f"move it in PVE first (qm disk move {vm.vmid} {slot} {storage})"
    return Correction(Change(slot, have, f"on {storage}", forbidden=why))


def _move(vm: Vm, slot: str, have: str, storage: str) -> Correction:
    """To another storage, live, but for TPM state. What else differs is changed afterwards, because it names the
    volume."""
    volume = parse_drive(have).get("file", "")
    why, remedy = "", ""
    if slot in vm.pending:
        why = "a change of it waits for a restart, which would bring its old volume back"
        remedy = f"{command(Verb.REBOOT)} restarts the machine first"
    elif "parent" in vm.config:
        why, remedy = "the machine has snapshots, which need its old volume", "delete the snapshots first"
    elif vm.protected:
        why, remedy = "PVE deletes no old copy of a protected VM", "set `protection = false` first"
    has, wants = f"on {storage_of(volume)}", f"on {storage} (qm disk move)"
    if slot == TPM and vm.power is Power.RUNNING and not why:
        return Correction(Change(slot, has, wants, waiting=True, stops=True, reason=NOT_LIVE))
    return Correction(Change(slot, has, wants, forbidden=why, remedy=remedy, leaves=volume), move=storage)


def needs_stop(vm: Vm, spec: MachineSpec) -> tuple[str, ...]:
    """The keys of a running VM whose changes PVE makes only while it is stopped."""
    state = parse_drive(vm.config.get(TPM, "")).get("file", "")
    moves = spec.tpm is not None and state and storage_of(state) != spec.tpm.storage and TPM not in spec.ignore
    return (TPM,) if moves and vm.power is Power.RUNNING else ()


def _old_copies(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    """What disks that we moved left behind: deleted when they are where they are to be."""
    storages = {disk.slot: disk.storage for disk in spec.disks}
    storages |= {"efidisk0": spec.efi.storage} if spec.efi is not None else {}
    storages |= {TPM: spec.tpm.storage} if spec.tpm is not None else {}
    for key, volume in set_aside(vm.config).items():
        slot = identity.copies.get(volume, "")
        drive = parse_drive(vm.config.get(slot, ""))
        moved = storage_of(drive.get("file", "")) == storages.get(slot) and drive.get("file") != volume
        known = "serial" in drive or _owns(vm, drive.get("file", ""))  # PVE's log must prove it, too: see disk_moves.py
        if slot and moved and slot not in vm.pending and known:
            yield Correction(Change(key, f"{volume}, the old copy of {slot}", ""), drop=volume)


def _size_steps(slot: str, wanted: int, drive: Mapping[str, str]) -> Iterator[Correction]:
    size = parse_size(drive.get("size", ""))
    if size is None or size - SLACK <= wanted <= size:
        return
    have, want = print_size(size), print_size(-(-wanted // 1024) * 1024)
    if wanted < size:
        yield Correction(Change(slot, have, want, forbidden="PVE cannot shrink a disk"))
    else:
        yield Correction(Change(slot, have, want, outgrows=size), size=want)


def _option_steps(slot: str, drive: Mapping[str, str], have: str, wanted: Mapping[str, str]) -> Iterator[Correction]:
    differing = {
        name: value
        for name, value in wanted.items()
        if as_scalar(drive.get(name, DISK_OPTION_DEFAULTS.get(name, ""))) != as_scalar(value)
    }
    if differing:
        want = print_drive({**drive, **differing})  # starts from what PVE has: its volume, never an allocation
        yield Correction(Change(slot, have, want, restart=not differing.keys() <= HOT_DISK_OPTIONS), value=want)


def _extra_steps(vm: Vm, slot: str, want: str) -> Iterator[Correction]:
    """A drive as PVE spells it. Words that make a volume are of use once. Afterwards, the drive says what is there."""
    wants, have = _parse_wanted(want), vm.config.get(slot, "")
    new = _NEW.fullmatch(wants["file"])
    if not have:
        if not (is_cloud_init(wants) and _has_cloud_init_drive(vm)):
            yield from _new_device(vm, slot, want, allocates=new is not None)
    elif new is not None:
        yield from _made_steps(vm, slot, have, wants, new[1] or "", float(new[2]))
    elif not _is_same_medium(parse_drive(have), wants):
        yield _exchange(slot, have, want)
    elif not is_cloud_init(wants):
        yield from _option_steps(slot, parse_drive(have), have, _options(wants))


def _has_cloud_init_drive(vm: Vm) -> bool:
    """In any slot: a clone brings the template's, and PVE lets a VM have one."""
    return any(is_cloud_init(drive) for drive in drives_of(vm.config).values())


def _parse_wanted(want: str) -> dict[str, str]:
    wants = parse_drive(want)
    return {"file": wants.pop("volume", ""), **wants}  # an alias of PVE's


def _made_steps(
    vm: Vm, slot: str, have: str, wants: Mapping[str, str], storage: str, size: float
) -> Iterator[Correction]:
    """A volume that the description has asked for."""
    drive = parse_drive(have)
    if is_cdrom(drive):
        yield _cd_in_the_way(slot, have)
    elif storage and storage_of(drive.get("file", "")) != storage:
        yield _elsewhere(vm, slot, have, storage)
    else:
        if size:
            yield from _size_steps(slot, int(size * GIB), drive)
        yield from _option_steps(slot, drive, have, _options(wants))


def _is_same_medium(has: Mapping[str, str], wants: Mapping[str, str]) -> bool:
    if is_cloud_init(wants) and is_cloud_init(has):
        return storage_of(has["file"]) == storage_of(wants["file"])
    return has.get("file") == wants["file"]


def _exchange(slot: str, have: str, want: str) -> Correction:
    """One CD for another. A disk gives way to nothing."""
    if not is_cdrom(parse_drive(have)):
        return Correction(
            Change(slot, have, want, forbidden="a disk is in its slot and would be detached: detach it yourself first")
        )
    return Correction(Change(slot, have, want, restart=not is_cdrom(parse_drive(want))), value=want)


def _options(wants: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in wants.items() if name not in _NO_OPTIONS}


def _removed_disks(vm: Vm, spec: MachineSpec, identity: Identity) -> Iterator[Correction]:
    """Detach disks that we made, as their serial says, and that the description no longer has. Their volumes stay. A
    disk that somebody added by hand stays."""
    described = {*(disk.slot for disk in spec.disks), *spec.extra}
    for slot, drive in sorted(drives_of(vm.config).items()):
        if slot not in described and drive.get("serial") == derived_serial(identity.serial_base, slot):
            yield Correction(Change(slot, vm.config[slot], "", restart=not _pluggable(vm, slot)), delete=True)


def _pluggable(vm: Vm, slot: str) -> bool:
    return "disk" in hotplugged(vm) and slot.startswith(("scsi", "virtio"))


def losses(vm: Vm, identity: Identity) -> tuple[str, ...]:
    """What goes with the VM beside the disks that we made: a line each. PVE keeps what another guest owns."""
    added = {
        slot: drive.get("file", "")
        for slot, drive in sorted(drives_of(vm.config).items())
        if not is_cdrom(drive)
        and drive.get("serial") != derived_serial(identity.serial_base, slot)
        and not is_volume_serial(drive.get("serial", ""))  # a volume is parked before
    }
    lines = [
        f"{key}: {volume}, detached, with its data" for key, volume in set_aside(vm.config).items() if _owns(vm, volume)
    ]
    return (*lines, *(f"{slot}: {volume}" for slot, volume in added.items() if _owns(vm, volume)))


def spared(vm: Vm) -> tuple[str, ...]:
    """What PVE keeps when the VM is destroyed, because it is not the VM's own: a line each."""
    volumes = {**volumes_of(vm.config), **set_aside(vm.config)}
    return tuple(f"{slot}: {volume}" for slot, volume in volumes.items() if volume and not _owns(vm, volume))


def _owns(vm: Vm, volume: str) -> bool:
    return re.search(rf"[:/](vm|base)-{vm.vmid}-", volume) is not None


def volumes_of(config: Mapping[str, str]) -> dict[str, str]:
    """The disks' volumes by slot."""
    return {slot: drive.get("file", "") for slot, drive in sorted(drives_of(config).items()) if not is_cdrom(drive)}
