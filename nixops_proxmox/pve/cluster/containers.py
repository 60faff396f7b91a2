"""The containers of one PVE cluster as the core wants them. What a VM and a container have in common is inherited."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from typing_extensions import override

from nixops_proxmox.core.ports import NoteTask
from nixops_proxmox.core.upid import parse_upid
from nixops_proxmox.errors import NotFound, PveBusy, PveRefused, SpecError
from nixops_proxmox.model import Archive, Change, Facts, Machine, Place, Power, Vm
from nixops_proxmox.pve.api.answers import TaskListed
from nixops_proxmox.pve.api.containers import ContainerClient
from nixops_proxmox.pve.cluster.container_moves import ContainerMoves
from nixops_proxmox.pve.cluster.container_volumes import ContainerVolumeStore
from nixops_proxmox.pve.cluster.guest_kinds import CONTAINERS
from nixops_proxmox.pve.cluster.hypervisor import POWER_TIME, Creation, PveHypervisor
from nixops_proxmox.pve.cluster.saves import Saves
from nixops_proxmox.pve.cluster.templates import Templates
from nixops_proxmox.pve.vm.container import create_params, restored_volumes
from nixops_proxmox.pve.vm.container_diff import container_changes, container_update
from nixops_proxmox.pve.vm.diff import ConfigUpdate
from nixops_proxmox.pve.vm.identity import identity_of
from nixops_proxmox.pve.wire.properties import parse_properties, set_aside
from nixops_proxmox.pve.wire.refusals import VmNotRunning, VmRunning
from nixops_proxmox.spec import ContainerSpec, MachineSpec
from nixops_proxmox.spelling import Verb, command

KEY = "ssh_host_ed25519_key"
_TOLD = re.compile(rf"'{KEY}'.*\n(?:done: )?(SHA256:[A-Za-z0-9+/]{{43}}) ")
# What HA's manager is at when it will start what stands still, or stop what runs.
_STARTS = frozenset(("queued", "request_start", "starting", "started", "fence", "recovery", "migrate", "relocate"))
_UNDOES = {Power.STOPPED: _STARTS, Power.RUNNING: frozenset(("request_stop", "stopping"))}
NO_PROOF = "a container cannot become this machine from the backup of another: nothing would prove who answers"


def key_in(log: Sequence[str]) -> str:
    """What the task that made a container says of its host key, as "ssh-ed25519 SHA256:…". Empty: nothing."""
    found = _TOLD.search("\n".join(log))
    return f"ssh-ed25519 {found[1]}" if found else ""


class ContainerSaves(Saves):
    """As those of VMs, but that a restore names each volume: PVE would put all of them on one storage. So what is the
    storage of all disks for a VM has a storage for each key here, as PVE writes properties."""

    @override
    def _post_restore(self, facts: Facts, archive: Archive, storage: str, node: str, *, force: bool) -> str:
        config = self._client.get_archive_config(node, archive.volume)
        assert isinstance(self._client, ContainerClient)
        volumes = restored_volumes(config, parse_properties(storage))
        return self._client.restore_container(node, facts.vmid, archive.volume, volumes, force=force)


class ContainerHypervisor(PveHypervisor):
    """Satisfies `kinds.machine.ports.Hypervisor`, for containers."""

    def __init__(self, machines: PveHypervisor) -> None:
        """The parts of the cluster are one for both: places, files on storages, and how tasks are waited for."""
        vars(self).update(vars(machines))
        self._take_guests(ContainerClient(machines.unguarded.sender), CONTAINERS)
        self.saves = ContainerSaves(self.client, self._view, self._finder, self._work, CONTAINERS)
        places = (self._placer, self._clock, self._sleep)
        self.moves = ContainerMoves(self.client, self._view, self._finder, self._work, *places)
        templates = Templates(self.media, self.resources, self.wait_for_task)
        client = ContainerClient(machines.unguarded.sender)
        self.volume_store = ContainerVolumeStore(client, self._view, self._finder, self._work, templates)

    @property
    def host_api(self) -> ContainerClient:
        """What the node sees of a container."""
        assert isinstance(self.client, ContainerClient)
        return self.client

    # Making

    @override
    def _ask_for(self, spec: MachineSpec, machine: Machine, keys: Sequence[str], note: NoteTask) -> Creation:
        del note
        facts, container = machine.facts, _described(spec)
        params = create_params(spec, container, identity_of(machine), container.template, keys)
        post = partial(self.client.create_vm, facts.node, params)
        return Creation("vzcreate", facts.node, facts.vmid, post)

    @override
    def first_key(self, facts: Facts) -> str:
        """The host key that PVE made when it unpacked the template, as its task tells it."""
        node = self._finder.node_of(facts)
        for task in self._creations(facts, node):
            if task.running:
                self.wait_for_task(task.upid)
            key = key_in(self.client.task_log(parse_upid(task.upid).node, task.upid))
            if key:
                return key
        raise NotFound(
            f"container {facts.vmid}: the task that made it tells no host key, so we could not tell who answers",
            hint="the template must have a folder /etc/ssh, as that of `nix build .#container-template` has;"
            f" {command(Verb.DESTROY)} removes the container, and {command(Verb.DEPLOY)} makes it of another template",
        )

    def _creations(self, facts: Facts, node: str) -> Iterator[TaskListed]:
        """The newest first. The container may have been moved to another node since."""
        for where in dict.fromkeys((facts.node or node, node)):
            yield from self.client.list_tasks(where, vmid=facts.vmid, kind="vzcreate")

    # Power

    @override
    def _power(
        self, facts: Facts, note: NoteTask, kind: str, post: Callable[[str, int], str], goal: Power, patience: float = 0
    ) -> None:
        """PVE says at once, and in no task, that a container runs already, or does not run. HA may be about to change
        that, as it starts what has powered itself off: then it is waited for, and asked again.

        Safe to repeat: PVE starts no container that runs and stops none that is stopped."""
        deadline = self._clock() + POWER_TIME + patience
        while True:
            try:
                return super()._power(facts, note, kind, post, goal, patience)
            except (VmRunning, VmNotRunning):
                node = self._finder.node_of(facts)
                reached = self._is_reached(node, facts.vmid, goal)
                if not reached and self._clock() > deadline:
                    raise
            if reached and not self._will_be_undone(node, facts.vmid, goal):
                return self._finder.learn(facts, node, goal)
            if self._clock() > deadline:
                raise PveBusy(
                    f"container {facts.vmid} is {goal}, but HA wants it otherwise, and has done nothing for"
                    f" {POWER_TIME + patience:.0f} s",
                    hint="see the HA manager's status in PVE",
                )
            self._sleep(1.0)

    def _will_be_undone(self, node: str, vmid: int, goal: Power) -> bool:
        seen = self.client.get_status(node, vmid, poll=True)
        return seen.managed and seen.ha_state in _UNDOES[goal]

    # Changing

    @override
    def boots_installer(self, vm: Vm, spec: MachineSpec) -> bool:
        return False

    @override
    def runs_installer(self, vm: Vm) -> bool:
        return False

    @override
    def set_boot(self, vm: Vm, spec: MachineSpec, *, installer: bool) -> None:
        """A container boots what its root has."""

    @override
    def changes(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
        return (*container_changes(vm, spec, identity_of(machine)), *self._pools.find_change(vm, spec))

    @override
    def _update(self, vm: Vm, spec: MachineSpec, machine: Machine) -> ConfigUpdate:
        return container_update(vm, spec, identity_of(machine))

    @override
    def leftovers(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[str]:
        return [
            f"{key}: {volume} was detached and keeps its data; on its node, `pct set {vm.vmid} --delete {key}` deletes"
            " it, and so does destroying the container"
            for key, volume in set_aside(vm.config).items()
        ]

    @override
    def needs_stop(self, vm: Vm, spec: MachineSpec) -> Sequence[str]:
        return ()

    @override
    def strangers(self, vm: Vm, spec: MachineSpec, machine: Machine) -> Sequence[Change]:
        return ()

    @override
    def losses(self, vm: Vm, machine: Machine) -> Sequence[str]:
        return [f"{key}: {volume} (detached)" for key, volume in set_aside(vm.config).items()]

    @override
    def spared(self, vm: Vm) -> Sequence[str]:
        return ()

    @override
    def give_mark(self, machine: Machine, uuid: str) -> Vm:
        raise PveRefused(f"{machine.name}: {NO_PROOF}")

    @override
    def choose_place(self, spec: MachineSpec) -> Place:
        """Raises before anything is made, too, if nothing would tell an address."""
        self.refuse_unreachable(spec)
        return super().choose_place(spec)

    @override
    def refuse_unreachable(self, spec: MachineSpec) -> None:
        release = self.get_release()
        if not (release.can_look_into_containers or _has_known_address(spec)):
            raise SpecError(
                f"Proxmox VE {release} cannot tell which addresses a container has (8.0 can): we could not find it",
                path=f"{spec.name}.deployment.proxmox.network",
                hint="give a NIC a static address, or set endpoint.address to what its DHCP server gives it",
            )


def _described(spec: MachineSpec) -> ContainerSpec:
    if spec.container is None:
        raise SpecError("must be set: what is the container made of?", path=f"{spec.name}.deployment.proxmox.container")
    return spec.container


def _has_known_address(spec: MachineSpec) -> bool:
    """One that the description says, or a list from which the MAC was taken."""
    return bool(spec.endpoint.address) or any(nic.addresses for nic in spec.network)
