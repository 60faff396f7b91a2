"""Where a machine that changes its hypervisor would go, how it gets there, and what forbids it. It only looks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nixops_proxmox.errors import NotFound, PveRefused, SpecError, VmidTaken
from nixops_proxmox.kinds.machine.left import Left, find_left
from nixops_proxmox.kinds.machine.ports import Clock
from nixops_proxmox.model import Archive, Facts, Machine, Place, Power, Vm
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.shared_storages import backup_places, choose_common, common_storages
from nixops_proxmox.pve.vm.container import ROOT
from nixops_proxmox.pve.vm.held import HeldVolume
from nixops_proxmox.pve.wire.properties import print_properties
from nixops_proxmox.spec import InstallSpec, MachineSpec
from nixops_proxmox.spelling import Verb, command

SHOWN_WITHIN = 60.0  # seconds for a backup to show on the other side: file servers cache


@dataclass(frozen=True)
class Passage:
    """What a move would be. `source`, `target`: profiles. `storage`: where the backup goes, as the source calls it.
    `disks`: where they are restored to; empty: to storages of the same names. `size`: bytes of disks. `blocked`: all
    that forbids it. `left`: a move that was begun, and goes on. `word`: what it is, a VM or a container."""

    name: str
    source: str
    target: str
    storage: str = ""
    disks: str = ""
    size: int = 0
    runs: bool = False
    blocked: tuple[str, ...] = ()
    left: Left | None = None
    word: str = "VM"


@dataclass(frozen=True)
class Sides:
    """The two hypervisors, and the machine's description at the new one."""

    source: PveHypervisor
    target: PveHypervisor
    spec: MachineSpec
    to: str


def foresee(sides: Sides, machine: Machine, storage: str, volumes: Sequence[str]) -> Passage:
    """`storage`: where the user wants the backup. `volumes`: that the machine has attached."""
    facts, word = machine.facts, sides.source.kind.word
    if (left := find_left(facts)) is not None:
        return Passage(machine.name, facts.profile, sides.to, left=left, word=word)
    vm = sides.source.find_vm(facts)
    if vm is None:
        gone = f"{word} {facts.vmid} with its mark is gone"
        return Passage(machine.name, facts.profile, sides.to, blocked=(gone,), word=word)
    chosen = storage or _choose_storage(sides, vm)
    held = sides.source.kind.holds(vm.config)
    disks, missing = _mounts_to(sides, held) if sides.spec.is_container else _disks_to(sides, held)
    blocked = [*_unfit(sides, machine, vm, volumes), *missing, *_no_node(sides)]
    if not chosen:
        blocked.append(_no_storage(sides, vm))
    return Passage(
        machine.name,
        facts.profile,
        sides.to,
        storage=chosen,
        disks=disks,
        size=sum(one.size for one in held),
        runs=vm.power is Power.RUNNING,
        blocked=tuple(blocked),
        word=word,
    )


def refuse_blocked(passage: Passage) -> None:
    if passage.blocked:
        raise PveRefused(
            f"{passage.name}: it cannot move from {passage.source} to {passage.target}: {'; '.join(passage.blocked)}",
            hint="remove what forbids it; nothing was done",
        )


# What forbids it


def _unfit(sides: Sides, machine: Machine, vm: Vm, volumes: Sequence[str]) -> Iterator[str]:
    """What a backup does not hold, or what would be wrong afterwards."""
    if volumes or sides.spec.volumes:
        names = ", ".join(dict.fromkeys([*volumes, *sides.spec.volumes]))
        yield f"its volumes ({names}) stay where they are: park them and describe it without them first"
    if vm.protected:
        stands = f"{sides.source.kind.word} {vm.vmid} is protected, so it could not be destroyed in the end"
        yield f"{stands}: set `protection = false` and deploy"
    if snapshots := sides.source.client.list_snapshots(vm.node, vm.vmid):
        yield f"its snapshots ({', '.join(snapshots)}) would be lost: a backup has none of them"
    for one in sides.source.kind.holds(vm.config):
        if not one.saved and one.storage:
            yield f"{one.key} has `backup = false`, so a backup would leave it out"
        elif not one.saved:
            yield f"{one.key} is a folder or a device of {vm.node}, so a backup would leave it out"
    for key, value in sorted(vm.config.items()):
        if key.startswith("unused"):
            yield f"{value} is detached ({key}), and would be lost: a backup has it not"
    for bearer in sides.target.find_bearers(machine.deployment, machine.name, ()):
        there = f"{sides.target.kind.word} {bearer.vmid} on {sides.to}"
        yield f"{there} bears its mark: is that the same cluster under another name?"


def _choose_storage(sides: Sides, vm: Vm) -> str:
    common = _common(sides)
    return choose_common(
        common, backup_places(sides.source.resources(), vm.node), backup_places(sides.target.resources())
    )


def _common(sides: Sides) -> Mapping[str, str]:
    return common_storages(sides.source.client.get_storage_settings(), sides.target.client.get_storage_settings())


def _no_storage(sides: Sides, vm: Vm) -> str:
    here = sorted({one.storage for one in backup_places(sides.source.resources(), vm.node)})
    there = sorted({one.storage for one in backup_places(sides.target.resources())})
    return (
        "no storage takes backups on both sides: they need one network storage (NFS, CIFS, Proxmox Backup Server) that"
        f" both have configured (here: {', '.join(here) or 'none'}; there: {', '.join(there) or 'none'}); if one of"
        " them is the same under two addresses, name it with --storage"
    )


def _no_node(sides: Sides) -> Iterator[str]:
    fits, reasons = _fitting(sides)
    if not fits:
        yield f"there is no node for it on {sides.to}: {'; '.join(reasons)}"
    try:
        sides.target.refuse_unreachable(sides.spec)
    except SpecError as error:
        yield error.message


def _fitting(sides: Sides) -> tuple[list[str], list[str]]:
    """(nodes that it fits, the best first; why the others do not)"""
    spec = sides.spec.model_copy(update={"install": InstallSpec(), "vmid": None, "volumes": ()})
    judged = sides.target.explain_place(spec).nodes
    wrong = [f"{one.node}: {' and '.join(one.reasons)}" for one in judged if not one.fits]
    return [one.node for one in judged if one.fits], wrong


def _disks_to(sides: Sides, held: Sequence[HeldVolume]) -> tuple[str, tuple[str, ...]]:
    """(the storage for all disks, what forbids it). Where each is now, if the target has storages of those names; PVE
    restores to one storage otherwise, and a deploy moves disks that are described elsewhere."""
    had = {one.storage for one in held} - {""}
    have = _storages_there(sides)
    if not had - have:
        return "", ()
    described = [disk.storage for disk in sides.spec.disks if disk.storage in have]
    if described:
        return described[0], ()
    return "", (_lacks(sides, had - have),)


def _mounts_to(sides: Sides, held: Sequence[HeldVolume]) -> tuple[str, tuple[str, ...]]:
    """The same for a container, whose restore names each volume: each goes where it is described, for we do not move
    it to another storage afterwards."""
    inside = sides.spec.container
    described = (
        {} if inside is None else {ROOT: inside.root.storage, **{one.slot: one.storage for one in inside.mounts}}
    )
    there = {one.key: described.get(one.key, one.storage) for one in held if one.saved}
    missing = set(there.values()) - _storages_there(sides)
    if missing:
        return "", (_lacks(sides, missing),)
    moved = any(there.get(one.key, one.storage) != one.storage for one in held)
    return print_properties(there) if moved else "", ()


def _storages_there(sides: Sides) -> set[str]:
    content = sides.target.kind.content
    return {one.storage for one in sides.target.resources().storages if one.available and content in one.content}


def _lacks(sides: Sides, missing: Collection[str]) -> str:
    names = ", ".join(sorted(missing))
    return f"its disks are on {names}, which {sides.to} lacks: describe a storage that it has"


# How it gets there


def was_started(hypervisor: PveHypervisor, machine: Machine, since: int) -> bool:
    """The VM was started after that time (epoch), by whomever. PVE tells whole seconds, and nothing starts a VM in
    the second in which its backup begins."""
    vm = hypervisor.find_vm(machine.facts)
    return vm is not None and bool(hypervisor.list_changes(vm, since + 1, hypervisor.kind.starters))


def find_there(sides: Sides, machine: Machine, archive: Archive, clock: Clock) -> Archive:
    """The backup as the new hypervisor sees it, proven by the UUID in it. NotFound if it does not show."""
    name, deadline = archive.volume.partition(":")[2], clock.now() + SHOWN_WITHIN
    while True:
        shown = [one for one in sides.target.saves.archives(machine.facts) if one.volume.partition(":")[2] == name]
        for one in shown:
            config = sides.target.client.get_archive_config(one.node, one.volume)
            if sides.target.kind.uuid_of(config) == machine.facts.uuid.lower():
                return one
        if clock.now() >= deadline:
            raise NotFound(
                f"{machine.name}: its backup {archive.volume} does not show on {sides.to}"
                + (f": {shown[0].volume} there holds another machine" if shown else ""),
                hint="is that storage the same one there, and does it take backups on both sides? the machine stands"
                f" still where it was, and {command(Verb.START, machine.name)} starts it",
            )
        clock.sleep(2.0)


def choose_place(sides: Sides, facts: Facts, archive: Archive) -> Place:
    """The best node that can read the backup, and the VMID that it has, if that is free there."""
    fits, reasons = _fitting(sides)
    nodes = [node for node in fits if archive.shared or node == archive.node]
    if not nodes:
        raise PveRefused(f"{sides.spec.name}: there is no node for it on {sides.to}: {'; '.join(reasons)}")
    spec = sides.spec.model_copy(update={"install": InstallSpec(), "node": nodes[0], "volumes": ()})
    if spec.vmid is not None:
        return sides.target.choose_place(spec)
    try:
        return sides.target.choose_place(spec.model_copy(update={"vmid": facts.vmid}))
    except VmidTaken:
        return sides.target.choose_place(spec)


def placed(facts: Facts, sides: Sides, place: Place) -> Facts:
    return replace(facts, profile=sides.to, vmid=place.vmid, node=place.node, endpoint=None)
