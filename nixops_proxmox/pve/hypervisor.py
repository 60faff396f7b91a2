"""One PVE cluster as the core wants it: find, place, create, start, stop, change, destroy; only ever our own VMs."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from nixops_proxmox.errors import (
    BadParameter,
    NeedsWord,
    NotFound,
    PermissionDenied,
    PveBusy,
    PveOutcomeUnknown,
    PveRefused,
    TaskFailed,
    VmidTaken,
)
from nixops_proxmox.model import Change, Facts, Machine, Place, Power, Vm
from nixops_proxmox.pve import config as differences
from nixops_proxmox.pve.answers import ConfigSeen, GuestSeen, NodeSeen, Resources
from nixops_proxmox.pve.calls import Trace, no_trace
from nixops_proxmox.pve.client import PveClient
from nixops_proxmox.pve.connection import connect
from nixops_proxmox.pve.identity import find_mark, identity_of, is_ours, uuid_of
from nixops_proxmox.pve.placement import LAG, Reservations, candidates, is_shared, no_place, space_wanted
from nixops_proxmox.pve.profiles import DEFAULT, DEFAULT_VMIDS, load_profile
from nixops_proxmox.pve.properties import MIB, parse_flag, storage_of
from nixops_proxmox.pve.refusals import LockTimeout, VmLocked, VmRunning, WrongPlace, translate_task_text
from nixops_proxmox.pve.requests import CDROM, boot_params, create_params
from nixops_proxmox.pve.tasks import Failed, TaskWaiter, parse_upid
from nixops_proxmox.pve.upload import Progress, no_progress, stored_name
from nixops_proxmox.pve.versions import Release
from nixops_proxmox.pve.view import ClusterView
from nixops_proxmox.spec import MachineSpec

Note = Callable[[str], None]
T = TypeVar("T")

VIEW_AGE = 15.0  # seconds that one look at the cluster serves; what we did ourselves since is laid over it
LOOK_AGE = 0.5  # seconds that one look at a VM's configuration serves: a step's look and its act
TRUST = 120.0  # seconds after which a VM is looked at again before it is touched
BUSY_TIME = 180.0  # seconds to put up with locks
BUSY_PAUSE = (1.0, 3.0)  # seconds, drawn at random
POWER_TIME = 180.0  # seconds for HA to do what it said it would
LOOKS = (0.5, 2.0, 5.0)  # seconds between looks for a task whose answer was lost
CREATION_TIME = 120.0  # seconds for a VM that is being made to show whose it is


@dataclass(frozen=True)
class _Known:
    """What this process itself has seen or done of a VM; `power` only if we did it."""

    node: str
    uuid: str = ""
    verified: float = float("-inf")
    power: Power | None = None
    since: float = float("-inf")


class PveHypervisor:
    """Serves many machines from many threads; satisfies `lifecycle.ports.Hypervisor`."""

    def __init__(
        self,
        client: PveClient,
        *,
        vmids: tuple[int, int] = DEFAULT_VMIDS,
        reserve: int = 0,
        parallel: int = 4,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """`vmids`: range to choose from; `reserve`: MiB to leave free on each node; `parallel`: allocating calls at
        once for each node and storage; `warn` gets the warnings of tasks that succeeded."""
        self.client = client
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self._rng = rng or random.Random()  # noqa: S311  # for pauses
        self._warn = warn or (lambda _text: None)
        self._reserve, self._parallel = reserve * MIB, parallel
        self.tasks = TaskWaiter(client, clock=clock, sleep=sleep)
        self._view = ClusterView(client, clock)
        self._reservations = Reservations(vmids)
        self._lock = threading.Lock()  # guards what follows
        self._placing = threading.Lock()
        self._known: dict[int, _Known] = {}
        self._reserved: dict[int, str] = {}
        self._looks: dict[int, tuple[float, ConfigSeen]] = {}
        self._gates: dict[tuple[str, str], threading.Semaphore] = {}
        self._upids: set[str] = set()
        self._guessed: set[str] = set()  # found where an answer was lost: perhaps somebody else's
        self._release: Release | None = None
        self._bridges: dict[str, tuple[str, ...]] = {}
        self._isos: dict[tuple[str, str], frozenset[str]] = {}

    def get_release(self) -> Release:
        """The cluster's PVE release; asked once."""
        if self._release is None:
            self._release = self.client.get_version()
        return self._release

    def resources(self) -> Resources:
        """The cluster as it was a few seconds ago, shared by everybody who asks."""
        return self._view.get(VIEW_AGE)

    def upload(
        self,
        node: str,
        storage: str,
        path: Path,
        *,
        content: str = "iso",
        filename: str = "",
        progress: Progress = no_progress,
    ) -> str:
        """Put a file on a storage, wait, and return its volume ID."""
        name = stored_name(filename or path.name)
        upid = self.client.upload(node, storage, path, content=content, filename=name, progress=progress)
        self._finish(upid, f"uploading {name} to {storage} on {node}")
        self._isos.pop((node, storage), None)
        return f"{storage}:{content}/{name}"

    # Looking

    def find_vm(self, facts: Facts) -> Vm | None:
        """Our VM wherever it is now; None only on authority: no guest has that VMID, or it is somebody else's."""
        if not facts.vmid or not facts.uuid or self._is_only_reserved(facts):
            return None
        return self._look(facts, self._view.get(VIEW_AGE), last=False)

    def _is_only_reserved(self, facts: Facts) -> bool:
        """This process chose the VMID and has not asked for a VM yet: nothing can carry our UUID there."""
        with self._lock:
            return facts.vmid in self._reserved

    def _look(self, facts: Facts, seen: Resources, *, last: bool) -> Vm | None:
        guest = seen.guests.get(facts.vmid)
        known = self._recent(facts.vmid, seen.taken)
        node = known.node if known is not None else guest.node if guest is not None else ""
        if not node:
            return self._look_for_absent(facts, last=last)
        if known is None and guest is not None and guest.kind != "qemu":
            return None  # a container: nothing of ours
        try:
            seen_config = self._read(facts, node)
        except WrongPlace:
            self._forget(facts.vmid)
            if last:
                raise
            return self._look(facts, self._view.get_since(self._clock()), last=True)
        if not is_ours(seen_config.values, facts.uuid):
            return None
        with self._lock:
            previous = self._known.get(facts.vmid, _Known(node))
            self._known[facts.vmid] = replace(previous, node=node, uuid=facts.uuid, verified=self._clock())
        return self._vm(facts, node, seen_config, guest if known is None else None, known)

    def _recent(self, vmid: int, taken: float) -> _Known | None:
        """What we did ourselves so lately that the cluster's figures may not show it."""
        with self._lock:
            known = self._known.get(vmid)
        return known if known is not None and known.power is not None and known.since + LAG > taken else None

    def _read(self, facts: Facts, node: str) -> ConfigSeen:
        """The configuration; waits while the VM is being made and does not yet say whose it is."""
        with self._lock:
            at, cached = self._looks.get(facts.vmid, (float("-inf"), None))
        if cached is not None and self._clock() - at < LOOK_AGE:
            return cached
        deadline = self._clock() + CREATION_TIME
        while True:
            now = self._clock()
            seen = self.client.get_pending(node, facts.vmid)
            if not _is_nameless(seen):
                break
            # PVE claims a VMID with nothing but `lock: create`; the UUID comes when the disks are there.
            if now > deadline:
                raise PveBusy(
                    f"VM {facts.vmid} on {node} has been locked ({seen.values.get('lock')}) for a long time",
                    hint=f"if no task works on it (its node crashed): `qm unlock {facts.vmid}` or `qm destroy` there",
                )
            self._sleep(1.0)
        with self._lock:
            self._looks[facts.vmid] = (now, seen)
        return seen

    def _look_for_absent(self, facts: Facts, *, last: bool) -> Vm | None:
        """It is not in the list. Lists are filtered by permission, nextid is not."""
        if self.client.is_vmid_free(facts.vmid):
            return None
        if not last:
            return self._look(facts, self._view.get_since(self._clock()), last=True)
        node = facts.node or next((node.name for node in self._view.get(VIEW_AGE).nodes if node.online), "localhost")
        try:
            self.client.get_config(node, facts.vmid)  # 403 names what is missing
        except WrongPlace as error:
            raise self._hidden(facts) from error
        raise self._hidden(facts)

    def _hidden(self, facts: Facts) -> PermissionDenied:
        return PermissionDenied(
            f"a guest with VMID {facts.vmid} exists, but we may not see it",
            path=f"/vms/{facts.vmid}",
            privileges=("VM.Audit",),
            hint=f"grant VM.Audit on /vms/{facts.vmid} (or its pool): without it, nobody can tell if it is ours",
        )

    def _vm(self, facts: Facts, node: str, seen: ConfigSeen, guest: GuestSeen | None, known: _Known | None) -> Vm:
        if known is not None and known.power is not None:
            power = known.power
        elif guest is not None and guest.status == "running":
            power = Power.RUNNING
        else:
            # "stopped" may be 10 s old, and "unknown" is what a new or a paused VM is called
            power = self._live_power(node, facts.vmid)
        values = seen.values
        return Vm(
            facts.vmid,
            node,
            uuid_of(values) or facts.uuid,
            power,
            dict(values),
            seen.pending,
            values.get("lock", ""),
            bool(parse_flag(values.get("protection", "0"))),
        )

    def _live_power(self, node: str, vmid: int) -> Power:
        return Power.RUNNING if self.client.get_status(node, vmid).running else Power.STOPPED

    # Placing

    def choose_place(self, spec: MachineSpec) -> Place:
        """A node that fits (PveRefused says of each why not) and a VMID that was free a moment ago."""
        with self._placing:
            seen = self._view.get(VIEW_AGE)
            placed = self._reservations.placed(seen.taken)
            nodes, refused = candidates(spec, seen, placed, reserve=self._reserve)
            node = next((node for node in nodes if len(nodes) == 1 or self._fits(spec, node, seen, refused)), None)
            if node is None:
                raise no_place(spec, refused)
            used: set[int] = set(seen.guests)
            if spec.vmid is not None and not self.client.is_vmid_free(spec.vmid):
                used.add(spec.vmid)  # by a guest that we may not see
            vmid = self._reservations.take_vmid(spec, used)
            self._reservations.take_room(spec, vmid, node.name, seen)
        with self._lock:
            self._reserved[vmid] = spec.name
        return Place(node.name, vmid)

    def _fits(self, spec: MachineSpec, node: NodeSeen, seen: Resources, refused: dict[str, str]) -> bool:
        """What the cluster's list does not tell: bridges, and an ISO on a node's own storage. Asked once for a node."""
        bridges = self._bridges_of(node.name)
        missing = sorted({nic.bridge for nic in spec.network} - set(bridges))
        if bridges and missing:
            refused[node.name] = f"bridge {', '.join(missing)} is not there (or we lack SDN.Use on it)"
            return False
        iso = spec.install.iso or ""
        storage = storage_of(iso)
        if storage and not is_shared(seen, node.name, storage) and iso not in self._isos_on(node.name, storage):
            refused[node.name] = f"it does not have {iso}"
            return False
        return True

    def _bridges_of(self, node: str) -> tuple[str, ...]:
        if node not in self._bridges:
            try:
                self._bridges[node] = self.client.list_bridges(node)
            except PveRefused:
                self._bridges[node] = ()  # not listable: PVE will say at the start
        return self._bridges[node]

    def _isos_on(self, node: str, storage: str) -> frozenset[str]:
        if (node, storage) not in self._isos:
            volumes = self.client.list_volumes(node, storage, "iso")
            self._isos[node, storage] = frozenset(volume.volid for volume in volumes)
        return self._isos[node, storage]

    # Making

    def create_vm(self, spec: MachineSpec, machine: Machine, note: Note) -> None:
        """Create VM and disks and wait. VmidTaken if the VMID is somebody else's; ours from an earlier try is fine."""
        facts = machine.facts
        params = create_params(spec, identity_of(machine))
        with self._lock:
            self._reserved.pop(facts.vmid, None)
        try:
            with self._gate(facts.node, space_wanted(spec)):
                upid = self._submit(
                    "qmcreate", facts.node, facts.vmid, lambda: self.client.create_vm(facts.node, params)
                )
                note(upid)
                self._finish(upid, f"{machine.name}: creating VM {facts.vmid} on {facts.node}")
        except VmidTaken:
            vm = self._look(facts, self._view.get_since(self._clock()), last=False)
            if vm is None:
                self._reservations.give_back(facts.vmid)
                raise
            return
        if upid in self._guessed and self._look(facts, self._view.get_since(self._clock()), last=False) is None:
            raise VmidTaken(f"{machine.name}: VMID {facts.vmid} was taken by somebody else at the same moment")
        self._learn(facts, facts.node, Power.STOPPED)

    # Power

    def start_vm(self, facts: Facts, note: Note) -> None:
        """Start and wait until it runs; a running VM is fine."""
        self._power(facts, note, "qmstart", lambda node, _again: self.client.start_vm(node, facts.vmid), Power.RUNNING)
        self._reservations.settle(facts.vmid, self._clock())

    def stop_vm(self, facts: Facts, note: Note) -> None:
        """Power off, hard, and wait; a stopped VM is fine. A shutdown that blocks it is aborted (>= 8.2)."""

        def stop(node: str, again: bool) -> str:
            overrule = again and self.get_release().can_overrule_shutdown
            return self.client.stop_vm(node, facts.vmid, overrule=overrule)

        self._power(facts, note, "qmstop", stop, Power.STOPPED)

    def shut_down_vm(self, facts: Facts, note: Note, timeout: float) -> None:
        """Ask the guest to shut down and wait; PVE itself powers it off after `timeout` seconds."""
        seconds = max(1, int(timeout))
        self._power(
            facts,
            note,
            "qmshutdown",
            lambda node, _again: self.client.shut_down_vm(node, facts.vmid, seconds),
            Power.STOPPED,
        )

    def _power(self, facts: Facts, note: Note, kind: str, post: Callable[[str, bool], str], goal: Power) -> None:
        """Submit, wait, and repeat while others hold the VM's lock: all of these may be asked for twice."""
        deadline = self._clock() + BUSY_TIME
        again = False
        while True:
            node = self._place_of(facts)
            upid = self._submit(kind, node, facts.vmid, partial(post, node, again))
            note(upid)
            failure = self._failure(upid)
            if parse_upid(upid).type.startswith("ha") and failure is None:
                self._wait_for_power(facts, goal)  # HA has only been told
                break
            if (failure is None and upid not in self._guessed) or self._is_reached(node, facts.vmid, goal):
                break
            busy = failure is None or isinstance(translate_task_text(failure.text), PveBusy)
            if self._clock() > deadline or not busy:
                failure = failure or Failed("the answer was lost, and another task was found")
                raise self._task_failed(upid, failure, f"VM {facts.vmid} on {node}: {kind}")
            again = True
            self._pause()
        self._learn(facts, parse_upid(upid).node, goal)

    def _is_reached(self, node: str, vmid: int, goal: Power) -> bool:
        try:
            return self._live_power(node, vmid) is goal
        except WrongPlace:
            return False

    def _wait_for_power(self, facts: Facts, goal: Power) -> None:
        deadline = self._clock() + POWER_TIME
        while self._clock() < deadline:
            node = self._place_of(facts)
            try:
                if self.client.get_status(node, facts.vmid, poll=True).running is (goal is Power.RUNNING):
                    return
            except WrongPlace:
                self._forget(facts.vmid)  # HA may start it elsewhere
            self._sleep(1.0)
        raise PveBusy(
            f"VM {facts.vmid}: HA was asked, but it is still not {goal} after {POWER_TIME:.0f} s",
            hint="see the HA manager's status in PVE",
        )

    # Changing

    def boots_installer(self, vm: Vm, spec: MachineSpec) -> bool:  # noqa: ARG002  # a medium is a medium
        """Would the VM boot from a CD if it was started now?"""
        return differences.boots_cd(vm.config)

    def set_boot(self, vm: Vm, spec: MachineSpec, *, installer: bool) -> None:
        """Boot from the installer ISO (inserted) or from the disk (ISO ejected): one call, from the next start on."""
        params = boot_params(spec, installer=installer)
        if not installer and CDROM not in vm.config:
            del params[CDROM]  # no drive, nothing to eject

        def change() -> None:
            try:
                self.client.set_config(vm.node, vm.vmid, params)
            except BadParameter as error:
                # the guest holds its tray: what cannot be done at once waits for the next start, which is what we want
                if not any("hotplug problem" in text for text in error.errors.values()):
                    raise

        try:
            self._while_locked(vm.node, vm.vmid, change)
        except PveOutcomeUnknown:
            self._while_locked(vm.node, vm.vmid, change)  # the same values once more do no harm
        finally:
            self._drop_look(vm.vmid)

    def changes(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
        return differences.changes(vm, spec, identity_of(machine))

    def apply_changes(self, vm: Vm, spec: MachineSpec, machine: Machine, note: Note) -> None:
        """Make the VM as described: one config task, then a resize for each disk that grows."""
        update = differences.update(vm, spec, identity_of(machine))
        doing = f"{machine.name}: changing VM {vm.vmid} on {vm.node}"
        try:
            if update.params:
                with self._gate(vm.node, space_wanted(spec)):
                    self._run_maybe(
                        "qmconfig", vm, lambda: self.client.change_config(vm.node, vm.vmid, update.params), note, doing
                    )
            for disk, size in update.resize.items():
                self._run_maybe(
                    "resize", vm, partial(self.client.resize_disk, vm.node, vm.vmid, disk, size), note, doing
                )
        finally:
            self._drop_look(vm.vmid)

    def _run_maybe(self, kind: str, vm: Vm, post: Callable[[], str | None], note: Note, doing: str) -> None:
        """Calls that are a task on some releases and done at once on others."""
        upid = self._submit(kind, vm.node, vm.vmid, lambda: post() or "")
        if upid:
            note(upid)
            self._finish(upid, doing)

    # Ending

    def destroy_vm(self, facts: Facts, note: Note) -> None:
        """Stop and delete our VM and all its volumes; NeedsWord if it is protected. A VM that is not there is fine."""
        self._drop_look(facts.vmid)
        vm = self.find_vm(facts)
        if vm is not None and vm.protected:
            raise NeedsWord(f"VM {vm.vmid} is protected", hint="set `protection = false` and deploy, then destroy it")
        if vm is not None:
            if vm.power is Power.RUNNING:
                self.stop_vm(facts, note)
            self._delete(facts, note)
        self._forget(facts.vmid)
        self._reservations.give_back(facts.vmid)

    def _delete(self, facts: Facts, note: Note) -> None:
        for last in (False, True):
            node = self._place_of(facts)
            try:
                upid = self._submit("qmdestroy", node, facts.vmid, partial(self.client.delete_vm, node, facts.vmid))
                note(upid)
                self._finish(upid, f"destroying VM {facts.vmid} on {node}")
            except VmRunning:
                if last:
                    raise
                self.stop_vm(facts, note)  # it was started behind our back, or the cluster's figures were old
            except WrongPlace:
                self._forget(facts.vmid)
                if self._look(facts, self._view.get_since(self._clock()), last=False) is None:
                    return
                if last:
                    raise
            else:
                return

    def wait_for_task(self, upid: str) -> None:
        """A task of an earlier run; TaskFailed, TaskStillRunning, or NotFound if PVE has forgotten it."""
        task = parse_upid(upid)
        self._finish(upid, f"{task.type} {task.id} on {task.node}")
        goal = {"qmstart": Power.RUNNING, "qmstop": Power.STOPPED, "qmshutdown": Power.STOPPED}.get(task.type)
        if goal is not None and task.id.isdecimal():
            self._learn(Facts(vmid=int(task.id)), task.node, goal)

    # How calls that change something are made

    def _submit(self, kind: str, node: str, vmid: int, post: Callable[[], str]) -> str:
        """The UPID. Waits for locks; when the answer was lost, looks for the task instead of asking again."""
        since = self._wall()
        try:
            upid = self._while_locked(node, vmid, post)
        except PveOutcomeUnknown:
            found = self._find_task(node, vmid, kind, since)
            if found is None:
                raise
            self._guessed.add(found)
            upid = found
        finally:
            self._drop_look(vmid)
        with self._lock:
            self._upids.add(upid)
        return upid

    def _find_task(self, node: str, vmid: int, kind: str, since: float) -> str | None:
        for pause in LOOKS:
            with self._lock:
                seen = set(self._upids)
            upid = self.tasks.find(node, vmid, kind, since, not_these=seen)
            if upid is not None:
                return upid
            self._sleep(pause)
        return None

    def _while_locked(self, node: str, vmid: int, call: Callable[[], T]) -> T:
        """Again and again while a lock is in the way; PVE has done nothing then."""
        deadline = self._clock() + BUSY_TIME
        while True:
            try:
                return call()
            except LockTimeout:
                if self._clock() > deadline:
                    raise
            except VmLocked as error:
                if self._clock() > deadline:
                    raise self._locked_for_good(node, vmid, error) from error
            self._pause()

    def _locked_for_good(self, node: str, vmid: int, error: VmLocked) -> PveBusy:
        running = [task for task in self.client.list_tasks(node, vmid=vmid) if task.running]
        who = ", ".join(f"{task.type} by {task.user}" for task in running)
        return PveBusy(
            f"{error.message}, and stayed so for {BUSY_TIME:.0f} s"
            + (f"; running: {who}" if who else "; no task runs"),
            hint="wait for that task" if who else f"the lock is stale (a node crashed?): `qm unlock {vmid}` on {node}",
        )

    def _finish(self, upid: str, doing: str) -> None:
        try:
            done = self.tasks.require(upid, doing)
        except TaskFailed as error:
            known = translate_task_text(error.exit_status_text)
            if isinstance(known, VmidTaken | VmRunning):
                raise known from error
            raise
        for warning in done.warnings:
            self._warn(f"{doing}: {warning}")

    def _failure(self, upid: str) -> Failed | None:
        """How a task failed; None if it did not. Other ends are errors."""
        try:
            self._finish(upid, f"task {upid}")
        except TaskFailed as error:
            return Failed(error.exit_status_text, error.log)
        return None

    def _task_failed(self, upid: str, failure: Failed, doing: str) -> TaskFailed:
        shown = "".join(f"\n  {line}" for line in failure.log)
        return TaskFailed(f"{doing}: {failure.text}{shown}", upid=upid, exit_status_text=failure.text, log=failure.log)

    def _place_of(self, facts: Facts) -> str:
        """The node where our VM is; looks again when the last look is old. NotFound if there is none of ours."""
        with self._lock:
            known = self._known.get(facts.vmid)
        if known is not None and known.uuid == facts.uuid and self._clock() - known.verified < TRUST:
            return known.node
        vm = self.find_vm(facts)
        if vm is None:
            raise NotFound(f"VM {facts.vmid} with our mark ({facts.uuid}) is not on the cluster")
        return vm.node

    def _learn(self, facts: Facts, node: str, power: Power) -> None:
        """We did this ourselves: the cluster's figures may show it only seconds later."""
        now = self._clock()
        verified = now if facts.uuid else float("-inf")
        with self._lock:
            self._known[facts.vmid] = _Known(node, facts.uuid, verified, power, now)
            self._looks.pop(facts.vmid, None)

    def _forget(self, vmid: int) -> None:
        with self._lock:
            self._known.pop(vmid, None)
            self._looks.pop(vmid, None)

    def _drop_look(self, vmid: int) -> None:
        with self._lock:
            self._looks.pop(vmid, None)

    def _pause(self) -> None:
        self._sleep(self._rng.uniform(*BUSY_PAUSE))

    @contextmanager
    def _gate(self, node: str, storages: Iterable[str]) -> Iterator[None]:
        """A few at once: PVE gives up on a storage's lock after 10 s. In one order, so nobody waits in a ring."""
        with ExitStack() as stack:
            for storage in sorted(storages):
                with self._lock:
                    gate = self._gates.setdefault((node, storage), threading.Semaphore(self._parallel))
                stack.enter_context(gate)
            yield


@contextmanager
def open_hypervisor(
    profile: str = DEFAULT,
    *,
    profiles: Path | None = None,
    trace: Trace = no_trace,
    warn: Callable[[str], None] | None = None,
) -> Iterator[PveHypervisor]:
    """The hypervisor of a profile, by name; its connections are dropped at the end."""
    read = load_profile(profile, path=profiles)
    client = connect(read, trace=trace)
    try:
        yield PveHypervisor(client, vmids=read.vmids, reserve=read.reserve, parallel=read.parallel, warn=warn)
    finally:
        client.close()


def _is_nameless(seen: ConfigSeen) -> bool:
    """Locked by its own making, and nothing yet says whose it is."""
    values = seen.values
    making = values.get("lock") in ("create", "clone")
    return making and not uuid_of(values) and find_mark(values.get("description", "")) is None
