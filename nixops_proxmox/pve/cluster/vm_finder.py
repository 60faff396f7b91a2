"""Finding our VMs wherever they are, on authority. What we did ourselves is laid over the cluster's figures."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from nixops_proxmox.core.upid import find_upid
from nixops_proxmox.errors import NotFound, PermissionDenied, PveBusy, PveUnreachable
from nixops_proxmox.model import FAILED_RESTORE, Facts, Power, Vm
from nixops_proxmox.pve.api.answers import ClusterResources, ConfigSeen, GuestSeen
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.guest_kinds import VMS, GuestKind
from nixops_proxmox.pve.cluster.placement import LAG
from nixops_proxmox.pve.cluster.view import VIEW_AGE, ClusterView
from nixops_proxmox.pve.wire.properties import parse_flag
from nixops_proxmox.pve.wire.refusals import WrongPlace

LOOK_AGE = 0.5  # seconds that one look at a VM's configuration serves: a step's look and its act
TRUST = 120.0  # seconds for which we believe to know a VM's node; before it is touched, it is looked at all the same
LONGEST_MAKING = 4 * 3600.0  # seconds; as long as a task is waited for
CREATION_TIME = 120.0  # seconds for a VM that is being made to show whose it is, when no task works on it

REMAINS_OF = ("qmrestore",)  # the tasks that leave an empty VM when they fail
EMPTY = frozenset({"memory", "digest"})  # what PVE keeps of it


@dataclass(frozen=True)
class _Known:
    """What this process itself has seen or done of a VM. `power` only if we did it."""

    node: str
    uuid: str = ""
    verified: float = float("-inf")
    power: Power | None = None
    since: float = float("-inf")


class VmFinder:
    """Finds our VMs on one cluster, for all threads."""

    def __init__(
        self,
        client: PveClient,
        view: ClusterView,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        busy: float = CREATION_TIME,
        kind: GuestKind = VMS,
    ) -> None:
        """`busy`: seconds to wait for a VM that is locked while it is created, though no task seems to work on it."""
        self._kind = kind
        self._client, self._view, self._clock, self._sleep, self._busy = client, view, clock, sleep, busy
        self._lock = threading.Lock()  # guards what follows
        self._known: dict[int, _Known] = {}
        self._ours: dict[int, str] = {}  # VMIDs that were seen to be ours, and by which UUID
        self._reserved: set[int] = set()
        self._restores: dict[int, str] = {}  # by VMID the last restore that this process asked for
        self._remains: set[int] = set()  # VMIDs at which a restore of ours left an empty VM
        self._looks: dict[int, tuple[float, ConfigSeen]] = {}
        self._powers: dict[int, tuple[float, Power]] = {}

    def reserve(self, vmid: int) -> None:
        """This process chose the VMID: until a VM is asked for there, none can be ours."""
        with self._lock:
            self._reserved.add(vmid)

    def expect(self, vmid: int) -> None:
        """A VM is being asked for."""
        with self._lock:
            self._reserved.discard(vmid)

    def find_again(self, facts: Facts) -> Vm | None:
        """With a look at the cluster that begins now."""
        return self.look(facts, self._view.get_since(self._clock()), last=False)

    def find(self, facts: Facts, *, power: bool = True) -> Vm | None:
        """Our VM, wherever it is now. None only if the cluster says for certain that no guest of ours has that VMID.
        Without `power`, it does not ask whether the VM runs, and asks the cluster only if the VM has moved."""
        if not facts.vmid or not facts.uuid or self._is_only_reserved(facts):
            return None
        if not power and facts.node:
            try:
                return self._find_where_it_was(facts)
            except WrongPlace:
                self.forget(facts.vmid)
            except PveUnreachable:
                pass  # its node may be dead, and HA may have taken it elsewhere
        return self.look(facts, self._view.get(VIEW_AGE), last=False)

    def _find_where_it_was(self, facts: Facts) -> Vm | None:
        """A cluster has a VMID once, so what has it there is ours, or ours is gone."""
        with self._lock:
            known = self._known.get(facts.vmid)
        node = known.node if known is not None else facts.node
        seen = self._read_ours(facts, node)
        return None if seen is None else self._as_vm(facts, node, seen, None)

    def _is_only_reserved(self, facts: Facts) -> bool:
        """This process chose the VMID and has not asked for a VM yet: nothing can carry our UUID there."""
        with self._lock:
            return facts.vmid in self._reserved

    def look(self, facts: Facts, seen: ClusterResources, *, last: bool) -> Vm | None:
        guest = seen.guests.get(facts.vmid)
        known = self._recent(facts.vmid, seen.taken)
        node = known.node if known is not None else guest.node if guest is not None else ""
        if not node:
            return self._look_for_absent(facts, last=last)
        if known is None and guest is not None and guest.kind != self._kind.type:
            return None  # of the other kind: it is not the one that we look for
        try:
            seen_config = self._read_ours(facts, node)
        except WrongPlace:
            self.forget(facts.vmid)
            if last:
                raise
            return self.look(facts, self._view.get_since(self._clock()), last=True)
        if seen_config is None:
            return None
        power = self._power_of(facts, node, guest if known is None else None, known)
        return self._as_vm(facts, node, seen_config, power)

    def _read_ours(self, facts: Facts, node: str) -> ConfigSeen | None:
        """The configuration of what has the VMID there. None: it is not ours."""
        seen = self._read(facts, node)
        if not self._kind.is_ours(seen.values, facts.uuid):
            return None
        with self._lock:
            self._ours[facts.vmid] = facts.uuid
            previous = self._known.get(facts.vmid, _Known(node))
            self._known[facts.vmid] = replace(previous, node=node, uuid=facts.uuid, verified=self._clock())
        return seen

    def _recent(self, vmid: int, taken: float) -> _Known | None:
        """What we did ourselves so lately that the cluster's figures may not show it."""
        with self._lock:
            known = self._known.get(vmid)
        return known if known is not None and known.power is not None and known.since + LAG > taken else None

    def _read(self, facts: Facts, node: str) -> ConfigSeen:
        """The configuration. Waits while the VM is being made and does not yet say whose it is."""
        with self._lock:
            at, cached = self._looks.get(facts.vmid, (float("-inf"), None))
        if cached is not None and self._clock() - at < LOOK_AGE:
            return cached
        began = self._clock()
        deadline, makers = began + self._busy, None
        while True:
            now = self._clock()
            seen = self._client.get_pending(node, facts.vmid)
            if not _is_being_made(seen):
                break
            # PVE claims a VMID with nothing but `lock: create`. The UUID comes when the disks are there.
            if now > deadline:
                # a task that began after this wait did not set the lock, so the makers only become fewer
                working = self._makers(seen, facts.vmid)
                makers = working if makers is None else makers & working
            if now > began + LONGEST_MAKING or (makers is not None and not makers):
                raise PveBusy(
                    f"VM {facts.vmid} on {node} has been locked ({seen.values.get('lock')}) for a long time",
                    hint=f"if no task works on it (its node crashed): `qm unlock {facts.vmid}` or `qm destroy` there",
                )
            self._sleep(1.0 if now <= deadline else 5.0)
        with self._lock:
            self._looks[facts.vmid] = (now, seen)
        return seen

    def _makers(self, seen: ConfigSeen, vmid: int) -> frozenset[str]:
        """The tasks that may be making this VM now. Large images and full clones take long. A clone's task runs on the
        template's node, under the template's VMID, so any clone may be ours."""
        is_clone, kinds = seen.values.get("lock") == "clone", self._kind.makers
        cloning = f"{self._kind.prefix}clone"
        nodes = [node.name for node in self._view.get(VIEW_AGE).nodes if node.online]
        listed = (
            task
            for node in nodes
            for task in self._client.list_tasks(node, kind=cloning if is_clone else "", vmid=None if is_clone else vmid)
        )
        wanted = (cloning,) if is_clone else kinds
        return frozenset(task.upid for task in listed if task.running and task.type in wanted)

    def _look_for_absent(self, facts: Facts, *, last: bool) -> Vm | None:
        """It is not in the list. Lists are filtered by permission, nextid is not."""
        if self._client.is_vmid_free(facts.vmid):
            return None
        if not last:
            return self.look(facts, self._view.get_since(self._clock()), last=True)
        node = facts.node or next((node.name for node in self._view.get(VIEW_AGE).nodes if node.online), "localhost")
        try:
            self._client.get_config(node, facts.vmid)  # 403 names what is missing
        except WrongPlace as error:
            raise self._hidden(facts) from error
        raise self._hidden(facts)

    def _hidden(self, facts: Facts) -> PermissionDenied:
        return PermissionDenied(
            f"a guest with VMID {facts.vmid} exists, but we may not see it",
            path=f"/vms/{facts.vmid}",
            privileges=("VM.Audit",),
            hint=f"grant VM.Audit on /vms/{facts.vmid} (or its pool): without it, we cannot tell whether it is ours",
        )

    def _power_of(self, facts: Facts, node: str, guest: GuestSeen | None, known: _Known | None) -> Power:
        if known is not None and known.power is not None:
            return known.power
        if guest is not None and guest.status == "running":
            return Power.RUNNING
        # "stopped" may be 10 s old, and "unknown" is what a new or a paused VM is called
        return self._power_now(node, facts.vmid)

    def _as_vm(self, facts: Facts, node: str, seen: ConfigSeen, power: Power | None) -> Vm:
        values = seen.values
        return Vm(
            facts.vmid,
            node,
            self._kind.uuid_of(values) or facts.uuid,
            power,
            dict(values),
            seen.pending,
            values.get("lock", ""),
            bool(parse_flag(values.get("protection", "0"))),
            dict(seen.active),
        )

    def _power_now(self, node: str, vmid: int) -> Power:
        """Asked once for each look, like the configuration."""
        with self._lock:
            at, power = self._powers.get(vmid, (float("-inf"), Power.STOPPED))
        now = self._clock()
        if now - at >= LOOK_AGE:
            power = self.live_power(node, vmid)
            with self._lock:
                self._powers[vmid] = (now, power)
        return power

    def live_power(self, node: str, vmid: int) -> Power:
        return Power.RUNNING if self._client.get_status(node, vmid).running else Power.STOPPED

    def note_restore(self, vmid: int, upid: str) -> None:
        """This process has asked for a restore."""
        with self._lock:
            self._restores[vmid] = upid

    def find_remains(self, facts: Facts) -> str:
        """The node where a restore of ours failed: PVE leaves an empty VM there, without a mark. Empty: there is none.

        The record names the task, and nothing is in that VM, so it is taken for ours."""
        with self._lock:
            lately = self._restores.get(facts.vmid)
        task = find_upid(lately or facts.extra.get(FAILED_RESTORE) or facts.task)
        if task is None or task.type not in REMAINS_OF or task.id != str(facts.vmid):
            return ""
        guest = self._view.get_since(self._clock()).guests.get(facts.vmid)
        if guest is None or guest.kind != VMS.type or guest.node != task.node:
            return ""
        if not _is_empty(self._client.get_config(guest.node, facts.vmid)):
            return ""
        with self._lock:
            self._remains.add(facts.vmid)
        return guest.node

    def node_of(self, facts: Facts) -> str:
        """The node where our VM is. Looks again when the last look is old. NotFound if there is none of ours."""
        with self._lock:
            known = self._known.get(facts.vmid)
        if known is not None and known.uuid == facts.uuid and self._clock() - known.verified < TRUST:
            return known.node
        vm = self.find(facts)
        if vm is None:
            raise NotFound(f"{self._kind.word} {facts.vmid} with our mark ({facts.uuid}) is not on the cluster")
        return vm.node

    def known_vmids(self) -> set[int]:
        """The VMIDs of VMs that have proved to be ours."""
        with self._lock:
            return set(self._ours)

    def prove(self, node: str, vmid: int) -> None:
        """Check, right before something is done to it, that the VM is still ours. Raises NotFound if it is not."""
        with self._lock:
            uuid, may_be_empty = self._ours.get(vmid, ""), vmid in self._remains
        seen = self._client.get_config(node, vmid)
        if self._kind.is_ours(seen.values, uuid) or (may_be_empty and _is_empty(seen)):
            return
        self.forget(vmid)
        raise NotFound(
            f"{self._kind.word} {vmid} on {node} does not carry our mark ({uuid or 'it never was looked at'}):"
            " it belongs to somebody else now, and we did nothing to it",
            hint="run the same command again; it says what you can do",
        )

    def learn(self, facts: Facts, node: str, power: Power) -> None:
        """We did this ourselves: the cluster's figures may show it only seconds later."""
        now = self._clock()
        verified = now if facts.uuid else float("-inf")
        with self._lock:
            if facts.uuid:
                self._ours[facts.vmid] = facts.uuid
            self._known[facts.vmid] = _Known(node, facts.uuid, verified, power, now)
            self._drop(facts.vmid)

    def forget(self, vmid: int) -> None:
        with self._lock:
            self._known.pop(vmid, None)
            self._drop(vmid)

    def drop_look(self, vmid: int) -> None:
        with self._lock:
            self._drop(vmid)

    def _drop(self, vmid: int) -> None:
        self._looks.pop(vmid, None)
        self._powers.pop(vmid, None)


def _is_being_made(seen: ConfigSeen) -> bool:
    """It is locked while it is created, and perhaps nothing yet says whose it is."""
    return seen.values.get("lock") in ("create", "clone")


def _is_empty(seen: ConfigSeen) -> bool:
    return not set(seen.values) - EMPTY
