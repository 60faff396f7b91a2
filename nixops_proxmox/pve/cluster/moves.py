"""Our VMs taken to other nodes: what that would be, what forbids it, and doing it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.core.upid import parse_upid
from nixops_proxmox.errors import NotFound, PveBusy, PveRefused
from nixops_proxmox.model import Facts, Place, Power, Transfer, Vm
from nixops_proxmox.pve.api.answers import ClusterResources, GuestSeen, MigrationSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.ha import HA_ERROR, in_ha_error
from nixops_proxmox.pve.cluster.placement import find_storage
from nixops_proxmox.pve.cluster.placer import Placer
from nixops_proxmox.pve.cluster.restrictions import Limits
from nixops_proxmox.pve.cluster.view import ClusterView
from nixops_proxmox.pve.cluster.vm_finder import VmFinder
from nixops_proxmox.pve.cluster.work import Work
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import GIB, storage_of
from nixops_proxmox.spec import InstallSpec, MachineSpec

HA_TIME = 300.0  # seconds for HA to move what it said it would


@dataclass(frozen=True)
class MigrationLook:
    """What is known of one VM before it is moved."""

    vm: Vm
    seen: ClusterResources
    told: MigrationSeen
    snapshots: tuple[str, ...]


class Moves:
    """Satisfies `kinds.machine.ports.Moves`, for all threads of one cluster."""

    task, word = "qmigrate", "VM"

    def __init__(
        self,
        client: PveClient,
        view: ClusterView,
        finder: VmFinder,
        work: Work,
        placer: Placer,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._client, self._view, self._finder, self._work, self._placer = client, view, finder, work, placer
        self._clock, self._sleep = clock, sleep

    def foresee(self, facts: Facts, spec: MachineSpec, target: str) -> Transfer:
        """Only looks. `target` empty: the best node that nothing forbids. NotFound without a VM of ours; PveRefused if
        no node is left."""
        self._finder.drop_look(facts.vmid)
        vm = self._finder.find_again(facts)
        if vm is None:
            raise NotFound(f"{spec.name}: {self.word} {facts.vmid} with our mark ({facts.uuid}) is not on the cluster")
        look = self._look(vm)
        if target:
            return self._migration(look, target)
        found = [self._migration(look, node) for node in self._ordered(spec, look)]
        fitting = next((one for one in found if not one.blocked), None)
        if fitting is None:
            why = "; ".join(f"{one.target}: {' and '.join(one.blocked)}" for one in found)
            raise PveRefused(
                f"{spec.name}: there is no node that it can migrate to: {why or 'there is no other that fits'}",
                hint="name one with --to to see what forbids it there",
            )
        return fitting

    def _look(self, vm: Vm) -> MigrationLook:
        seen = self._placer.look_again()
        told = self._client.get_migration(vm.node, vm.vmid)
        copied = any(not one.cdrom for one in told.disks)
        snapshots = self._client.list_snapshots(vm.node, vm.vmid) if copied and told.running else ()
        return MigrationLook(vm, seen, told, snapshots)

    def _ordered(self, spec: MachineSpec, look: MigrationLook) -> list[str]:
        """The other nodes where the machine fits, the best first."""
        config = look.vm.config
        moved = spec.model_copy(
            update={"install": InstallSpec(), "memory": spec.memory or _memory(config) >> 20 or None}
        )
        judged = self._placer.explain(moved, Place(look.vm.node, look.vm.vmid)).nodes
        return [one.node for one in judged if one.fits and one.node != look.vm.node]

    def _migration(self, look: MigrationLook, target: str) -> Transfer:
        copied = tuple(one.volid for one in look.told.disks if not one.cdrom)
        return Transfer(
            source=look.vm.node,
            target=target,
            live=look.vm.power is Power.RUNNING,
            copied=copied,
            size=sum(one.size for one in look.told.disks if not one.cdrom),
            blocked=(*_blocked(look, target), *self._restricted(look, target)) if target != look.vm.node else (),
            told=(*_told(look, target), *self._limits(look).wishes.get(target, ())),
        )

    def _restricted(self, look: MigrationLook, target: str) -> Iterator[str]:
        """By what PVE has not told itself: of a VM that runs, older releases say nothing of other nodes."""
        if target in look.told.refused:
            return
        yield from self._placer.restrictions.of_devices(look.vm.config, target)
        yield from self._limits(look).reasons.get(target, ())

    def _limits(self, look: MigrationLook) -> Limits:
        return self._placer.restrictions.of_ha(look.seen.guests.get(look.vm.vmid), look.seen)

    def migrate(self, facts: Facts, migration: Transfer, note: NoteTask) -> None:
        """Migrate it, and wait until it is there. HA migrates what it manages, in its own time."""
        node, target = self._finder.node_of(facts), migration.target
        running = self._finder.live_power(node, facts.vmid) is Power.RUNNING
        params = self._params(migration, running=running)
        upids: list[str] = []

        def noted(upid: str) -> None:
            upids.append(upid)
            note(upid)

        try:
            post = partial(self._client.migrate_vm, node, facts.vmid, target, params)
            doing = f"{self.word} {facts.vmid}: migrating from {node} to {target}"
            self._work.run(self.task, node, facts.vmid, post, noted, doing)
        finally:
            self._finder.forget(facts.vmid)
        if upids and parse_upid(upids[-1]).type.startswith("ha"):
            self._wait_for_ha(facts, target, ran=running)

    def _params(self, migration: Transfer, *, running: bool) -> dict[str, Value]:
        params: dict[str, Value] = {"online": True} if running else {}
        return params | ({"with-local-disks": True} if running and migration.copied else {})

    def _has_arrived(self, guest: GuestSeen, *, ran: bool) -> bool:
        """It is on its new node: is that all? `ran`: it did before."""
        del ran  # and has never ceased to: it went live
        return not guest.lock

    def _wait_for_ha(self, facts: Facts, target: str, *, ran: bool) -> None:
        deadline = self._clock() + HA_TIME
        while self._clock() < deadline:
            guest = self._view.get_since(self._clock()).guests.get(facts.vmid)
            if guest is not None and guest.ha == HA_ERROR:
                raise in_ha_error(f"{self.word} {facts.vmid}")
            if guest is not None and guest.node == target and self._has_arrived(guest, ran=ran):
                self._finder.forget(facts.vmid)
                return
            self._sleep(2.0)
        raise PveBusy(
            f"{self.word} {facts.vmid}: HA was asked to migrate it to {target}, but it is not there after"
            f" {HA_TIME:.0f} s",
            hint="see the HA manager's status in PVE: a rule may forbid that node",
        )


def _blocked(look: MigrationLook, target: str) -> Iterator[str]:
    node = next((one for one in look.seen.nodes if one.name == target), None)
    if node is None:
        yield f"there is no such node (the cluster has: {', '.join(sorted(one.name for one in look.seen.nodes))})"
        return
    if not node.online:
        yield "it is offline"
        return
    yield from look.told.refused.get(target, ())
    running = look.told.running
    for device in look.told.resources:
        if running or device not in look.told.mapped:
            yield f"{device} is a device of {look.vm.node}"
    for disk in look.told.disks:
        yield from _disk_blocked(disk.volid, disk.size, look, target, is_cd=disk.cdrom)
    if look.snapshots:
        have = f"its disks are on {look.vm.node} alone and have snapshots ({', '.join(look.snapshots)})"
        yield f"{have}: PVE takes them along only while it is stopped"


def _disk_blocked(volid: str, size: int, look: MigrationLook, target: str, *, is_cd: bool) -> Iterator[str]:
    if is_cd:
        yield f"the CD {volid} is on {look.vm.node} alone: eject it"
        return
    storage = storage_of(volid)
    found = find_storage(look.seen, target, storage)
    if found is None or not found.available:
        already = f"storage {storage}" in " ".join(look.told.refused.get(target, ()))
        if not already:
            yield f"storage {storage}, where {volid} is, is not available there"
    elif not found.thin and found.total and found.free < size:
        yield f"storage {storage} has {found.free / GIB:.1f} GiB free there, {size / GIB:.1f} GiB are needed"


def _told(look: MigrationLook, target: str) -> Iterator[str]:
    node = next((one for one in look.seen.nodes if one.name == target), None)
    cpu = look.vm.config.get("cpu", "").partition(",")[0].removeprefix("cputype=")
    if look.told.running and cpu == "host":
        yield f"its processor is the node's own (cpu.type = host): the processors of {target} must be alike"
    if node is not None and node.maintenance:
        yield f"{target} is in maintenance"
    memory = _memory(look.vm.config)
    if look.told.running and node is not None and node.memory_free is not None and node.memory_free < memory:
        yield f"{target} has {node.memory_free / GIB:.1f} GiB of memory free, {memory / GIB:.1f} GiB are needed"


def _memory(config: Mapping[str, str]) -> int:
    text = config.get("memory", "512").partition(",")[0].removeprefix("current=")
    return int(text) << 20 if text.isdigit() else 0
