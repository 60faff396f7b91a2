"""What the doors' verbs mean for one machine, in goals of the table. The same for every door."""

from collections.abc import Callable
from dataclasses import replace

from nixops_proxmox.core.engine import wait_for_errand
from nixops_proxmox.kinds.machine.engine import carry_out, pursue, run_errand
from nixops_proxmox.kinds.machine.errand import Errand
from nixops_proxmox.kinds.machine.errands.hooking import AFTER, BEFORE, DUE, RunHook, is_due, says_farewell
from nixops_proxmox.kinds.machine.errands.power import HardReboot, Reset
from nixops_proxmox.kinds.machine.lives import life_of
from nixops_proxmox.kinds.machine.plans import Plan, plan_deploy, plan_reinstall, refuse_rescue
from nixops_proxmox.kinds.machine.ports import Journal
from nixops_proxmox.kinds.machine.promises import Watched, find_promise, tell_broken
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.kinds.machine.steps.keeping import refuse_other_keepers
from nixops_proxmox.kinds.machine.wellness import wait_until_well
from nixops_proxmox.model import Machine, Phase


class Pursuit:
    """One machine, its world and its journal. `machine` is where it stands after the last goal. `begin` is called
    before anything is done to it, and may refuse."""

    def __init__(
        self,
        machine: Machine,
        world: World,
        journal: Journal,
        *,
        begin: Callable[[], None] = lambda: None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self.machine, self.world = machine, world
        self._journal, self._begin, self._leave = journal, begin, leave

    def to(self, goal: Phase, *, until: Phase | None = None) -> Machine:
        reached = until or goal
        before = self.machine
        if self.machine.phase is not goal:
            self._begin()
        try:
            self.machine = pursue(
                goal, self.machine, self.world, self._journal, enough=lambda machine: machine.phase is reached
            )
        finally:
            self._leave()
        return self._as_placed(before)

    def as_seen(self) -> Machine:
        """As the world shows it. It is recorded only when something follows."""
        wait_for_errand(self.world, self.machine)
        return life_of(self.world.spec).look(self.world, self.machine)

    def deploy(
        self,
        *,
        until: Phase | None = None,
        allow_recreate: bool = False,
        accept: Callable[[Plan, World], None] = lambda _plan, _world: None,
        hooks: bool = False,
    ) -> Machine:
        """Bring the machine to `ready` from any phase. Recreates a VM that is gone only with permission. `accept` may
        refuse the plan before anything is done. `hooks`: run the user's command that comes before a change."""
        if allow_recreate:
            self._allow(allow_recreate=True, lose_disks=True)
        plan = self._plan_deploy(accept)
        if hooks and plan.blocked is None and self._begin_with_hooks(plan):
            plan = self._plan_deploy(accept)
        machine = self.carry_out(plan, until=until)
        if not plan.moves and machine.phase is Phase.READY:  # nothing reached the system, which would have asked them
            refuse_other_keepers(self.world, machine)
        return machine

    def _plan_deploy(self, accept: Callable[[Plan, World], None]) -> Plan:
        wait_for_errand(self.world, self.machine)
        plan = plan_deploy(self.machine, self.world)
        if plan.blocked is None:
            accept(plan, self.world)
        refuse_rescue(plan, self.world)
        return plan

    def _begin_with_hooks(self, plan: Plan) -> bool:
        """Run what comes before a change, and note what comes after it. Where nothing is changed, nothing runs; and a
        machine that is not there yet needs no farewell. Whether anything was done."""
        known = self.world.hooks
        if known is None or not plan.moves:
            return False
        if says_farewell(plan.seen, known):
            self._begin()
            self.run(RunHook(BEFORE))
            return True
        if not known.has(AFTER) or is_due(self.machine):
            return False
        noted = self.machine.moved(self.machine.phase, replace(self.machine.facts, hooks=DUE))
        if noted.phase is Phase.ABSENT:
            self.machine = noted  # the first move records it
        else:
            self.record(noted, "it is changed: deploy.hooks.after is due")
        return True

    def end_with_hooks(self, *, prove: bool) -> Machine:
        """After a deploy: a machine that is ready is seen well, and the user's command that comes after a change runs,
        if it is due. `prove`: others wait for this machine, so it must be well in any case."""
        if self.machine.phase is not Phase.READY:
            return self.machine
        due = self.world.hooks is not None and is_due(self.machine)
        try:
            if prove or due:
                wait_until_well(self.world, self.machine)
        finally:
            self._leave()
        return self.run(RunHook(AFTER)) if due else self.machine

    def carry_out(self, plan: Plan, *, until: Phase | None = None) -> Machine:
        """A plan that was drawn up just now. What it promised is held against what happens."""
        if plan.moves:
            self._begin()
        promised, watched = find_promise(plan, self.world) if until is None else None, Watched(self._journal)
        try:
            self.machine = carry_out(
                plan, self.machine, self.world, watched, enough=lambda machine: machine.phase is until
            )
        finally:
            self._leave()
        tell_broken(self.machine, self.world, watched, promised=promised)
        return self._as_placed(plan.seen)

    def _as_placed(self, before: Machine) -> Machine:
        """Record where it is, if HA or somebody else has moved it: some verbs read only the record. `before`: as it was
        recorded when this began. What we have moved ourselves is recorded already."""
        facts, phase = self.machine.facts, self.machine.phase
        gone = phase in (Phase.ABSENT, Phase.RESERVED, Phase.LOST)
        if gone or facts.node != before.facts.node or facts.profile != self.world.spec.profile:
            return self.machine
        node = self.world.hypervisor.find_node(facts)
        if node is None or node == facts.node:
            return self.machine
        moved = self.machine.moved(phase, replace(facts, node=node))
        return self.record(moved, f"it is on {node} now; it was on {facts.node}")

    def _allow(self, **allowed: bool) -> None:
        self.world = replace(self.world, permissions=replace(self.world.permissions, **allowed))

    def reinstall(self) -> Machine:
        """Install again, with the same VMID, UUID, MACs and host key. An installation that has begun just goes on. The
        caller has told the user what will be lost."""
        self._allow(lose_disks=True)
        wait_for_errand(self.world, self.machine)
        return self.carry_out(plan_reinstall(self.machine, self.world))

    def reboot(self, *, hard: bool = False) -> Machine:
        """Shut down (with `hard`, switch off) and boot again. This also applies what waits for a restart."""
        if hard:
            self.run(HardReboot())
        else:
            self.to(Phase.STOPPED)
        return self.to(Phase.READY)

    def reset(self) -> None:
        """Switch off and on again, without waiting for the system."""
        self.run(Reset())

    def run(self, errand: Errand) -> Machine:
        """One act beside the table."""
        if errand.disturbs:
            self._begin()
        try:
            self.machine = run_errand(errand, self.machine, self.world, self._journal)
        finally:
            self._leave()
        return self.machine

    def record(self, machine: Machine, what: str) -> Machine:
        """Something that happened beside the table, such as a restored backup."""
        self._journal.record(machine, what)
        self.machine = machine
        return machine
