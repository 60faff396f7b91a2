"""From a VM's active configuration to what a driver is told to start."""

import re
from collections.abc import Callable, Mapping

from nixops_proxmox.lab.config import (
    agent_enabled,
    cores_of,
    disk_keys,
    is_cdrom,
    is_nic,
    memory_of,
    parse_boot,
    parse_disk,
    parse_nic,
    uuid_of,
)
from nixops_proxmox.lab.container import Container, is_bound, mounts_of, parse_net
from nixops_proxmox.lab.machines.base import DiskSlot, Hardware, NicSlot, Volume
from nixops_proxmox.lab.release import Release
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.vm import Vm

FindVolume = Callable[[str], Volume]
Wire = Callable[[str, int], tuple[str, int]]  # bridge and tag, as configured and as they are


def hardware_of(vm: Vm, find: FindVolume, wire: Wire, release: Release) -> Hardware:
    """`find` gives a volid's volume, and raises when it is not there."""
    config = vm.config
    vga = properties.split(config.get("vga", "std"), "type").get("type", "std")
    return Hardware(
        vmid=vm.vmid,
        node=vm.node,
        name=vm.name,
        uuid=uuid_of(config),
        memory=memory_of(config),
        cores=int(config.get("cores", "1")) if "vcpus" not in config else cores_of(config),
        sockets=int(config.get("sockets", "1")),
        cpu=properties.split(config.get("cpu", "kvm64"), "cputype").get("cputype", "kvm64"),
        bios=config.get("bios", "seabios"),
        machine=machine_of(config),
        agent=agent_enabled(config),
        boot=tuple(parse_boot(config)),
        disks=tuple(_disk(key, config[key], find) for key in disk_keys(config)),
        nics=tuple(_nic(key, config[key], wire) for key in sorted(config, key=_natural) if is_nic(key)),
        serial=config.get("serial0") == "socket",
        vga=vga,
        names_drives=names_drives(machine_of(config), release),
        smbios=properties.split(config.get("smbios1", "")),
        directory=vm.directory,
    )


def machine_of(config: Mapping[str, str]) -> str:
    return properties.split(config.get("machine", "pc"), "type").get("type", "pc")


def names_drives(machine: str, release: Release) -> bool:
    """From the machine version 10.0 on, qemu-server gives a SCSI disk the `device_id` of its slot, whatever its serial.
    A machine without a version has that of the node's QEMU, which is 10 in PVE 9."""
    said = re.search(r"-([0-9]+)\.[0-9]+", machine)
    return int(said[1]) >= 10 if said else release.since(9)


def hardware_of_container(container: Container, find: FindVolume, wire: Wire) -> Hardware:
    """It boots from its root, on the host's kernel, and has no firmware, agent or serial port."""
    config = container.config
    mounts = {key: mount for key, mount in mounts_of(config).items() if not is_bound(mount)}
    return Hardware(
        vmid=container.vmid,
        node=container.node,
        name=container.name,
        uuid="",
        memory=memory_of(config),
        cores=int(config.get("cores", "1")),
        sockets=1,
        cpu="host",
        bios="",
        machine="",
        agent=False,
        boot=("rootfs",),
        disks=tuple(DiskSlot(key, find(mount["volume"]), options=mount) for key, mount in mounts.items()),
        nics=tuple(_veth(key, config[key], wire) for key in sorted(config, key=_natural) if is_nic(key)),
        directory=container.directory,
        container=True,
    )


def _veth(key: str, value: str, wire: Wire) -> NicSlot:
    net = parse_net(value)
    bridge, tag = wire(net.get("bridge", ""), int(net.get("tag", "0")))
    return NicSlot(key, "veth", net["hwaddr"].upper(), bridge, tag, net.get("link_down") == "1", net)


def _natural(key: str) -> tuple[str, int]:
    digits = "".join(char for char in key if char.isdigit())
    return key.rstrip("0123456789"), int(digits or 0)


def _disk(key: str, value: str, find: FindVolume) -> DiskSlot:
    disk = parse_disk(key, value)
    file = disk["file"]
    options = {name: text for name, text in disk.items() if name != "file"}
    volume = None if file in ("none", "cdrom") else find(file)
    return DiskSlot(key, volume, is_cdrom(disk), options)


def _nic(key: str, value: str, wire: Wire) -> NicSlot:
    nic = parse_nic(value)
    bridge, tag = wire(nic.get("bridge", ""), int(nic.get("tag", "0")))
    options = {
        name: text for name, text in nic.items() if name not in ("model", "macaddr", "bridge", "tag", "link_down")
    }
    return NicSlot(
        key,
        nic["model"],
        nic["macaddr"].upper(),
        bridge,
        tag,
        nic.get("link_down") == "1",
        options,
    )
