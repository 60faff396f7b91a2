"""A new system on probation: the guest waits for our word, and we give it only for what we have seen.

Three witnesses: a new login over SSH, what the user declared as health, and the hypervisor's way into the guest, which
tells why SSH is dead. Whatever becomes of us, the guest keeps what we confirmed, and goes back from everything else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from secrets import token_hex

from nixops_proxmox.errors import (
    ConnectionLost,
    DeployError,
    NoEndpoint,
    NotConfirmed,
    SshUnreachable,
    SwitchRefused,
)
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.shape import Attempt, World
from nixops_proxmox.kinds.machine.steps.snapshot import offer_snapshot
from nixops_proxmox.model import Facts, Machine, Probation, ProbationState, ProbationVerdict
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import tail_lines

GRACE = 300.0  # seconds without a sign of the guest, beyond those that its probation takes
MOST = 3900.0  # seconds for an activation and the way back from it, as the guest limits them
PAUSE = 1.0  # seconds between two looks
LAST = 3  # when a probation has so few seconds left after another look, we refuse it: then the guest knows why
LINES = 8  # of a log
AGENT_EVERY = 5.0  # seconds between two questions to the hypervisor's agent

NUMBER, SYSTEM, BOOT, VERDICT, WHY = "number", "system", "boot", "verdict", "why"
S = ProbationState


def switch_on_probation(
    world: World, machine: Machine, attempt: Attempt, facts: Facts, system: str, generation: int | None = None
) -> Facts | None:
    """Take `system` into use. None: the guest runs nothing to go back to, and nothing was done. Raises NotConfirmed if
    it did not stay, and SwitchRefused if it waits for a boot. `generation`: the one that it is already."""
    number = token_hex(6)
    last = world.builder.find_probation(world.guest.system_shell(machine, world.spec))
    facts = replace(facts, probation={NUMBER: number, SYSTEM: system, BOOT: last.boot if last is not None else ""})
    attempt.note(facts)
    world.reporter.detail(machine, f"switching to it, on probation for {world.spec.deploy.probation} s")
    try:
        shell = world.guest.system_shell(machine, world.spec)
        seen = world.builder.begin_probation(system, shell, number, world.spec.deploy, generation)
    except ConnectionLost:
        world.reporter.detail(machine, "the connection broke: looking by new ones")
        seen = Probation(number, S.SWITCHING, system)
    if seen is None:
        attempt.note(replace(facts, probation={}))
        return None
    return _follow(world, machine, attempt, facts, seen)


def settle_probation(world: World, machine: Machine, attempt: Attempt, facts: Facts, wanted: str) -> Facts:
    """Find out what became of a probation that an earlier run began, and say it. One that still waits goes on if that
    system is wanted, and is refused if not."""
    number, system = facts.probation.get(NUMBER), facts.probation.get(SYSTEM, "")
    if not number:
        return facts
    shell = world.guest.system_shell(machine, world.spec)
    seen = _known(world, world.builder.find_probation(shell), facts.probation, shell)
    if seen is None:
        seen = Probation(number, S.SWITCHING, system)
    if seen.state is S.NONE:  # that run had not come to it
        return replace(facts, probation={})
    if seen.state.is_over:
        return _settled(world, machine, facts, seen)
    if system == wanted:
        world.reporter.detail(machine, f"going on with the probation of {system}")
        return _follow(world, machine, attempt, facts, seen)
    refused = world.builder.refuse_probation(shell, number, "another system is wanted by now")
    return _settled(world, machine, facts, refused or replace(seen, state=S.REVERTED))


def _settled(world: World, machine: Machine, facts: Facts, seen: Probation) -> Facts:
    """What an earlier run did not live to see."""
    verdict = _verdict(seen)
    why = f": {seen.why}" if seen.why else ""
    world.reporter.warn(machine, f"an earlier run took {seen.system} into use on probation; it is {verdict}{why}")
    told = _over(facts, seen, verdict)
    return (
        replace(told, system=seen.system, generation=seen.generation) if verdict is ProbationVerdict.CONFIRMED else told
    )


def _follow(world: World, machine: Machine, attempt: Attempt, facts: Facts, seen: Probation) -> Facts:
    watch = Watch(world, machine, facts.probation)
    seen = watch.follow(seen)
    if seen.state is S.NONE:
        raise SshUnreachable(f"{machine.name}: the connection broke before the probation of the new system was begun")
    if seen.state is S.NEXT_BOOT:
        attempt.note(replace(facts, probation={}))
        raise SwitchRefused(
            f"{machine.name}: {seen.system} takes effect only after a reboot, because NixOS cannot switch to it",
            hint=f"{command(Verb.REBOOT, machine.name)} restarts the machine; then run the same command again",
        )
    verdict = _verdict(seen)
    if verdict is ProbationVerdict.CONFIRMED:
        for unit in seen.units:
            world.reporter.warn(machine, f"{unit} failed; `deploy.failedUnits` accepts that")
        world.reporter.detail(machine, "confirmed")
        facts = _over(facts, seen, verdict)
        return replace(facts, system=seen.system, generation=seen.generation)
    if verdict is ProbationVerdict.STUCK and world.permissions.allow_reboot:
        seen, verdict = _restart(world, machine, attempt, seen)
    attempt.note(_over(facts, seen, verdict))
    raise _not_confirmed(machine, seen, verdict, watch, offer_snapshot(machine, facts))


def _over(facts: Facts, seen: Probation, verdict: ProbationVerdict) -> Facts:
    told = {SYSTEM: seen.system, VERDICT: verdict.value, WHY: seen.why}
    if verdict is ProbationVerdict.STUCK:  # the next run still has to find out
        told |= {NUMBER: facts.probation[NUMBER], BOOT: facts.probation.get(BOOT, "")}
    return replace(facts, probation={name: value for name, value in told.items() if value})


def _verdict(seen: Probation) -> ProbationVerdict:
    if seen.state is S.CONFIRMED:
        return ProbationVerdict.CONFIRMED
    if seen.state is not S.REVERTED:
        return ProbationVerdict.STUCK
    if not seen.number:
        return ProbationVerdict.BY_BOOT
    return ProbationVerdict.BY_US if seen.refused else ProbationVerdict.BY_GUEST


def _known(world: World, seen: Probation | None, begun: Mapping[str, str], shell: Shell) -> Probation | None:
    """That probation. Its state is NONE if it was not begun. A guest that knows it no more has booted since, and what
    it runs is what came of it."""
    number, system = begun[NUMBER], begun[SYSTEM]
    if seen is None or seen.number == number:
        return seen
    if seen.boot and seen.boot == begun.get(BOOT):
        return Probation(number, S.NONE, system)
    if world.builder.active_system(shell) == system:
        return Probation(number, S.CONFIRMED, system)
    return Probation("", S.REVERTED, system, why="the machine was restarted before it was confirmed")


@dataclass
class Watch:
    """Looks after one probation until it is over. Remembers what each witness said last."""

    world: World
    machine: Machine
    begun: Mapping[str, str]
    ssh: Sequence[str] = ()  # why there was no login
    ailments: Sequence[str] = ()
    agent: str = ""  # what the hypervisor's way into the guest told while SSH was dead
    _asked: float = field(default=float("-inf"))

    def follow(self, seen: Probation) -> Probation:
        """Until it is over, or the guest has given no sign for too long."""
        patience = self.world.spec.deploy.probation + GRACE
        until = self.world.clock.now() + patience
        most = until + MOST
        while not seen.state.is_over and seen.state is not S.NONE:
            found = self._look()
            if found is not None:
                seen, until = found, self.world.clock.now() + patience
            elif self.world.clock.now() > until:
                return replace(seen, state=S.STUCK, why=f"it has given no sign for {patience:.0f} s")
            if self.world.clock.now() > most:
                return replace(seen, state=S.STUCK, why=f"it is still {seen.state}")
        return seen

    def _look(self) -> Probation | None:
        began = self.world.clock.now()
        try:
            shell = self.world.guest.new_shell(self.machine, self.world.spec)
            seen = _known(self.world, self.world.builder.find_probation(shell), self.begun, shell)
            if seen is not None and seen.state is S.WAITING:
                self.ssh = ()
                return self._judge(shell, seen, began)
            if seen is not None and not (seen.alive or seen.state.is_over or seen.state is S.NONE):
                return self._wake(shell)
        except DeployError as error:
            self.ssh = error.attempts if isinstance(error, NoEndpoint) else [error.message]
            self.world.reporter.detail(self.machine, f"no login: {' · '.join(self.ssh)}")
            seen = self._ask_hypervisor()
        self.world.clock.sleep(PAUSE)
        return seen

    def _judge(self, shell: Shell, seen: Probation, began: float) -> Probation | None:
        """A login worked. The rest is up to what the user declared. `began`: when this look did."""
        self.ailments = self.world.guest.ailments(shell, self.machine, self.world.spec)
        if not self.ailments:
            self.world.reporter.detail(self.machine, "it answers and is well: confirming")
            return self.world.builder.confirm_probation(shell, self.begun[NUMBER])
        told = "; ".join(self.ailments)
        took = self.world.clock.now() - began
        if seen.left <= LAST + 2 * took:  # this look took some of it already, and the next one takes as much
            return self.world.builder.refuse_probation(shell, self.begun[NUMBER], told)
        self.world.reporter.detail(self.machine, f"not well yet: {told}")
        self.world.clock.sleep(PAUSE)
        return seen

    def _wake(self, shell: Shell) -> Probation | None:
        """Its supervisor was killed. Safe to repeat: what was begun is not begun again, and only goes on."""
        deploy = self.world.spec.deploy
        return self.world.builder.begin_probation(self.begun[SYSTEM], shell, self.begun[NUMBER], deploy)

    def _ask_hypervisor(self) -> Probation | None:
        """The third voice: it may tell what becomes of the probation, and why no login works."""
        if self.world.clock.now() < self._asked + AGENT_EVERY:
            return None
        self._asked = self.world.clock.now()
        try:
            voice = self.world.guest.voice(self.machine, self.world.spec)
            if voice is None:
                return None
            seen = self.world.builder.find_probation(voice)
            if seen is not None and not seen.state.is_over:  # of the new system, not of the one that is back
                self.agent = self.world.guest.complaints(voice)
        except DeployError as error:
            self.agent = self.agent or error.message
            return None
        return seen if seen is not None and seen.number == self.begun[NUMBER] else None


def _restart(world: World, machine: Machine, attempt: Attempt, seen: Probation) -> tuple[Probation, ProbationVerdict]:
    """The user allowed restarts. What boots is still the system before."""
    world.reporter.warn(machine, "the guest does not come back by itself: switching it off and on")
    world.hypervisor.stop_vm(machine.facts, attempt.note_task)
    world.hypervisor.start_vm(machine.facts, attempt.note_task)
    met = machine.moved(machine.phase, world.guest.meet_system(machine, world.spec))
    active = world.builder.active_system(world.guest.system_shell(met, world.spec))
    if not active or active == seen.system:
        return seen, ProbationVerdict.STUCK
    return replace(seen, previous=active, why=f"{seen.why}; we restarted the machine"), ProbationVerdict.BY_US


def _not_confirmed(
    machine: Machine, seen: Probation, verdict: ProbationVerdict, watch: Watch, more: Sequence[str]
) -> NotConfirmed:
    lines = [f"{machine.name}: {seen.system} does not stay ({verdict}): {seen.why or 'the guest does not say why'}"]
    lines += [f"ssh: {one}" for one in watch.ssh] + [f"health: {one}" for one in watch.ailments]
    lines += [f"agent: {one}" for one in tail_lines(watch.agent.splitlines(), LINES)] if watch.agent else []
    lines += [f"log: {one}" for one in tail_lines(seen.log.splitlines(), LINES)] if seen.log else []
    if verdict is ProbationVerdict.STUCK:
        hint = (
            f"it was not made the system that boots: {command(Verb.REBOOT, f'{machine.name} --hard')} brings back the "
            "one before"
        )
    else:
        again = f"it runs {seen.previous or 'the system before'} again"
        lines.append(f"{again}; that activation ended with status {seen.back}" if seen.back else again)
        hint = f"mend the description, then run {command(Verb.DEPLOY)}; the machine boots the system before, too"
    return NotConfirmed("\n".join([*lines, *more]), verdict=verdict.value, hint=hint)
