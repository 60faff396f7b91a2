"""The only code that changes a phase: one durable move after another."""

from collections.abc import Callable
from dataclasses import replace

from nixops_proxmox.errors import DeployError, NoPath, NotFound, PveError, Retry, TaskFailed
from nixops_proxmox.lifecycle.errand import RAN, TASK, WHAT, Errand
from nixops_proxmox.lifecycle.ports import Journal
from nixops_proxmox.lifecycle.shape import Move, Step, World, label
from nixops_proxmox.lifecycle.table import LIFECYCLE
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.spelling import Verb, command

TURNS = 5  # how often a run may be turned back before it gives up: a taken VMID, a guest restarted under us
LOOKS = 3  # how often a step whose outcome is unknown is looked at again
PAUSE = 2.0  # seconds before looking again


class _Attempt:
    """Notes facts in the journal while a step is at work."""

    def __init__(self, journal: Journal, machine: Machine, key: int) -> None:
        self._journal, self._machine, self._key = journal, machine, key

    @property
    def machine(self) -> Machine:
        return self._machine

    @property
    def facts(self) -> Facts:
        return self._machine.facts

    def note(self, facts: Facts) -> None:
        self.doubt(self._machine.phase, facts)

    def doubt(self, phase: Phase, facts: Facts) -> None:
        self._machine = self._machine.moved(phase, facts)
        self._journal.note(self._key, self._machine)

    def note_task(self, upid: str) -> None:
        self.note(replace(self.facts, task=upid))


def pursue(
    goal: Phase,
    machine: Machine,
    world: World,
    journal: Journal,
    *,
    enough: Callable[[Machine], bool] = lambda _: False,
) -> Machine:
    """Take one durable move after another until `machine` is in `goal`, or `enough` says that it may stop there."""
    wait_for_errand(world, machine)
    machine = _look(world, journal, machine)
    turns = 0
    while machine.phase is not goal and not enough(machine):
        move = LIFECYCLE.next_move(machine, goal, world.spec.install.source)
        before = machine
        machine = _take(move, machine, world, journal)
        if machine.phase is not move.to:
            turns += 1
            if turns > TURNS:
                raise NoPath(
                    f"{machine.name}: turned back {turns} times, the last time from {before.phase}: giving up",
                    hint=f"{command(Verb.HISTORY, machine.name)} shows what happened each time",
                )
    return machine


def run_errand(errand: Errand, machine: Machine, world: World, journal: Journal) -> Machine:
    """One act beside the table; goes on with it if `machine` was left in the middle of the same one."""
    wait_for_errand(world, machine)
    begun = machine.facts.errand.get(WHAT) == errand.what
    memory = machine.facts.errand if begun else errand.remember(world, machine)
    began = world.clock.now()
    world.reporter.step(machine, errand.what, machine.phase)
    key = journal.begin(machine, errand.what, machine.phase)
    attempt = _Attempt(journal, machine, key)
    try:
        attempt.note(replace(attempt.facts, errand={**memory, WHAT: errand.what, TASK: errand.task}))
        facts = _carry_out(errand, world, attempt, begun=begun)
        machine = attempt.machine.moved(attempt.machine.phase, facts)
        machine = machine.moved(errand.lands(world, machine), replace(facts, task="", errand={}))
    except DeployError as error:
        if error.retry is Retry.NEVER:  # it is over: the next time it is asked for, it begins at the beginning
            kept = {RAN: "yes"} if attempt.facts.errand.get(RAN) == "yes" else {}
            attempt.note(replace(attempt.facts, task="", errand=kept))
        journal.fail(key, error)
        raise
    journal.commit(key, machine)
    world.reporter.done(machine, errand.what, world.clock.now() - began)
    return machine


def wait_for_errand(world: World, machine: Machine) -> None:
    """Wait for the task of an errand that nobody waits for any more: in the middle of it, a look could see anything."""
    errand = machine.facts.errand
    if not errand:
        return
    running = world.hypervisor.find_task(machine.facts, errand[TASK]) if errand.get(TASK) else ""
    for task in dict.fromkeys((machine.facts.task, running)):  # a run may have been killed before it noted the UPID
        _finish_task(world, machine.moved(machine.phase, replace(machine.facts, task=task)))


def _look(world: World, journal: Journal, machine: Machine) -> Machine:
    seen = LIFECYCLE.look(world, machine)
    if seen.phase is not machine.phase:
        journal.record(seen, f"seen: it is {seen.phase}, not {machine.phase}")
    return seen


def _take(move: Move, machine: Machine, world: World, journal: Journal) -> Machine:
    """One move: look, act, and commit phase and facts in one transaction with the end of the attempt."""
    began = world.clock.now()
    world.reporter.step(machine, label(move.step), move.to)
    key = journal.begin(machine, label(move.step), move.to)
    attempt = _Attempt(journal, machine, key)
    try:
        facts = _carry_out(move.step, world, attempt, expected=lambda error: move.turn(error) is not None)
    except DeployError as error:
        turn = move.turn(error)
        if turn is None:
            journal.fail(key, error)
            raise
        world.reporter.warn(machine, f"{error.message}: back to {turn}")
        machine = machine.moved(turn, replace(attempt.facts, task="", errand={}))
    else:
        machine = machine.moved(move.to, replace(facts, task="", errand={}))
    journal.commit(key, machine)
    world.reporter.done(machine, label(move.step), world.clock.now() - began)
    return machine


def _carry_out(
    step: Step,
    world: World,
    attempt: _Attempt,
    *,
    begun: bool = True,
    expected: Callable[[DeployError], bool] = lambda _: False,
) -> Facts:
    """Look, then act; an outcome that is unknown is looked up, and the call made again only if it left no trace.
    What was not `begun` before is not looked for: what is there is of somebody else, or of another time."""
    for look in range(1, LOOKS + 1):
        begun = begun or look > 1
        _finish_task(world, attempt.machine)
        if look > 1:
            wait_for_errand(world, attempt.machine)
        try:
            facts = step.already(world, attempt.machine) if begun else None
            return facts if facts is not None else step.do(world, attempt.machine, attempt)
        except DeployError as error:
            if expected(error) or error.retry is not Retry.LOOK_FIRST or look == LOOKS:
                raise
            world.reporter.warn(attempt.machine, f"{error.message}: looking what became of it")
            world.clock.sleep(PAUSE)
    raise AssertionError("unreachable: the last look returns or raises")


def _finish_task(world: World, machine: Machine) -> None:
    """Wait for the PVE task that an earlier try left behind; what it did, the step's own look will tell."""
    if not machine.facts.task:
        return
    world.reporter.detail(machine, "waiting for a task that was started earlier")
    try:
        world.hypervisor.wait_for_task(machine.facts.task)
    except (TaskFailed, NotFound) as error:
        world.reporter.warn(machine, f"an earlier task did not succeed: {error.message}")
    except PveError as error:
        if error.retry is not Retry.LOOK_FIRST:
            raise
        world.reporter.warn(machine, error.message)
