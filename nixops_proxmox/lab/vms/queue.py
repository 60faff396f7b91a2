"""What a call asks for becomes pending, key by key, in no particular order: PVE walks a Perl hash.

Each key is written before the next one is looked at, so a call that fails half-way leaves what came before it pending.
"""

from typing import TYPE_CHECKING

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import is_cdrom, is_disk, is_nic, normalise_tags, parse_boot, parse_disk, volume_of
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm
from nixops_proxmox.lab.vms.create import with_mac
from nixops_proxmox.lab.vms.disks import Made, make_disks
from nixops_proxmox.lab.vms.pending import add_unused, forget_unused

if TYPE_CHECKING:
    from nixops_proxmox.lab.vms.change import Change


async def queue(cluster: Cluster, vm: Vm, change: "Change", log: Log) -> set[str]:
    """Make everything pending; the keys that were touched, also those that PVE derived (boot)."""
    order = parse_boot(vm.config) if "order=" in vm.config.get("boot", "") else []  # the active one, not the pending
    touched = set(change.deleted) | set(change.values)
    for key in change.deleted:
        _delete(vm, key, order, touched, force=change.force)
    keys = list(change.values)
    cluster.dice.shuffle(keys)
    for key in keys:
        if vm.pending.get(key) == change.values[key]:
            continue
        await _set(cluster, vm, key, change, order, touched, log)
    for key in [key for key, value in vm.pending.items() if vm.config.get(key) == value]:
        del vm.pending[key]  # back to what is active: nothing to do
    return touched


def _delete(vm: Vm, key: str, order: list[str], touched: set[str], *, force: bool) -> None:
    if key not in vm.config and key not in vm.pending:
        touched.discard(key)
        return
    waiting = vm.pending.pop(key, None)
    if key in order:
        order.remove(key)
        _derive_boot(vm, order, touched)
    if is_disk(key) and waiting is not None:
        _set_aside(vm, key, waiting)
    if key in vm.config:
        vm.deleted[key] = force


async def _set(
    cluster: Cluster, vm: Vm, key: str, change: "Change", order: list[str], touched: set[str], log: Log
) -> None:
    value = change.values[key]
    if is_disk(key):
        value = await _made(cluster, vm, key, value, log)
    elif is_nic(key):
        value = with_mac(cluster, value)
    elif key == "tags":
        value = normalise_tags(value) or " "
    elif key == "boot":
        _check_boot(vm, change)
    vm.deleted.pop(key, None)
    vm.pending[key] = value
    if is_disk(key):
        forget_unused(vm, volume_of(value))
    if is_disk(key) and order and is_cdrom(parse_disk(key, value)) and "cloudinit" not in value and key not in order:
        order.append(key)
        _derive_boot(vm, order, touched)


async def _made(cluster: Cluster, vm: Vm, key: str, value: str, log: Log) -> str:
    if key in vm.pending:
        _set_aside(vm, key, vm.pending[key])
    made = Made()
    try:
        await make_disks(cluster, vm.node, vm.vmid, {key: value}, made, log)
    except Refused:
        await made.undo(cluster)
        raise
    return made.values[key]


def _derive_boot(vm: Vm, order: list[str], touched: set[str]) -> None:
    vm.pending["boot"] = f"order={';'.join(order)}" if order else " "
    touched.add("boot")


def _set_aside(vm: Vm, key: str, value: str) -> None:
    """A volume that was made for a change which never came to be keeps its data, as unused."""
    if volume_of(value) and not is_cdrom(parse_disk(key, value)):
        add_unused(vm, volume_of(value))


def _check_boot(vm: Vm, change: "Change") -> None:
    if "order=" not in change.values["boot"]:
        return
    there = {**vm.merged(), **change.values}
    for device in parse_boot(change.values):
        if device not in there or device in change.deleted:
            die(f"invalid bootorder: device '{device}' does not exist'")
