"""Disks, NICs and media that come and go while the machine runs."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nixops_proxmox.lab.bridges import Bridges
from nixops_proxmox.lab.machines.base import DiskSlot, Hardware, NicSlot, StartFailed, Volume
from nixops_proxmox.lab.machines.qemu import argv

if TYPE_CHECKING:
    from nixops_proxmox.lab.machines.qemu.machine import QemuMachine

UNPLUG_SECONDS = 10.0
MIRROR_SECONDS = 600.0
POLL = 0.1


async def change(machine: "QemuMachine", bridges: Bridges, old: Hardware, new: Hardware) -> None:
    """Make the machine as `new`, in the order: away, changed, added. Raises StartFailed at the first that cannot be."""
    before, after = {disk.key: disk for disk in old.disks}, {disk.key: disk for disk in new.disks}
    for key, disk in before.items():
        if key not in after or is_other_disk(disk, after[key]):
            await unplug_disk(machine, disk)
    for key, disk in after.items():
        if key not in before or is_other_disk(before[key], disk):
            await plug_disk(machine, disk, names_drives=old.names_drives)
        elif disk.cdrom and disk.volume != before[key].volume:
            await change_medium(machine, disk)
    nics_before, nics_after = {nic.key: nic for nic in old.nics}, {nic.key: nic for nic in new.nics}
    for key, nic in nics_before.items():
        if key not in nics_after or is_other_nic(nic, nics_after[key]):
            await unplug_nic(machine, bridges, nic)
    for key, nic in nics_after.items():
        if key not in nics_before or is_other_nic(nics_before[key], nic):
            await plug_nic(machine, bridges, nic)
        elif nic != nics_before[key]:
            await adjust_nic(machine, bridges, nics_before[key], nic)


def is_other_disk(old: DiskSlot, new: DiskSlot) -> bool:
    """Another disk in the slot, in contrast to another medium in the same CD-ROM drive or a new size."""
    if old.cdrom or new.cdrom:
        return old.cdrom != new.cdrom
    return (old.volume and old.volume.volid) != (new.volume and new.volume.volid)


def is_other_nic(old: NicSlot, new: NicSlot) -> bool:
    return (old.model, old.mac, bool(old.bridge)) != (new.model, new.mac, bool(new.bridge))


def check_pluggable(disk: DiskSlot) -> None:
    """PVE plugs scsi and virtio disks only."""
    if disk.cdrom or not (argv.has_bus(disk.key, "scsi") or argv.has_bus(disk.key, "virtio")):
        raise StartFailed(f"hotplug problem - skip: {disk.key} cannot be plugged while the machine runs")


async def plug_disk(machine: "QemuMachine", disk: DiskSlot, *, names_drives: bool) -> None:
    check_pluggable(disk)
    if disk.volume is None:
        raise StartFailed(f"hotplug problem - {disk.key} has no volume")
    await machine.monitor.type(f"drive_add 0 {argv.drive_options(disk, machine.medium(disk.volume.path))}")
    port = claim_port(machine, disk.key) if argv.has_bus(disk.key, "virtio") else None
    try:
        await add_device(machine, argv.device_options(disk, None, port, names_drives=names_drives))
    except StartFailed:
        machine.ports.pop(disk.key, None)
        await machine.monitor.type(f"drive_del drive-{disk.key}")
        raise


async def unplug_disk(machine: "QemuMachine", disk: DiskSlot) -> None:
    """The drive goes with its device; the guest has to let go of it first."""
    check_pluggable(disk)
    await remove_device(machine, disk.key)


async def mirror(machine: "QemuMachine", device: str, target: Volume) -> None:
    """QEMU copies while the guest writes, and switches over when both are the same, as PVE has it do."""
    job = f"mirror-{device}"
    what = {"device": device, "target": str(target.path), "format": "qcow2", "mode": "existing"}
    await machine.monitor.execute("drive-mirror", {**what, "sync": "full", "job-id": job})
    async with asyncio.timeout(MIRROR_SECONDS):
        while not (state := await _block_job(machine, job)).get("ready"):
            if not state:
                raise StartFailed(f"block job (mirror) error: {job} was cancelled")
            await asyncio.sleep(POLL)
        await machine.monitor.execute("block-job-complete", {"device": job})
        while await _block_job(machine, job):
            await asyncio.sleep(POLL)


async def _block_job(machine: "QemuMachine", job: str) -> Mapping[str, object]:
    """What QEMU tells of it; empty: it has ended. A job that ends before it was ready has failed."""
    jobs = await machine.monitor.execute("query-block-jobs")
    found: Mapping[str, object] = next((one for one in jobs if one["device"] == job), {})
    return found


async def change_medium(machine: "QemuMachine", disk: DiskSlot) -> None:
    if disk.volume is None:
        await machine.monitor.execute("eject", {"id": disk.key, "force": True})
        return
    medium = machine.medium(disk.volume.path)
    await machine.monitor.execute(
        "blockdev-change-medium",
        {"id": disk.key, "filename": str(medium.path), "format": medium.format, "force": True},
    )


async def plug_nic(machine: "QemuMachine", bridges: Bridges, nic: NicSlot) -> None:
    if not nic.bridge:
        return
    tap = await bridges.attach(machine.hardware.vmid, nic)
    await machine.monitor.execute(
        "netdev_add", {"type": "tap", "id": nic.key, "ifname": tap, "script": "no", "downscript": "no"}
    )
    try:
        await add_device(machine, argv.nic_options(nic, None, claim_port(machine, nic.key)))
    except StartFailed:
        machine.ports.pop(nic.key, None)
        await machine.monitor.execute("netdev_del", {"id": nic.key})
        await bridges.detach(tap)
        raise
    machine.taps[nic.key] = tap
    await set_link(machine, nic)


async def unplug_nic(machine: "QemuMachine", bridges: Bridges, nic: NicSlot) -> None:
    if nic.key not in machine.taps:
        return
    await remove_device(machine, nic.key)
    await machine.monitor.execute("netdev_del", {"id": nic.key})
    await bridges.detach(machine.taps.pop(nic.key))


async def adjust_nic(machine: "QemuMachine", bridges: Bridges, old: NicSlot, new: NicSlot) -> None:
    """Another bridge or tag is another segment for the same tap; a pulled cable is seen by the guest."""
    if (old.bridge, old.tag) != (new.bridge, new.tag) and new.key in machine.taps:
        await bridges.move(machine.taps[new.key], new.bridge, new.tag)
    if old.link_down != new.link_down:
        await set_link(machine, new)


async def set_link(machine: "QemuMachine", nic: NicSlot) -> None:
    await machine.monitor.execute("set_link", {"name": nic.key, "up": not nic.link_down})


def claim_port(machine: "QemuMachine", key: str) -> str | None:
    """A free root port of a q35; other machines plug into their root bus."""
    if not argv.is_q35(machine.hardware):
        return None
    for number in range(argv.HOTPLUG_PORTS):
        if f"hot{number}" not in machine.ports.values():
            machine.ports[key] = f"hot{number}"
            return machine.ports[key]
    raise StartFailed(f"hotplug problem - no free PCI slot for {key} until the machine is restarted")


async def add_device(machine: "QemuMachine", options: str) -> None:
    driver, *pairs = options.replace(",,", "\0").split(",")
    keys = dict(pair.replace("\0", ",").split("=", 1) for pair in pairs)
    await machine.monitor.execute("device_add", {"driver": driver, **keys})


async def remove_device(machine: "QemuMachine", key: str) -> None:
    await machine.monitor.execute("device_del", {"id": key})
    await machine.monitor.wait_until_deleted(key, UNPLUG_SECONDS)
    machine.ports.pop(key, None)
