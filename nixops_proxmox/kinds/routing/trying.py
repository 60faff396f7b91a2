"""Changes a router on trial: who answered before must answer after it, else it is taken back.

A change may cut us off from the router itself, or from machines behind it. So it lasts only when both were asked again.
"""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

from nixops_proxmox.core.ports import Clock
from nixops_proxmox.errors import DeployError, RouterCutOff, RouterError, RouterOutcomeUnknown
from nixops_proxmox.routers.routing import Comparison, Routing, TrialMode

PATIENCE = 40.0  # seconds until those who answered before must answer again
PAUSE = 4.0  # seconds before we look again
RESTART = 300.0  # seconds that a router's restart takes at most

LOOK = "look at the rules and routes of the plan"
HELP = {
    TrialMode.RESTART: "restart the router: the change was not saved, so that it has its old configuration then; "
    "with a command as `restart` in routers.toml, we do that",
    TrialMode.LASTS: "take the change back on the router itself: the plan says what it is",
}

Listener = tuple[str, int]  # address and port


@dataclass(frozen=True)
class Bed:
    """What a change needs. `machines`: by name, where they answer."""

    api: Routing
    clock: Clock
    machines: dict[str, Listener]
    probe: Callable[[Listener], bool]
    tell: Callable[[str], None]
    minutes: int
    title: str


def answering(bed: Bed) -> set[str]:
    """Those of the machines that answer now."""
    names = sorted(bed.machines)
    with ThreadPoolExecutor(max_workers=16) as pool:
        found = pool.map(bed.probe, [bed.machines[name] for name in names])
        return {name for name, answers in zip(names, found, strict=True) if answers}


def try_change(bed: Bed, change: Comparison, compare: Callable[[], Comparison]) -> None:
    """Change it, look who answers, and keep it or take it back. RouterCutOff: it was taken back, or a hint says how.
    `compare`: looks again how the router differs."""
    before = answering(bed)
    trial, doubt = _begin(bed, change)
    seen = _wait_for_answers(bed, before)
    if not seen.alive:
        _wait_for_its_return(bed, change, trial, compare)
    left = compare()
    if left.lines and seen.was_silent and trial is TrialMode.TIMER:
        bed.api.undo(change)
        raise RouterCutOff(f"{_cut(bed)}; it has taken it back", hint=LOOK)
    if left.lines and doubt is not None:
        raise doubt
    _judge(bed, change, left, trial, seen.silent)


def finish_earlier(bed: Bed) -> None:
    """A run was killed before its change was confirmed and kept. We can ask the router now, so that the change does not
    cut us off. Safe to repeat."""
    bed.tell("finishing what an earlier run began")
    bed.api.finish(bed.clock.sleep)


def _begin(bed: Bed, change: Comparison) -> tuple[TrialMode, RouterOutcomeUnknown | None]:
    """Whether it was done is seen later."""
    try:
        return bed.api.begin(change, bed.minutes), None
    except RouterOutcomeUnknown as error:
        bed.tell(f"{error.message}: looking whether it worked")
        return bed.api.trial, error


@dataclass(frozen=True)
class Answers:
    """`silent`: the machines that did not answer in time. `was_silent`: did the router not answer at some time?"""

    alive: bool
    silent: Sequence[str]
    was_silent: bool


def _wait_for_answers(bed: Bed, names: Collection[str]) -> Answers:
    """No machine is asked while the router itself is silent."""
    deadline, was_silent = bed.clock.now() + PATIENCE, False
    while True:
        alive = bed.api.is_alive()
        was_silent = was_silent or not alive
        silent = sorted(set(names) - answering(bed)) if alive else sorted(names)
        if (alive and not silent) or bed.clock.now() >= deadline:
            return Answers(alive, silent, was_silent)
        bed.tell("waiting for an answer of " + (", ".join(silent) if alive else bed.title))
        bed.clock.sleep(PAUSE)


def _judge(bed: Bed, change: Comparison, left: Comparison, trial: TrialMode, silent: Sequence[str]) -> None:
    """The router answers: the change is kept, or put back."""
    if left.lines:
        _take_back(bed, change, trial)
        raise RouterError(
            f"{bed.title}: it took the change, and does not have all of it: {left.lines[0]}",
            hint="its log says why: `show log` on a VyOS",
        )
    if silent:
        _take_back(bed, change, trial)
        raise RouterCutOff(
            f"{bed.title}: after the change, {', '.join(silent)} did not answer any more: it is as it was before",
            hint=f"{LOOK}; `verify` names the machines that must answer",
        )
    if trial is TrialMode.TIMER and not bed.api.confirm():
        raise RouterCutOff(
            f"{bed.title}: the time to confirm was over: it takes the change back, or has done so",
            hint="set `confirm` to more minutes",
        )
    bed.api.keep()


def _take_back(bed: Bed, change: Comparison, trial: TrialMode) -> None:
    """If this fails, a timer or a restart still takes it back."""
    bed.tell("putting back what was there before")
    bed.api.undo(change)
    if trial is TrialMode.TIMER:
        bed.api.confirm()


def _cut(bed: Bed) -> str:
    return f"{bed.title}: the change has cut us off from it"


def _wait_for_its_return(bed: Bed, change: Comparison, trial: TrialMode, compare: Callable[[], Comparison]) -> NoReturn:
    """It is silent. A timer may take only a part of it back."""
    if trial is TrialMode.TIMER:
        bed.tell(f"no answer: it takes the change back in {bed.minutes} min")
        if _comes_back(bed, bed.minutes * 60 + RESTART):
            told = _what_it_did(compare)
            bed.api.undo(change)
            raise RouterCutOff(f"{_cut(bed)}; it {told}", hint=LOOK)
        raise RouterCutOff(f"{_cut(bed)}, and it did not come back by itself", hint="look at its console")
    restart = bed.api.restart
    if trial is TrialMode.RESTART and restart is not None:
        bed.tell("no answer: restarting it")
        _restart(bed, restart)
        if _comes_back(bed, RESTART):
            raise RouterCutOff(f"{_cut(bed)}; it was restarted, and {_what_it_did(compare)}", hint=LOOK)
        raise RouterCutOff(f"{_cut(bed)}; it was restarted, and does not answer", hint="look at its console")
    raise RouterCutOff(f"{_cut(bed)}, and it does not take it back by itself", hint=HELP[trial])


def _restart(bed: Bed, restart: Callable[[], None]) -> None:
    try:
        restart()
    except RouterError as error:
        raise RouterCutOff(f"{_cut(bed)}; {error.message}", hint=HELP[TrialMode.RESTART]) from error


def _what_it_did(compare: Callable[[], Comparison]) -> str:
    return "has taken it back" if compare().lines else "answers again, and still has the change: it was not confirmed"


def _comes_back(bed: Bed, seconds: float) -> bool:
    """Safe to repeat: it only looks."""
    deadline = bed.clock.now() + seconds
    while bed.clock.now() < deadline:
        bed.clock.sleep(PAUSE)
        try:
            if bed.api.is_alive():
                return True
        except DeployError as error:
            bed.tell(error.message)
    return False
