"""What the engine does for machines: it takes them through their table, and does errands beside it."""

from collections.abc import Callable
from dataclasses import replace

from nixops_proxmox.core import engine
from nixops_proxmox.core.engine import TASK, OpenAttempt, at_rest, do_step, never, wait_for_errand
from nixops_proxmox.errors import DeployError, Retry
from nixops_proxmox.kinds.machine.errand import RAN, WHAT, Errand
from nixops_proxmox.kinds.machine.lives import life_of
from nixops_proxmox.kinds.machine.plans import Plan
from nixops_proxmox.kinds.machine.ports import Journal
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.model import Machine, Phase


def pursue(
    goal: Phase,
    machine: Machine,
    world: World,
    journal: Journal,
    *,
    enough: Callable[[Machine], bool] = never,
) -> Machine:
    """Take one durable move after another until `machine` is in `goal`, or `enough` says that it may stop there."""
    way = world.spec.install.source
    return engine.pursue(life_of(world.spec), goal, machine, world, journal, way=way, enough=enough)


def carry_out(
    plan: Plan, machine: Machine, world: World, journal: Journal, *, enough: Callable[[Machine], bool] = never
) -> Machine:
    """Reach the goals of a plan that was drawn up just now, or stop where `enough` says that it may."""
    return engine.carry_out(life_of(world.spec), plan, machine, world, journal, enough=enough)


def run_errand(errand: Errand, machine: Machine, world: World, journal: Journal) -> Machine:
    """Do one act beside the table, or go on with it if an earlier run was killed in the middle of it."""
    wait_for_errand(world, machine)
    begun = machine.facts.errand.get(WHAT) == errand.what
    memory = machine.facts.errand if begun else errand.remember(world, machine)
    began = world.clock.now()
    world.reporter.step(machine, errand.what, machine.phase)
    key = journal.begin(machine, errand.what, machine.phase)
    attempt = OpenAttempt(journal, machine, key)
    try:
        attempt.note(replace(attempt.facts, errand={**memory, WHAT: errand.what, TASK: errand.task}))
        facts = do_step(errand, world, attempt, begun=begun)
        machine = attempt.thing.moved(attempt.thing.phase, facts)
        machine = machine.moved(errand.lands(world, machine), at_rest(facts))
    except DeployError as error:
        if error.retry is Retry.NEVER:  # it is over: the next time it is asked for, it begins at the beginning
            kept = {RAN: "yes"} if attempt.facts.errand.get(RAN) == "yes" else {}
            attempt.note(replace(attempt.facts, task="", errand=kept))
        journal.fail(key, error)
        raise
    journal.commit(key, machine)
    world.reporter.done(machine, errand.what, world.clock.now() - began)
    return machine
