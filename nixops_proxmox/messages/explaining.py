"""Errors and outcomes in words: what failed, why, and what to do. Pure: lines in, lines out."""

from collections.abc import Mapping, Sequence

from nixops_proxmox.errors import (
    BadParameter,
    CommandFailed,
    DeployError,
    NoEndpoint,
    NotBegun,
    PermissionDenied,
    Retry,
    TaskFailed,
)
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.messages.amounts import duration
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.messages.reading import read_on
from nixops_proxmox.model import Machine
from nixops_proxmox.secrecy import redact
from nixops_proxmox.texts import tail_lines

TAIL = 15  # lines of a log that are shown
ENDS = ("destroyed", "removed")  # goals that are the same for machines and resources


def explain(error: DeployError) -> list[Line]:
    """The error, what belongs to it, and its hint."""
    first, *rest = redact(error.message).splitlines() or [type(error).__name__]
    lines = [Line(f"error: {first}", "bold red"), *(Line(f"  {line}") for line in rest)]
    lines += [Line(f"  {text}", "dim") for text in _particulars(error)]
    if error.hint:
        first, *rest = error.hint.splitlines()
        lines += [Line(f"hint: {first}", "yellow"), *(Line(f"      {line}", "yellow") for line in rest)]
    return lines


def _particulars(error: DeployError) -> list[str]:
    match error:
        case TaskFailed():
            return [f"task {error.upid} ended with: {error.exit_status_text}", *tail_lines(error.log, TAIL)]
        case CommandFailed():
            return tail_lines(error.output.splitlines(), TAIL) if error.output else []
        case NoEndpoint():
            return list(error.attempts)
        case BadParameter():
            return [f"{name}: {text}" for name, text in error.errors.items() if text not in error.message]
        case PermissionDenied() if error.privileges and error.path and error.path not in error.message:
            return [f"needed: {', '.join(error.privileges)} on {error.path}"]
    return []


def explain_outcomes(
    outcomes: Sequence[Outcome], standing: Mapping[str, Machine], *, goal: str, seconds: float, command: str
) -> list[Line]:
    """The end of a run: a sentence if all went well, else each failure in full and how to go on. Resources are counted
    apart from machines.

    `standing`: what the record says now, by name. `command`: what the user typed.
    """
    broken = [(outcome, outcome.error) for outcome in outcomes if outcome.error is not None]
    failed = [(outcome, error) for outcome, error in broken if not isinstance(error, NotBegun)]
    waiting = [(outcome, error) for outcome, error in broken if isinstance(error, NotBegun)]
    phases = {name: machine.phase.value for name, machine in standing.items()}
    lines: list[Line] = []
    for outcome, error in failed:
        where = "" if outcome.kind else f" in phase {phases.get(outcome.name, 'absent')}"
        lines += [Line(f"{outcome.title} failed{where}", "bold"), *explain(error), Line("")]
    lines += [Line(redact(error.message)) for _, error in waiting] + [Line("")] * bool(waiting)
    machines, things = ([one for one in outcomes if bool(one.kind) is other] for other in (False, True))
    reached = [f"{_reached(machines, 'machine')} {goal}"] if machines or not things else []
    reached += [f"{_reached(things, 'resource')} {goal if goal in ENDS else 'as described'}"] if things else []
    lines.append(Line(f"{' and '.join(reached)} in {duration(seconds)}", "yellow" if broken else "green"))
    for word, some in (("failed", failed), ("not begun", waiting)):
        named = (one.title if one.kind else f"{one.name} ({phases.get(one.name, 'absent')})" for one, _ in some)
        lines += [Line(f"{word}: {', '.join(named)}", "red")] if some else []
    lines += read_on(error for _, error in failed)
    return [*lines, how_to_go_on([error for _, error in broken], command)] if broken else lines


def _reached(outcomes: Sequence[Outcome], noun: str) -> str:
    failed, total = sum(one.error is not None for one in outcomes), len(outcomes)
    return f"{f'{total - failed} of {total}' if failed else total} {noun}{'s' * (total != 1)}"


def how_to_go_on(errors: Sequence[DeployError], command: str) -> Line:
    passing = all(error.retry is not Retry.NEVER for error in errors)
    return Line(f"{'run' if passing else 'fix that, then run'} the same command to continue: {command}")


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """0, the status of the failures' family, or 1 if they are of several. What was not begun has not failed."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    failures = [error for error in errors if not isinstance(error, NotBegun)]
    statuses = {error.exit_status for error in failures or errors}
    if not statuses:
        return 0
    return statuses.pop() if len(statuses) == 1 else 1
