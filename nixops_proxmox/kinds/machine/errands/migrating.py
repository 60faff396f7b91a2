"""The machine's VM taken to another node."""

from collections.abc import Mapping
from dataclasses import replace

from typing_extensions import override

from nixops_proxmox.errors import PveRefused
from nixops_proxmox.kinds.machine.errand import Errand, with_volumes
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.hardware import get_vm
from nixops_proxmox.model import Facts, Machine, Transfer

TO = "to"


class Migrate(Errand):
    """Migrate the machine to another node"""

    task = "qmigrate"

    def __init__(self, target: str = "") -> None:
        """`target` empty: the best node that nothing forbids."""
        self.subject, self._target = f"({target})" if target else "", target

    @override
    def remember(self, world: World, machine: Machine) -> Mapping[str, str]:
        return {TO: self._find_way(world, machine, self._target).target}

    @override
    def already(self, world: World, machine: Machine) -> Facts | None:
        vm = get_vm(world, machine)
        if vm.node != machine.facts.errand[TO] or vm.lock:
            return None
        return with_volumes(world, replace(machine.facts, node=vm.node))

    @override
    def do(self, world: World, machine: Machine, attempt: Attempt) -> Facts:
        """Safe to repeat: a machine that is there by now is not migrated; PVE migrates one VM once at a time."""
        found = self.already(world, machine)
        if found is not None:
            return found
        way = self._find_way(world, machine, machine.facts.errand[TO])
        world.hypervisor.moves.migrate(machine.facts, way, attempt.note_task)
        found = self.already(world, attempt.thing)
        if found is None:
            where = get_vm(world, machine).node
            raise PveRefused(
                f"{machine.name}: PVE migrated it to {way.target}, but it is on {where}",
                hint="does HA take it elsewhere? its rules and its status in PVE say so",
            )
        return found

    def _find_way(self, world: World, machine: Machine, target: str) -> Transfer:
        way = world.hypervisor.moves.foresee(machine.facts, world.spec, target)
        refuse_blocked(machine.name, way)
        return way


def refuse_blocked(name: str, way: Transfer) -> None:
    if way.blocked:
        raise PveRefused(
            f"{name}: it cannot migrate from {way.source} to {way.target}: {'; '.join(way.blocked)}",
            hint="remove what forbids it, or choose another node",
        )
