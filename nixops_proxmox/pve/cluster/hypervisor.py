"""One PVE cluster as the core wants it: find, place, create, start, stop, change, destroy. Only ever our own VMs."""

import random
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.core.upid import parse_upid
from nixops_proxmox.errors import (
    BadParameter,
    DeployError,
    NeedsPermission,
    NotFound,
    PveBusy,
    PveError,
    PveOutcomeUnknown,
    PveRefused,
    PveUnreachable,
    TaskFailed,
    VmidTaken,
)
from nixops_proxmox.model import Bearer, Change, Facts, Machine, Place, Power, Vm, old_copies
from nixops_proxmox.pve.api.answers import ClusterResources, ConfigSeen, GuestSeen, TaskListed
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.api.containers import ContainerClient
from nixops_proxmox.pve.api.tasks import Failed
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.backup_jobs import BackupJobs
from nixops_proxmox.pve.cluster.discs import Discs
from nixops_proxmox.pve.cluster.disk_moves import DiskMoves
from nixops_proxmox.pve.cluster.firewalls import FirewallStore
from nixops_proxmox.pve.cluster.guest_kinds import CONTAINERS, VMS, GuestKind
from nixops_proxmox.pve.cluster.ha import HA_ERROR, HaStore, in_ha_error
from nixops_proxmox.pve.cluster.mappings import MappingStore
from nixops_proxmox.pve.cluster.marks import Marks
from nixops_proxmox.pve.cluster.media import Media
from nixops_proxmox.pve.cluster.moves import Moves
from nixops_proxmox.pve.cluster.networks import NetworkStore
from nixops_proxmox.pve.cluster.placement import Reservations, space_wanted
from nixops_proxmox.pve.cluster.placer import Placer
from nixops_proxmox.pve.cluster.pools import Pools, PoolStore
from nixops_proxmox.pve.cluster.replications import ReplicationStore
from nixops_proxmox.pve.cluster.saves import Saves
from nixops_proxmox.pve.cluster.storages import StorageStore
from nixops_proxmox.pve.cluster.template_store import TemplateStore
from nixops_proxmox.pve.cluster.verdicts import Explanation
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.pve.cluster.vm_finder import VmFinder
from nixops_proxmox.pve.cluster.volume_store import VolumeStore
from nixops_proxmox.pve.cluster.work import BUSY_TIME, Work, known_of
from nixops_proxmox.pve.vm import boot
from nixops_proxmox.pve.vm import diff as differences
from nixops_proxmox.pve.vm.copies import refuse_image
from nixops_proxmox.pve.vm.drives import losses, needs_stop, spared, strangers, volumes_of
from nixops_proxmox.pve.vm.identity import identity_of
from nixops_proxmox.pve.vm.leftovers import leftovers
from nixops_proxmox.pve.vm.parking import refuse_to_lose_volumes
from nixops_proxmox.pve.vm.requests import clone_params, create_params, mark_params, restore_params, takeover_params
from nixops_proxmox.pve.wire.calls import Trace, Value, no_trace
from nixops_proxmox.pve.wire.profiles import DEFAULT, DEFAULT_VMIDS, load_profile
from nixops_proxmox.pve.wire.properties import MIB, macs_of
from nixops_proxmox.pve.wire.refusals import NotObeyed, VmRunning, WrongPlace
from nixops_proxmox.pve.wire.tls import always
from nixops_proxmox.spec import InstallSource, MachineSpec
from nixops_proxmox.spec.cloud_init import is_told
from nixops_proxmox.spelling import Verb, command

UPGRADE = "ciupgrade"  # the key that PVE 7 does not know
HOTPLUG = "hotplug problem"  # PVE's words for a device that cannot come or go while the VM runs
_GOALS = {"start": Power.RUNNING, "stop": Power.STOPPED, "shutdown": Power.STOPPED}
POWER_TIME = 180.0  # seconds for HA to do what it said it would


@dataclass(frozen=True)
class Creation:
    """A call that makes a VM: its task's type, node and VMID."""

    kind: str
    node: str
    vmid: int
    post: Callable[[], str]


def _wrong_guess(machine: Machine, ask: Creation) -> PveError:
    """The answer was lost, and the task that was found in its stead did not make our VM."""
    if ask.kind.endswith("create"):
        return VmidTaken(f"{machine.name}: VMID {ask.vmid} was taken by somebody else at the same moment")
    return PveOutcomeUnknown(f"{machine.name}: we do not know whether the template {ask.vmid} was cloned")


def _hotplug_problems(text: str) -> list[str]:
    """The task's one line names each key before its problem: `net1: hotplug problem - …`."""
    parts = re.split(rf"(\w+): {HOTPLUG}", text)
    return [f"{key}: {HOTPLUG}{why.rstrip()}" for key, why in zip(parts[1::2], parts[2::2], strict=True)]


def _raise(error: Exception) -> NoReturn:
    raise error


class PveHypervisor:
    """Serves many machines from many threads; satisfies `kinds.machine.ports.Hypervisor`."""

    def __init__(  # noqa: PLR0913 -- its parts, each by name
        self,
        client: PveClient,
        *,
        vmids: tuple[int, int] = DEFAULT_VMIDS,
        reserve: int = 0,
        parallel: int = 32,
        busy: float = BUSY_TIME,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        warn: Callable[[str], None] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """`vmids`: range to choose from. `reserve`: MiB to leave free on each node. `parallel`: allocating calls at
        once for each node and storage, at most. `busy`: seconds to put up with others' locks. `warn` gets the
        warnings of tasks that succeeded, `tell` what is waited for."""
        self._clock, self._sleep, self._busy = clock, sleep, busy
        self._warn = warn or (lambda _text: None)
        self._view = ClusterView(client, clock)
        unguarded = self.unguarded = client
        self._placer = Placer(client, self._view, Reservations(vmids), reserve * MIB)
        self._work = Work(
            client,
            lambda _vmid: None,
            parallel=parallel,
            busy=busy,
            clock=clock,
            wall=wall,
            sleep=sleep,
            rng=rng or random.Random(),  # noqa: S311  # for pauses
            warn=self._warn,
            tell=tell or (lambda _text: None),
        )
        self._take_guests(client, VMS)
        client = self.client
        self._marks = Marks(client, self._view, clock)
        self._disks = DiskMoves(client, self._finder, self._work)
        self.media = Media(client, self._view, self._work, self._placer.forget_media)
        self.discs = Discs(client, self._view, self._finder, self._work, self.media, self._warn)
        # Its calls carry digests, which say more than the guard's look.
        self.volume_store = VolumeStore(unguarded, self._view, self._finder, self._work)
        self._release: Release | None = None
        self.pool_store, self.backup_jobs = PoolStore(unguarded), BackupJobs(unguarded)
        self.network_store = NetworkStore(unguarded, self.get_release)
        self.ha_store, self.mapping_store = HaStore(unguarded, self.get_release), MappingStore(unguarded)
        self.replication_store = ReplicationStore(unguarded)
        self.storage_store = StorageStore(unguarded, self.get_release)
        self.template_store = TemplateStore(unguarded, self._view, self._work, self._placer)
        containers = VmFinder(ContainerClient(unguarded.sender), self._view, clock, sleep, busy, CONTAINERS)
        self.firewall_store = FirewallStore(unguarded, self._view, self._finder.find, containers.find)
        self._pools = Pools(client, self._view, self.get_release)

    def _take_guests(self, client: PveClient, kind: GuestKind) -> None:
        """What finds guests of this kind, proves that they are ours, and works on them."""
        self.kind = kind
        self._finder = finder = VmFinder(client, self._view, self._clock, self._sleep, self._busy, kind)
        self.client = guarded = client.guarded(finder.prove)
        self._work = self._work.of(guarded, finder.drop_look)
        self.saves = Saves(guarded, self._view, finder, self._work, kind)
        self.moves = Moves(guarded, self._view, finder, self._work, self._placer, self._clock, self._sleep)

    def get_release(self) -> Release:
        """The cluster's PVE release; asked once."""
        if self._release is None:
            self._release = self.client.get_version()
        return self._release

    def resources(self) -> ClusterResources:
        """The cluster as it was a few seconds ago. All callers share the answer."""
        return self._view.get(VIEW_AGE)

    def find_vm(self, facts: Facts, *, power: bool = True) -> Vm | None:
        """Our VM, wherever it is now. None only if the cluster says for certain that no guest of ours has that VMID.
        Without `power`, it does not ask whether the VM runs."""
        return self._finder.find(facts, power=power)

    def find_node(self, facts: Facts) -> str | None:
        """Where our VM is, for calls that do no harm if it has moved. A look of the last two minutes is good enough."""
        try:
            return self._finder.node_of(facts)
        except NotFound:
            return None

    def find_bearers(self, deployment: str, machine: str, besides: Collection[int]) -> Sequence[Bearer]:
        """The VMs that bear this machine's mark. `besides`: VMIDs that are known, as those that we made are."""
        return self._marks.find(deployment, machine, {*besides, *self._finder.known_vmids()})

    def find_chosen_place(self, name: str) -> Place | None:
        """Where `place_all` would make the machine."""
        return self._placer.find_chosen(name)

    def refuse_unreachable(self, spec: MachineSpec) -> None:
        """SpecError if nothing would tell where the machine can be reached. A VM's agent does."""

    def explain_place(self, spec: MachineSpec, place: Place | None = None) -> Explanation:
        """Explain for each node whether the machine fits there, why not, and what speaks for it. `place`: where it
        is; None: it does not exist yet."""
        return self._placer.explain(spec, place)

    def place_all(
        self,
        new: Sequence[MachineSpec],
        begun: Sequence[tuple[MachineSpec, Place]] = (),
        standing: Sequence[tuple[MachineSpec, Place]] = (),
    ) -> Mapping[str, DeployError]:
        """Choose places for all new machines of a run before the first is made. `choose_place` then gives each its own.
        Errors by name: if one has no place, none is to be made. `begun`: what an earlier run placed. `standing`: our
        machines that exist."""
        self._placer.stand(standing)
        for spec, place in begun:
            self._placer.hold(spec, place)
        errors, warnings = self._placer.choose_all(new)
        for warning in warnings:
            self._warn(warning)
        return errors

    def choose_place(self, spec: MachineSpec) -> Place:
        """A node that fits (a PveRefused says why each does not) and a VMID that was free a moment ago. Raises, before
        anything is made, if the image or the template cannot become this machine."""
        if spec.install.source is InstallSource.IMAGE:
            refuse_image(spec, self.get_release())
        place = self._placer.choose(spec)
        self._finder.reserve(place.vmid)
        return place

    # Making

    def create_vm(self, spec: MachineSpec, machine: Machine, note: NoteTask, keys: Sequence[str] = ()) -> None:
        """Create VM and disks, or clone the template, and wait. VmidTaken if the VMID is somebody else's; ours from an
        earlier try is fine. `keys`: who may log in to a container before it has its identity."""
        again = False

        def create() -> None:
            nonlocal again
            if not again or self._finder.find_again(machine.facts) is None:
                again = True
                self._create(spec, machine, keys, note)

        self._work.while_busy(machine.facts.node, machine.facts.vmid, create)

    def _create(self, spec: MachineSpec, machine: Machine, keys: Sequence[str], note: NoteTask) -> None:
        facts = machine.facts
        ask = self._ask_for(spec, machine, keys, note)
        self._finder.expect(facts.vmid)
        try:
            with self._work.gate(facts.node, space_wanted(spec)):
                upid = self._work.submit(ask.kind, ask.node, ask.vmid, ask.post)
                note(upid)
                self._work.finish(upid, f"{machine.name}: creating {self.kind.word} {facts.vmid} on {facts.node}")
        except VmidTaken:
            vm = self._finder.find_again(facts)
            if vm is None:
                self._placer.reservations.give_back(facts.vmid)
                raise
            return
        finally:
            self._finder.drop_look(facts.vmid)
        if self._work.is_guessed(upid) and self._finder.find_again(facts) is None:
            raise _wrong_guess(machine, ask)
        self._finder.learn(facts, facts.node, Power.STOPPED)

    def _ask_for(self, spec: MachineSpec, machine: Machine, keys: Sequence[str], note: NoteTask) -> Creation:
        """A clone is asked of the template's node, where its task runs under the template's VMID."""
        del keys, note
        facts, identity = machine.facts, identity_of(machine)
        if spec.install.source is InstallSource.BACKUP:
            return Creation(
                "qmrestore", facts.node, facts.vmid, partial(self._restore_new, facts, restore_params(spec, identity))
            )
        if spec.install.source is not InstallSource.TEMPLATE:
            params = create_params(self._as_known(spec), identity)
            return Creation("qmcreate", facts.node, facts.vmid, partial(self.client.create_vm, facts.node, params))
        template = self._placer.get_template(spec, facts.node)
        params = clone_params(spec, identity, target=facts.node if facts.node != template.node else "")
        post = partial(self.client.clone_vm, template.node, template.vmid, params)
        return Creation("qmclone", template.node, template.vmid, post)

    def _restore_new(self, facts: Facts, params: Mapping[str, Value]) -> str:
        """What an earlier try has left, if that failed, is empty, and is restored over."""
        force = {"force": True} if self._finder.find_remains(facts) else {}
        upid = self.client.create_vm(facts.node, {**params, **force})
        self._finder.note_restore(facts.vmid, upid)
        return upid

    def first_key(self, facts: Facts) -> str:
        """What tells a container's host key before its first start. A VM gets ours on its disk."""
        del facts
        return ""

    # Power

    def start_vm(self, facts: Facts, note: NoteTask) -> None:
        """Start and wait until it runs. A running VM is fine."""
        self._power(
            facts,
            note,
            f"{self.kind.prefix}start",
            lambda node, _tries: self.client.start_vm(node, facts.vmid),
            Power.RUNNING,
        )
        self._placer.reservations.settle(facts.vmid, self._clock())

    def stop_vm(self, facts: Facts, note: NoteTask) -> None:
        """Power off, hard, and wait. A stopped VM is fine. A shutdown that blocks it is aborted (>= 8.2)."""

        def stop(node: str, tries: int) -> str:
            overrule = tries > 0 and self.get_release().can_overrule_shutdown
            try:
                return self.client.stop_vm(node, facts.vmid, overrule=overrule)
            except BadParameter as error:
                if "overrule-shutdown" not in error.errors:
                    raise
                return self.client.stop_vm(node, facts.vmid)  # the HA manager stops it, whatever else runs

        self._power(facts, note, f"{self.kind.prefix}stop", stop, Power.STOPPED)

    def shut_down_vm(self, facts: Facts, note: NoteTask, timeout: float) -> None:
        """Ask the guest to shut down and wait. PVE itself powers it off after `timeout` seconds, and if it does not, so
        do we."""
        seconds = max(1, int(timeout))

        def shut_down(node: str, _tries: int) -> str:
            return self.client.shut_down_vm(node, facts.vmid, seconds)

        try:
            self._power(facts, note, f"{self.kind.prefix}shutdown", shut_down, Power.STOPPED, seconds)
        except (TaskFailed, NotObeyed) as error:
            if not isinstance(known_of(error), NotObeyed):
                raise
            self._warn(f"{self.kind.word} {facts.vmid} did not shut down within {seconds} s: powering it off")
            self.stop_vm(facts, note)

    def _power(
        self, facts: Facts, note: NoteTask, kind: str, post: Callable[[str, int], str], goal: Power, patience: float = 0
    ) -> None:
        """Submit, wait, and repeat while others hold the VM's lock. `patience`: seconds that the guest is given.

        Safe to repeat: PVE starts no VM that runs and stops none that is stopped, and after a failure we look first."""
        deadline = self._clock() + self._busy
        tries = 0
        while True:
            node, upid = self._submit_power(facts, kind, post, tries)
            note(upid)
            failure = self._work.failure(upid)
            if parse_upid(upid).type.startswith("ha") and failure is None:
                self._wait_for_power(facts, goal, POWER_TIME + patience)  # HA has only been told
                break
            if (failure is None and not self._work.is_guessed(upid)) or self._is_reached(node, facts.vmid, goal):
                break
            doing = f"{self.kind.word} {facts.vmid} on {node}: {kind}"
            if failure is None:
                lost = Failed("the answer was lost, and another task was found")
                self._work.wait_or_raise(self._work.task_failed(upid, lost, doing), deadline)
            else:
                self._work.wait_out(self._work.task_failed(upid, failure, doing), node, facts.vmid, deadline)
            tries += 1
        self._finder.learn(facts, parse_upid(upid).node, goal)

    def _submit_power(self, facts: Facts, kind: str, post: Callable[[str, int], str], tries: int) -> tuple[str, str]:
        """The node that was asked, and the UPID. A VM that was moved since the last look is looked for once more."""
        node = self._finder.node_of(facts)
        try:
            return node, self._work.submit(kind, node, facts.vmid, partial(post, node, tries))
        except WrongPlace:
            self._finder.forget(facts.vmid)
        node = self._finder.node_of(facts)
        return node, self._work.submit(kind, node, facts.vmid, partial(post, node, tries))

    def _is_reached(self, node: str, vmid: int, goal: Power) -> bool:
        try:
            return self._finder.live_power(node, vmid) is goal
        except WrongPlace:
            return False

    def _wait_for_power(self, facts: Facts, goal: Power, seconds: float) -> None:
        deadline = self._clock() + seconds
        while self._clock() < deadline:  # safe to repeat: it only looks
            node = self._finder.node_of(facts)
            try:
                seen = self.client.get_status(node, facts.vmid, poll=True)
                if seen.running is (goal is Power.RUNNING):
                    return
                if seen.ha_state == HA_ERROR:
                    raise in_ha_error(f"{self.kind.word} {facts.vmid}")
            except (WrongPlace, PveUnreachable):  # HA may start it elsewhere, and its node may just have failed
                self._finder.forget(facts.vmid)
            self._sleep(1.0)
        raise PveBusy(
            f"{self.kind.word} {facts.vmid}: HA was asked, but it is still not {goal} after {seconds:.0f} s",
            hint="see the HA manager's status in PVE",
        )

    # Changing

    def boots_installer(self, vm: Vm, spec: MachineSpec) -> bool:  # noqa: ARG002  # a medium is a medium
        """Would the VM boot from a CD if it was started now?"""
        return boot.boots_cd(vm.config)

    def runs_installer(self, vm: Vm) -> bool:
        """Did a CD boot what runs now, if it runs?"""
        return boot.booted_cd(vm.active or vm.config, vm.config)

    def set_boot(self, vm: Vm, spec: MachineSpec, *, installer: bool) -> None:
        """Boot from the installer ISO (in a free slot) or from the disk (ISO out, order as before), from the next
        start on. The drive, then the order: a drive that is not in the active order is added to it. Then read back.

        A running installer is left the other way round: an ejected ISO with the order as it was is what an installed
        system looks like. A run after a kill between the two calls would wait for that system."""
        drive, order = boot.enter_calls(vm, spec) if installer else boot.leave_calls(vm, spec)
        try:
            leaves = not installer and vm.power is Power.RUNNING
            for params in (order, drive) if leaves else (drive, order):
                if params:
                    self._set_config(vm, params)
        finally:
            self._finder.drop_look(vm.vmid)
        config = self.client.get_pending(vm.node, vm.vmid).values
        if boot.boots_cd(config) is not installer:
            drives = ", ".join(f"{slot}: {config.get(slot, 'not set')}" for slot in boot.boot_devices(config))
            raise PveRefused(
                f"VM {vm.vmid} on {vm.node} would still boot from {'its disk' if installer else 'the installer'}"
                f" (boot: {config.get('boot', 'not set')}; {drives or 'no drives'})",
                hint="is somebody else changing this VM? run the same command again",
            )

    def _set_config(self, vm: Vm, params: Mapping[str, Value]) -> None:
        def change() -> None:
            try:
                self.client.set_config(vm.node, vm.vmid, params)
            except BadParameter as error:
                # the guest holds its tray: what cannot be done at once waits for the next start, which is what we want
                if not any(HOTPLUG in text for text in error.errors.values()):
                    raise

        try:
            self._work.while_locked(vm.node, vm.vmid, change)
        except PveOutcomeUnknown:
            self._work.while_locked(vm.node, vm.vmid, change)  # the same values once more do no harm

    def changes(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
        known = self._as_known(spec)
        return (*differences.changes(vm, known, identity_of(machine)), *self._pools.find_change(vm, spec))

    def _as_known(self, spec: MachineSpec) -> MachineSpec:
        """Without what this release does not know, and would refuse."""
        if UPGRADE not in spec.extra or self.get_release().has_cloud_init_upgrade:
            return spec
        extra = {key: value for key, value in spec.extra.items() if key != UPGRADE}
        return spec.model_copy(update={"extra": extra})

    def lock_told(self, vm: Vm) -> str:
        return self._work.lock_told(vm.node, vm.vmid, vm.lock) if vm.lock else ""

    def leftovers(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[str]:
        guest = self._view.get(VIEW_AGE).guests.get(vm.vmid)
        return leftovers(vm, spec, identity_of(machine), guest.pool if guest else spec.pool or "")

    def needs_stop(self, vm: Vm, spec: MachineSpec) -> Sequence[str]:
        return needs_stop(vm, spec)

    def strangers(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
        return strangers(vm, spec, identity_of(machine))

    def losses(self, vm: Vm, machine: Machine) -> Sequence[str]:
        return losses(vm, identity_of(machine))

    def spared(self, vm: Vm) -> Sequence[str]:
        """Volumes that `destroy_vm` leaves, because they are not the VM's own."""
        return spared(vm)

    def volumes(self, vm: Vm) -> Mapping[str, str]:
        return volumes_of(vm.active or vm.config)

    def apply_changes(self, vm: Vm, spec: MachineSpec, machine: Machine, note: NoteTask) -> Sequence[str]:
        """Make the VM as described: config tasks, then a resize for each disk that grows. What PVE took and could not
        plug into the running VM is returned in PVE's words: it waits for a restart."""
        seen: list[Vm] = [vm]
        problems: list[str] = []

        def apply() -> None:
            problems[:] = self._apply(
                seen.pop() if seen else self._finder.find(machine.facts) or vm, spec, machine, note
            )

        self._work.while_busy(vm.node, vm.vmid, apply)
        return problems

    def _apply(self, vm: Vm, spec: MachineSpec, machine: Machine, note: NoteTask) -> list[str]:
        update = self._update(vm, spec, machine)
        doing = f"{machine.name}: changing {self.kind.word} {vm.vmid} on {vm.node}"
        problems: list[str] = []
        try:
            self._pools.apply(vm, spec)  # first: the rights for the rest may come from it
            for params in update.calls:
                with self._work.gate(vm.node, space_wanted(spec)):
                    post = partial(self.client.change_config, vm.node, vm.vmid, params)
                    problems += self._run_plugging("qmconfig", vm, post, note, doing)
            for disk, size in update.resize.items():
                self._run_maybe(
                    "resize", vm, partial(self.client.resize_disk, vm.node, vm.vmid, disk, size), note, doing
                )
        finally:
            self._finder.drop_look(vm.vmid)
        problems += self._tell_cloud_init(vm, update)
        if update.moves:
            self._move_disks(vm, update.moves, machine, note, doing)
            again = self._finder.find_again(machine.facts) or vm
            return [*problems, *self._apply(again, spec, machine, note)]  # what is left, now that they are there
        copies = {copy.volume: copy for copy in old_copies(machine.facts)}
        for key, volume in update.drops:
            self._disks.drop(machine.facts, key, copies[volume], note, doing)
        return problems

    def _update(self, vm: Vm, spec: MachineSpec, machine: Machine) -> differences.ConfigUpdate:
        return differences.update(vm, self._as_known(spec), identity_of(machine))

    def _tell_cloud_init(self, vm: Vm, update: differences.ConfigUpdate) -> list[str]:
        """What has changed of what PVE's cloud-init drive tells a VM that runs. The drive gets it now, for a restart
        from within. A start writes the drive, whatever came of this."""
        keys = sorted({key for params in update.calls for key in params if is_told(key)})
        if not keys or vm.power is not Power.RUNNING:
            return []
        try:
            self.client.regenerate_cloud_init(vm.node, vm.vmid)
        except PveRefused as error:
            return [f"{', '.join(keys)}: cloud-init is told at the VM's next start ({error.message})"]
        return [f"{', '.join(keys)}: cloud-init in the guest takes this up when the guest boots"]

    def _move_disks(self, vm: Vm, moves: Mapping[str, str], machine: Machine, note: NoteTask, doing: str) -> None:
        """Each is proven to be there before the next one is moved. After a move of somebody else's we look again."""
        if self._disks.wait_for_others(vm):
            return
        for slot, storage in moves.items():
            old = vm.config[slot]
            with self._work.gate(vm.node, [storage]):
                self._disks.move(vm, slot, storage, note, doing)
            now = self._finder.find_again(machine.facts)
            if now is not None:
                self._disks.prove(now, slot, storage, old)
                vm = now

    def _run_plugging(
        self, kind: str, vm: Vm, post: Callable[[], str | None], note: NoteTask, doing: str
    ) -> Sequence[str]:
        """A failed hotplug is no failed change: all the values were taken, and wait where they could not act."""
        try:
            self._run_maybe(kind, vm, post, note, doing)
        except TaskFailed as error:
            return _hotplug_problems(error.exit_status_text) or _raise(error)
        except BadParameter as error:
            return [f"{key}: {text.strip()}" for key, text in error.errors.items() if HOTPLUG in text] or _raise(error)
        return []

    def _run_maybe(self, kind: str, vm: Vm, post: Callable[[], str | None], note: NoteTask, doing: str) -> None:
        """Calls that are a task on some releases and done at once on others."""
        self._work.run(kind, vm.node, vm.vmid, lambda: post() or "", note, doing)

    # Restored

    def give_mark(self, machine: Machine, uuid: str) -> Vm:
        """The VM at the machine's VMID that has this UUID gets the machine's UUID, notes and name; fine if it has."""
        there = replace(machine.facts, uuid=uuid)
        vm = self._finder.find(there)
        if vm is not None:
            self._set_config(vm, mark_params(vm.config, identity_of(machine)))
            self._finder.drop_look(vm.vmid)
        marked = self._finder.find(machine.facts) or vm
        if marked is None:
            raise NotFound(f"{machine.name}: VM {there.vmid} with the UUID {uuid} is not on the cluster")
        return marked

    def put_mark(self, vm: Vm, machine: Machine) -> None:
        """Write the machine's mark into the VM's notes and tags, and give it the machine's name."""
        self._set_config(vm, takeover_params(vm.config, identity_of(machine)))
        self._finder.drop_look(vm.vmid)

    def config_in_snapshot(self, facts: Facts, name: str) -> ConfigSeen:
        """Our VM's configuration when the snapshot was taken."""
        return self.client.get_config(self._finder.node_of(facts), facts.vmid, snapshot=name)

    def guest_at(self, vmid: int) -> tuple[GuestSeen | None, str]:
        """Whatever stands at the VMID now, and its UUID, lower case, if it is a guest of our kind."""
        guest = self.client.get_resources(0.0).guests.get(vmid)
        if guest is None or guest.kind != self.kind.type:
            return guest, ""
        return guest, self.kind.uuid_of(self.client.get_config(guest.node, vmid).values)

    def uuid_at(self, vmid: int) -> str:
        """The UUID of the guest that has the VMID now. Empty: there is no guest, or it has no UUID."""
        return self.guest_at(vmid)[1]

    def retire_vm(self, vm: Vm) -> None:
        """See to it that our VM, which stands still, does not start with its node."""
        if vm.config.get("onboot", "0") != "0":
            self._set_config(vm, {"onboot": False})
            self._finder.drop_look(vm.vmid)

    def macs(self, vm: Vm) -> tuple[str, ...]:
        return macs_of(vm.config)

    # Ending

    def destroy_vm(self, facts: Facts, note: NoteTask, *, ran: bool = True) -> None:
        """Stop and delete our VM and all its volumes. Does nothing without a VM. NeedsPermission if it is protected.

        One that never `ran` is not asked whether it runs: PVE deletes no VM that does, and then we stop it."""
        vm = self._finder.find(facts, power=ran)  # shown a moment ago; whose it is, is asked again right before the end
        if vm is not None:
            refuse_to_lose_volumes(vm, "destroyed")
        if vm is not None and vm.protected:
            raise NeedsPermission(
                f"{self.kind.word} {vm.vmid} is protected",
                hint=f"set `protection = false`, then {command(Verb.DEPLOY)}; after that, you can destroy it",
            )
        if vm is not None:
            if vm.power is Power.RUNNING:
                self.stop_vm(facts, note)
            self._work.while_busy(vm.node, facts.vmid, lambda: self._delete(facts, note))
        elif node := self.find_remains(facts):
            upid = self.client.delete_vm(node, facts.vmid, unreferenced=False)
            note(upid)
            self._work.finish(upid, f"destroying the empty VM {facts.vmid} that a failed restore left on {node}")
        self._finder.forget(facts.vmid)
        self._placer.reservations.give_back(facts.vmid)

    def find_remains(self, facts: Facts) -> str:
        """The node of the empty VM that a restore of ours left, which failed. Empty: there is none."""
        return self._finder.find_remains(facts)

    def _delete(self, facts: Facts, note: NoteTask) -> None:
        for last in (False, True):
            node = self._finder.node_of(facts)
            try:
                upid = self._work.submit(
                    f"{self.kind.prefix}destroy", node, facts.vmid, partial(self.client.delete_vm, node, facts.vmid)
                )
                note(upid)
                self._work.finish(upid, f"destroying {self.kind.word} {facts.vmid} on {node}")
            except VmRunning:
                if last:
                    raise
                self.stop_vm(facts, note)  # it was started behind our back, or the cluster's figures were old
            except WrongPlace:
                self._finder.forget(facts.vmid)
                if self._finder.find_again(facts) is None:
                    return
                if last:
                    raise
            else:
                return

    def list_changes(self, vm: Vm, since: float, kinds: Collection[str]) -> Sequence[TaskListed]:
        """The tasks of these types that began on the VM since that time (epoch), as far as its node keeps them."""
        listed = self.client.list_tasks(vm.node, vmid=vm.vmid, since=int(since))
        return [task for task in listed if task.type in kinds and task.started >= since]

    def find_task(self, facts: Facts, kind: str) -> str:
        """The UPID of a task that runs now for the machine's VMID. Empty: none does. `kind`: its type, as of VMs."""
        guest = self.client.get_resources(0.0).guests.get(facts.vmid)
        node = facts.node if guest is None else guest.node
        running = (task for task in self._tasks_of(node, facts, kind) if task.running)
        return next((task.upid for task in running), "")

    def _tasks_of(self, node: str, facts: Facts, kind: str) -> Sequence[TaskListed]:
        return self.client.list_tasks(node, vmid=facts.vmid, kind=self.kind.task(kind))

    def wait_for_task(self, upid: str) -> None:
        """A task of an earlier run; TaskFailed, TaskStillRunning, or NotFound if PVE has forgotten it."""
        task = parse_upid(upid)
        self._work.finish(upid, f"{task.type} {task.id} on {task.node}")
        goal = _GOALS.get(task.type.removeprefix(self.kind.prefix))
        if goal is not None and task.id.isdecimal():
            self._finder.learn(Facts(vmid=int(task.id)), task.node, goal)


@contextmanager
def open_hypervisor(
    profile: str = DEFAULT,
    *,
    profiles: Path | None = None,
    trace: Trace = no_trace,
    busy: float = BUSY_TIME,
    warn: Callable[[str], None] | None = None,
    tell: Callable[[str], None] | None = None,
    may_act: Callable[[], None] = always,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[PveHypervisor]:
    """The hypervisor of a profile, by name. Its connections are dropped at the end. `may_act` is asked right before
    each call that changes something, and raises if it must not be made."""
    read = load_profile(profile, path=profiles)
    client = connect(read, trace=trace, may_act=may_act, sleep=sleep)
    try:
        yield PveHypervisor(
            client,
            sleep=sleep,
            vmids=read.vmids,
            reserve=read.reserve,
            parallel=read.parallel,
            busy=busy,
            warn=warn,
            tell=tell,
        )
    finally:
        client.close()
