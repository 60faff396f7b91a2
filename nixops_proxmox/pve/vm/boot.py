"""Pure: what a VM boots, and the calls that make it boot its installer and its disk again."""

from collections.abc import Collection, Iterator, Mapping

from nixops_proxmox.errors import SpecError
from nixops_proxmox.model import Vm
from nixops_proxmox.pve.vm.requests import CDROM, EMPTY_TRAY, has_installer, inserted
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import (
    DISK_BUSES,
    has_medium,
    is_cdrom,
    is_cloud_init,
    is_disk_slot,
    parse_drive,
    parse_properties,
)
from nixops_proxmox.spec import InstallSource, MachineSpec

SPARE_ON_Q35 = (CDROM, "ide0", *(f"sata{number}" for number in range(5, -1, -1)))  # an ide1 would share ide0's port
SPARE = (CDROM, "ide0", "ide1", "ide3", *SPARE_ON_Q35[2:])
BESIDE_DISKS = ("scsi30", "scsi29", "scsi28")  # the last ones: disks are given the first


def boot_devices(config: Mapping[str, str]) -> tuple[str, ...]:
    """In the order of booting; understands the legacy letters (c: disk, d: CD, n: network)."""
    boot = parse_properties(config.get("boot", ""), "legacy")
    if boot.get("order"):
        return tuple(device for device in boot["order"].split(";") if device)
    drives = [slot for bus in DISK_BUSES for slot in sorted(config) if is_disk_slot(slot) and slot.startswith(bus)]
    disks = [slot for slot in drives if not is_cdrom(parse_drive(config[slot]))]
    cds = [slot for slot in drives if slot not in disks]
    if config.get("bootdisk") in disks:
        disks = [config["bootdisk"]]
    by_letter = {"c": disks, "d": cds}
    return tuple(device for letter in boot.get("legacy", "cdn") for device in by_letter.get(letter, []))


def boots_cd(config: Mapping[str, str]) -> bool:
    """Does a CD with a medium come before any disk?"""
    for device in boot_devices(config):
        if _is_bootable(config, device):
            return True
        if _is_disk(config, device):
            return False
    return False


def _is_bootable(config: Mapping[str, str], device: str) -> bool:
    """A CD with a medium; firmware finds nothing to boot on a cloud-init drive."""
    drive = parse_drive(config.get(device, ""))
    return has_medium(drive) and not is_cloud_init(drive)


def _is_disk(config: Mapping[str, str], device: str) -> bool:
    drive = parse_drive(config.get(device, ""))
    return is_disk_slot(device) and bool(drive) and not is_cdrom(drive)


def booted_cd(active: Mapping[str, str], config: Mapping[str, str]) -> bool:
    """Did a CD boot the VM that runs with `active`? The medium leaves the running VM at once, and the order only at
    the next start: a CD drive that was first, and will not be, has booted it, unless another CD comes next. What PVE
    itself adds to a pending order or takes from it (a new CD drive, a detached disk) leaves the first device as it
    is."""
    was_first, is_first = next(iter(boot_devices(active)), ""), next(iter(boot_devices(config)), "")
    left = was_first != is_first and is_cdrom(parse_drive(active.get(was_first, ""))) and not boots_cd(config)
    return boots_cd(active) or left


Calls = tuple[dict[str, Value], dict[str, Value]]
"""Two config calls: the drive, and then what to boot; an empty one is not made."""


def enter_calls(vm: Vm, spec: MachineSpec) -> Calls:
    """Put the ISO into a free slot, before everything that the VM boots now."""
    if not has_installer(spec):
        raise SpecError("no installer is set", path=f"{spec.name}.deployment.proxmox.install.iso")
    slot = find_slot(vm, spec)
    rest = [device for device in boot_devices(vm.config) if device != slot]
    return {slot: inserted(spec)}, {"boot": _order([slot, *rest])}


def find_slot(vm: Vm, spec: MachineSpec) -> str:
    """Where the installer goes: where it is already, or into the tray that we made, or into the first empty slot. The
    boot order tells what was there before, so a slot that it names is taken."""
    free = _spare_slots(vm, spec)
    there = [slot for slot in free if _holds_iso(vm, spec, slot)]
    order = {*boot_devices(vm.config), *boot_devices(vm.active)} if "order=" in vm.config.get("boot", "") else set()
    for slot in (*there, *(slot for slot in free if slot not in order and _is_free(vm, spec, slot))):
        return slot
    raise SpecError(
        f"VM {vm.vmid} has no free slot for the installer's CD ({', '.join(free)})",
        path=f"{spec.name}.deployment.proxmox.install.iso",
        hint="remove a drive from one of them",
    )


def find_free_slot(vm: Vm, spec: MachineSpec, besides: Collection[str] = ()) -> str:
    """An empty slot for a CD that nothing boots. `besides`: slots that have just become empty. The CD lies where the
    disks do, if it can: a kernel that is made for clouds may have no driver but theirs, as Debian's on a q35."""
    for slot in (*_beside_disks(vm, spec), *_spare_slots(vm, spec)):
        if slot in besides or _is_free(vm, spec, slot):
            return slot
    raise SpecError(
        f"VM {vm.vmid} has no free slot for a CD",
        path=f"{spec.name}.deployment.proxmox.install.identity",
        hint="remove a drive from one of the IDE or SATA slots",
    )


def _beside_disks(vm: Vm, spec: MachineSpec) -> list[str]:
    if not vm.config.get("scsihw", "").startswith("virtio-scsi"):
        return []
    if not any(slot.startswith("scsi") and _is_disk(vm.config, slot) for slot in vm.config):
        return []
    return [slot for slot in BESIDE_DISKS if slot not in spec.extra and slot not in {disk.slot for disk in spec.disks}]


def _spare_slots(vm: Vm, spec: MachineSpec) -> list[str]:
    taken = {*spec.extra, *(disk.slot for disk in spec.disks)}
    q35 = "q35" in vm.config.get("machine", "")
    return [slot for slot in (SPARE_ON_Q35 if q35 else SPARE) if slot not in taken]


def _is_free(vm: Vm, spec: MachineSpec, slot: str) -> bool:
    if slot in vm.active and slot not in vm.config:
        return False  # it leaves at the next stop
    return slot not in vm.config or (_is_our_tray(spec, slot) and parse_drive(vm.config[slot]).get("file") == "none")


def _is_our_tray(spec: MachineSpec, slot: str) -> bool:
    """A VM that is installed from an ISO has an empty tray ever after."""
    return slot == CDROM and spec.install.source is InstallSource.ISO


def leave_calls(vm: Vm, spec: MachineSpec) -> Calls:
    """Take the CDs that come before the disk out of the order, so that it is what it was before. Our drive is emptied
    or removed, and somebody else's stays where it is."""
    order = boot_devices(vm.config)
    first = next((number for number, device in enumerate(order) if _is_disk(vm.config, device)), len(order))
    out = [device for device in order[:first] if _is_bootable(vm.config, device)]
    rest = [device for device in order if device not in out]
    if spec.disks and not any(_is_disk(vm.config, device) for device in rest):
        rest.append(spec.disks[0].slot)
    drives: dict[str, Value] = {}
    leaving = []
    for slot in dict.fromkeys([*out, *_holding_iso(vm, spec)]):
        if _is_our_tray(spec, slot):
            drives[slot] = EMPTY_TRAY
        elif _holds_iso(vm, spec, slot):
            leaving.append(slot)
    if leaving:
        drives["delete"] = ",".join(leaving)
    return drives, {"boot": _order(rest)} if rest else {}


def _holding_iso(vm: Vm, spec: MachineSpec) -> Iterator[str]:
    """Also what a run left that was cut off between the two calls."""
    yield from (slot for slot in SPARE if slot not in spec.extra and _holds_iso(vm, spec, slot))


def _holds_iso(vm: Vm, spec: MachineSpec, slot: str) -> bool:
    return has_installer(spec) and parse_drive(vm.config.get(slot, "")).get("file") == spec.install.iso


def _order(devices: list[str]) -> str:
    return "order=" + ";".join(devices)
