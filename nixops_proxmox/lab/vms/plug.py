"""Pending changes of a running VM that can be made real at once; what cannot be stays pending, with the reason."""

import re

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import agent_enabled, is_cdrom, is_disk, is_nic, parse_disk, parse_nic, volume_of
from nixops_proxmox.lab.machines.base import StartFailed
from nixops_proxmox.lab.refusals import Refused
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.pending import apply_pending
from nixops_proxmox.lab.vms.power import hardware, has_bridge

# What takes effect on a running VM without anybody doing anything.
AT_ONCE = re.compile(
    r"name|description|onboot|autostart|tags|protection|startup|hookscript|shares|vmstatestorage|lock|template|migrate_\w+|"
    r"ciuser|cipassword|sshkeys|ipconfig\d+|nameserver|searchdomain|citype|cicustom|ciupgrade|unused\d+|bootdisk"
)
LIVE = re.compile(r"cpulimit|cpuunits|balloon")  # done by telling the host
COLD_DISK_OPTIONS = ("aio", "discard", "iothread", "queues", "product", "cache", "ssd", "vendor", "ro")
REPLUGGED_NIC_OPTIONS = ("model", "macaddr", "queues", "mtu")


async def plug(cluster: Cluster, vm: Vm, touched: set[str]) -> dict[str, str]:
    """The harmless keys first, from any call; then, of those that this call touched, deletions by name and
    the rest in any order. What hotplug may do is what was active when the call came."""
    features = _features(vm)
    await _apply(cluster, vm, {key for key in [*vm.pending, *vm.deleted] if AT_ONCE.fullmatch(key)})
    values = [key for key in vm.pending if key in touched]
    cluster.dice.shuffle(values)
    problems: dict[str, str] = {}
    for key in [*sorted(key for key in vm.deleted if key in touched), *values]:
        if not _is_hot(vm, key, features):
            continue
        try:
            await _plug_one(cluster, vm, key)
        except (StartFailed, Refused) as error:
            problems[key] = f"hotplug problem - {str(error).removeprefix('hotplug problem - ')}\n"
    return problems


async def _apply(cluster: Cluster, vm: Vm, keys: set[str]) -> None:
    await apply_pending(cluster, vm, keys)
    for key in keys:
        if key in vm.config:
            vm.started[key] = vm.config[key]
        else:
            vm.started.pop(key, None)


async def _plug_one(cluster: Cluster, vm: Vm, key: str) -> None:
    _check_bridge(cluster, vm, key)
    before = hardware(cluster, vm)
    saved = dict(vm.config), dict(vm.pending), dict(vm.deleted), dict(vm.started)
    try:
        await _apply(cluster, vm, {key})
        if vm.running is not None and (is_disk(key) or is_nic(key) or key == "memory"):
            await vm.running.change(before, hardware(cluster, vm))
    except (StartFailed, Refused):
        vm.config, vm.pending, vm.deleted, vm.started = saved
        raise


def _check_bridge(cluster: Cluster, vm: Vm, key: str) -> None:
    if not is_nic(key) or key in vm.deleted:
        return
    bridge = parse_nic(vm.pending[key]).get("bridge")
    if bridge and not has_bridge(cluster, vm.node, bridge):
        raise StartFailed(
            f"VM {vm.vmid} qmp command 'netdev_add' failed - network script "
            "/var/lib/qemu-server/pve-bridge-hotplug failed with status 512"
        )


def _features(vm: Vm) -> frozenset[str]:
    text = vm.config.get("hotplug", "1")
    return frozenset({"1": "network,disk,usb", "0": ""}.get(text, text).split(","))


def _is_hot(vm: Vm, key: str, features: frozenset[str]) -> bool:
    if key == "balloon":  # whether there is such a device needs a start
        return (vm.config.get(key, "1") == "0") == (vm.pending.get(key, "1") == "0")
    if LIVE.fullmatch(key):
        return True
    if key == "hotplug":
        return not re.search("cpu|memory", vm.config.get(key, "") + vm.pending.get(key, ""))
    if key == "agent":  # its other settings; whether the device is there needs a new start
        return key in vm.pending and agent_enabled({"agent": vm.pending[key]}) == agent_enabled(vm.config)
    if key == "memory":  # DIMMs are plugged into NUMA nodes
        return "memory" in features and vm.config.get("numa", "0") == "1"
    if is_disk(key):
        return _is_hot_disk(vm, key, plugs="disk" in features)
    if is_nic(key):
        return "network" in features or not _is_replugged(vm, key)
    return (key.startswith("usb") and "usb" in features) or (key == "vcpus" and "cpu" in features)


def _is_hot_disk(vm: Vm, key: str, *, plugs: bool) -> bool:
    """A medium, and what can be told to a drive, change at any bus; only scsi and virtio disks come and go."""
    pluggable = plugs and re.fullmatch(r"(scsi|virtio)\d+", key) is not None
    if key not in vm.pending or key not in vm.config:
        return pluggable
    old, new = parse_disk(key, vm.config[key]), parse_disk(key, vm.pending[key])
    if key in ("efidisk0", "tpmstate0") or "cloudinit" in volume_of(vm.pending[key]):
        return False
    if is_cdrom(old) or is_cdrom(new):
        return is_cdrom(old) and is_cdrom(new)
    if volume_of(vm.config[key]) != volume_of(vm.pending[key]):
        return pluggable
    return all(old.get(option) == new.get(option) for option in COLD_DISK_OPTIONS)


def _is_replugged(vm: Vm, key: str) -> bool:
    """Another card, in contrast to the same one in another bridge."""
    if key not in vm.pending or key not in vm.config:
        return True
    old, new = parse_nic(vm.config[key]), parse_nic(vm.pending[key])
    return any(old.get(option) != new.get(option) for option in REPLUGGED_NIC_OPTIONS)
