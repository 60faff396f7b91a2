"""The verb that takes a machine to another hypervisor, and goes on wherever an earlier run stopped."""

from collections.abc import Sequence
from typing import Any

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.errors import StateError
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.kinds.machine.errand import RAN
from nixops_proxmox.kinds.machine.errands.moving import Arrive, DropLeft, GoBack, Leave, refuse_two
from nixops_proxmox.kinds.machine.left import Left, find_left, with_left
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.kinds.names import MACHINE
from nixops_proxmox.model import Archive, Facts, Machine, Phase
from nixops_proxmox.operations.moving import (
    Passage,
    Sides,
    choose_place,
    find_there,
    foresee,
    placed,
    refuse_blocked,
    was_started,
)
from nixops_proxmox.operations.open_deployment import HARDWARE_AS_IT_IS, OpenDeployment
from nixops_proxmox.operations.recorded import where_it_is
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spelling import Verb, command

AS_DESCRIBED_THERE = Permissions()  # bridges and storages may have other names at the new place


class MoveVerb(OpenDeployment):
    """One deployment, whose machines may change their hypervisors."""

    def target_of(self, name: str, to: str = "") -> str:
        """The profile where it goes: as given, else where an unfinished move goes, else as described."""
        machine = self.record.machine(name)
        if to or find_left(machine.facts) is not None:
            return to or machine.facts.profile
        return self.spec(name).profile

    def is_elsewhere(self, name: str) -> bool:
        """It is not where it is described, or on its way."""
        machine = self.record.machine(name)
        have = machine.facts.profile
        return find_left(machine.facts) is not None or bool(have and self.spec(name).profile != have)

    def foresee_move(self, name: str, to: str = "", storage: str = "") -> Passage:
        """What `move` would do with the machine, and what forbids it. Only looks."""
        machine, to = self.record.machine(name), self.target_of(name, to)
        if machine.phase is Phase.ABSENT:
            raise StateError(
                f"{name}: it does not exist", hint=f"{command(Verb.DEPLOY)} makes it where it is described"
            )
        if machine.facts.profile == to and find_left(machine.facts) is None:
            return Passage(name, to, to)
        return foresee(self._sides(machine, to), machine, storage, self.volumes.attached(machine))

    def move(self, names: Sequence[str], to: str = "", storage: str = "") -> list[Outcome]:
        """Take machines to the hypervisor of that profile (default: as described). What they need there is made first,
        and what follows them afterwards, if that is where they are described."""

        def work(name: str, lease: Any) -> Machine:
            return self._move(name, lease, self.target_of(name, to), storage)

        described = [name for name in names if self.spec(name).profile == self.target_of(name, to)]
        wants = self._wants(names) if described == list(names) else None
        return self._each(names, work, wants=wants)

    def _move(self, name: str, lease: Any, to: str, storage: str) -> Machine:
        machine = self.record.machine(name)
        left = find_left(machine.facts)
        if left is None and machine.facts.profile == to:
            return machine
        for profile in (machine.facts.profile, to, *([] if left is None else [left.profile])):
            self._parts.care.refuse(name, profile)
        if left is not None and machine.facts.profile != to:
            return self._go_back(name, lease, left, to)
        if left is None:
            self._leave(name, lease, to, storage)
        return self._arrive(name, lease)

    def _sides(self, machine: Machine, to: str) -> Sides:
        spec = self.spec(machine.name).model_copy(update={"profile": to})
        return Sides(self._guests(machine, machine.facts.profile), self._guests(machine, to), spec, to)

    def _guests(self, machine: Machine, profile: str) -> PveHypervisor:
        """The hypervisor of a profile, for what the machine is."""
        return self._parts.guests_of(profile, container=machine.facts.container)

    def _leave(self, name: str, lease: Any, to: str, storage: str) -> None:
        """Afterwards, the machine is recorded at its new place, where it is only a backup yet."""
        pursuit = self._pursuit(name, lease, HARDWARE_AS_IT_IS)
        pursuit.machine = pursuit.as_seen()
        sides = self._sides(pursuit.machine, to)
        passage = foresee(sides, pursuit.machine, storage, self.volumes.attached(pursuit.machine))
        refuse_blocked(passage)
        old = pursuit.machine.facts

        def arrange(machine: Machine, archive: Archive) -> Facts:
            ran = machine.facts.errand[RAN] == "yes"
            there = find_there(sides, machine, archive, self._parts.clock)
            place = choose_place(sides, machine.facts, there)
            left = Left(old.profile, old.vmid, machine.facts.node, ran, there.volume, passage.disks, word=passage.word)
            return with_left(placed(machine.facts, sides, place), left)

        pursuit.run(
            Leave(
                to,
                passage.storage,
                let_go=lambda: self._let_go(name),
                started_since=lambda machine, since: was_started(sides.source, machine, since),
                arrange=arrange,
            )
        )

    def _let_go(self, name: str) -> None:
        """What wants the machine on its old hypervisor ends there."""
        for ref in self.resources.in_order_of_removal(self.resources.dependents(Ref(MACHINE, name))):
            self.resources.remove(ref)

    def _arrive(self, name: str, lease: Any) -> Machine:
        machine = self.record.machine(name)
        left = find_left(machine.facts)
        if left is None:
            return machine
        elsewhere, spec = self._guests(machine, left.profile), self._spec_there(machine)
        permissions = AS_DESCRIBED_THERE if name in self.described() else HARDWARE_AS_IT_IS
        pursuit = self._pursuit(name, lease, permissions, spec)
        if left.archive:
            archive = Archive(left.archive, machine.facts.node, 0, 0, ours=True)
            pursuit.machine = pursuit.as_seen()
            pursuit.run(Arrive(archive, left))
        refuse_two(elsewhere, pursuit.machine, left)
        pursuit.to(Phase.READY)  # it proves itself by its host key
        if not left.ran:
            pursuit.to(Phase.STOPPED)
        return pursuit.run(DropLeft(elsewhere, left))

    def _spec_there(self, machine: Machine) -> MachineSpec:
        return where_it_is(self.spec(machine.name), machine.facts)

    def _go_back(self, name: str, lease: Any, left: Left, to: str) -> Machine:
        if left.profile != to:
            raise StateError(
                f"{name}: its move from {left.profile} to {self.record.machine(name).facts.profile} has not come to"
                f" its end, so it cannot go to {to}",
                hint=f"{command(Verb.MOVE, name)} finishes it;"
                f" {command(Verb.MOVE, name, '--to', left.profile)} takes it back",
            )
        pursuit = self._pursuit(name, lease, HARDWARE_AS_IT_IS)
        pursuit.machine = pursuit.as_seen()
        pursuit.run(GoBack(self._guests(pursuit.machine, left.profile), left))
        back = self._pursuit(name, lease, HARDWARE_AS_IT_IS)
        return back.to(Phase.READY if left.ran else Phase.STOPPED)

    def finish_left(self, name: str, lease: Any) -> None:
        """Before a machine is destroyed: the VM that it left behind goes, too."""
        machine = self.record.machine(name)
        left = find_left(machine.facts)
        if left is not None:
            self._parts.care.refuse(name, left.profile)
            pursuit = self._pursuit(name, lease, HARDWARE_AS_IT_IS)
            pursuit.run(DropLeft(self._guests(machine, left.profile), left))
