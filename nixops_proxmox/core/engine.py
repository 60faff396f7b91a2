"""The only code that changes a phase, of things of any kind: one durable move after another."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from nixops_proxmox.core.plan import Plan
from nixops_proxmox.core.ports import AnyWorld, Journal
from nixops_proxmox.core.table import Lifecycle, Move, Step, label
from nixops_proxmox.core.thing import AnyFacts, AnyThing
from nixops_proxmox.errors import DeployError, NoPath, NotFound, PveError, Retry, TaskFailed
from nixops_proxmox.spelling import Verb, command

TURNS = 5  # how often a run may be turned back before it gives up: a taken VMID, a guest restarted under us
LOOKS = 3  # how often a step whose outcome is unknown is looked at again
PAUSE = 2.0  # seconds before looking again
TASK = "task"  # in the facts' `errand`: the type of the PVE task that it starts

P = TypeVar("P")
W = TypeVar("W", bound=AnyWorld)
T = TypeVar("T", bound=AnyThing)
F = TypeVar("F", bound=AnyFacts)


def never(thing: AnyThing) -> bool:
    del thing
    return False


class OpenAttempt(Generic[T]):
    """Notes facts in the journal while a step is at work."""

    def __init__(self, journal: Journal[T], thing: T, key: int) -> None:
        self._journal, self._thing, self._key = journal, thing, key

    @property
    def thing(self) -> T:
        return self._thing

    @property
    def facts(self) -> Any:
        return self._thing.facts

    def note(self, facts: Any) -> None:
        self.doubt(self._thing.phase, facts)

    def doubt(self, phase: Any, facts: Any) -> None:
        self._thing = self._thing.moved(phase, facts)
        self._journal.note(self._key, self._thing)

    def note_task(self, upid: str) -> None:
        self.note(with_task(self.facts, upid))


def pursue(
    lifecycle: Lifecycle[Any, W, T, Any, Any],
    goal: P,
    thing: T,
    world: W,
    journal: Journal[T],
    *,
    way: str = "",
    enough: Callable[[T], bool] = never,
) -> T:
    """Take one durable move after another until the thing is in `goal`, or `enough` says that it may stop there."""
    wait_for_errand(world, thing)
    return _walk(lifecycle, goal, _look(lifecycle, world, journal, thing), world, journal, way, enough)


def carry_out(
    lifecycle: Lifecycle[Any, W, T, Any, Any],
    plan: Plan[W, T, Any, Any],
    thing: T,
    world: W,
    journal: Journal[T],
    *,
    enough: Callable[[T], bool] = never,
) -> T:
    """Reach the goals of a plan that was drawn up for this thing just now, one after another. Each begins with a look,
    and the first one uses the plan's own. `enough` may cut the last one short. Raises the NoPath of a blocked plan,
    after it has recorded what was seen, which is the reason."""
    _record_seen(journal, thing, plan.seen)
    if plan.blocked is not None:
        raise plan.blocked
    thing = plan.seen
    for leg in plan.legs:
        if leg is not plan.legs[0]:
            thing = _look(lifecycle, world, journal, thing)
        to_the_end = leg is not plan.legs[-1]
        thing = _walk(lifecycle, leg.goal, thing, world, journal, plan.way, never if to_the_end else enough)
    return thing


def _walk(
    lifecycle: Lifecycle[Any, W, T, Any, Any],
    goal: Any,
    thing: T,
    world: W,
    journal: Journal[T],
    way: str,
    enough: Callable[[T], bool],
) -> T:
    turns = 0
    while thing.phase is not goal and not enough(thing):
        move = lifecycle.next_move(thing, goal, way)
        before = thing
        thing = _take(move, thing, world, journal)
        if thing.phase is not move.to:
            turns += 1
            if turns > TURNS:
                raise NoPath(
                    f"{thing.name}: it went back {turns} times, the last time from {before.phase}; giving up",
                    hint=f"{command(Verb.HISTORY, thing.name)} shows what happened",
                )
    return thing


def _look(lifecycle: Lifecycle[Any, W, T, Any, Any], world: W, journal: Journal[T], thing: T) -> T:
    seen = lifecycle.look(world, thing)
    _record_seen(journal, thing, seen)
    return seen


def _record_seen(journal: Journal[T], thing: T, seen: T) -> None:
    """What a look showed, if the record says otherwise."""
    if seen.phase is not thing.phase:
        journal.record(seen, f"seen: it is {seen.phase}, not {thing.phase}")


def _take(move: Move[Any, W, T, Any], thing: T, world: W, journal: Journal[T]) -> T:
    """One move: look, act, and commit phase and facts in one transaction with the end of the attempt."""
    began = world.clock.now()
    world.reporter.step(thing, label(move.step), move.to)
    key = journal.begin(thing, label(move.step), move.to)
    attempt = OpenAttempt(journal, thing, key)
    try:
        facts = do_step(move.step, world, attempt, expected=lambda error: move.turn(error) is not None)
    except DeployError as error:
        turn = move.turn(error)
        if turn is None:
            journal.fail(key, error)
            raise
        world.reporter.warn(thing, f"{error.message}: back to {turn}")
        thing = thing.moved(turn, at_rest(attempt.facts))
    else:
        thing = thing.moved(move.to, at_rest(facts))
    journal.commit(key, thing)
    world.reporter.done(thing, label(move.step), world.clock.now() - began)
    return thing


def do_step(
    step: Step[W, T, F],
    world: W,
    attempt: OpenAttempt[T],
    *,
    begun: bool = True,
    expected: Callable[[DeployError], bool] = lambda _: False,
) -> F:
    """Look, then act. An outcome that is unknown is looked up, and the call made again only if it left no trace. If it
    was not `begun` before, do not look first: whatever is there is somebody else's, or of another time.

    Safe to repeat: we wait for the task that the lost call may have begun, and then the step looks first."""
    for look in range(1, LOOKS + 1):
        begun = begun or look > 1
        _finish_task(world, attempt.thing)
        if look > 1:
            wait_for_errand(world, attempt.thing)
        try:
            facts = step.already(world, attempt.thing) if begun else None
            return facts if facts is not None else step.do(world, attempt.thing, attempt)
        except DeployError as error:
            if expected(error) or error.retry is not Retry.LOOK_FIRST or look == LOOKS:
                raise
            world.reporter.warn(attempt.thing, f"{error.message}: looking whether it worked")
            world.clock.sleep(PAUSE)
    raise AssertionError("unreachable: the last look returns or raises")


def _finish_task(world: AnyWorld, thing: AnyThing) -> None:
    """Wait for the PVE task that an earlier try left behind. The step's own look will tell what it did."""
    if not thing.facts.task:
        return
    world.reporter.detail(thing, "waiting for a task that was started earlier")
    try:
        world.wait_for_task(thing.facts.task)
    except (TaskFailed, NotFound) as error:
        world.reporter.warn(thing, f"an earlier task did not succeed: {error.message}")
    except PveError as error:
        if error.retry is not Retry.LOOK_FIRST:
            raise
        world.reporter.warn(thing, error.message)


def wait_for_errand(world: AnyWorld, thing: AnyThing) -> None:
    """Wait for the task that an earlier run's errand left running, because a look in the middle of it could see
    anything."""
    errand = thing.facts.errand
    if not errand:
        return
    running = world.find_task(thing.facts, errand[TASK]) if errand.get(TASK) else ""
    for task in dict.fromkeys((thing.facts.task, running)):  # a run may have been killed before it noted the UPID
        _finish_task(world, thing.moved(thing.phase, with_task(thing.facts, task)))


def with_task(facts: Any, upid: str) -> Any:
    return replace(facts, task=upid)


def at_rest(facts: Any) -> Any:
    """The facts of a thing that no run works on."""
    return replace(facts, task="", errand={})
