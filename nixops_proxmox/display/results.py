"""What verbs found, on stdout: for people, or as one JSON value. Each returns the exit status of its verb."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import DeployError
from nixops_proxmox.messages import checks, entries, places, recoverable
from nixops_proxmox.messages.explaining import explain
from nixops_proxmox.messages.findings import finding_json, finding_lines
from nixops_proxmox.messages.groups import by_hypervisor, heading
from nixops_proxmox.messages.lines import Line
from nixops_proxmox.messages.plans import (
    by_danger,
    changing_line,
    closing,
    describe,
    describe_removal,
    plans_json,
)
from nixops_proxmox.messages.reading import read_on
from nixops_proxmox.messages.resources import describe_resource, resource_json
from nixops_proxmox.messages.resources import has_change as resource_changes
from nixops_proxmox.messages.resources import is_well as resources_is_well
from nixops_proxmox.messages.shapes import machines as shapes
from nixops_proxmox.messages.shapes import setup
from nixops_proxmox.messages.volumes import has_change, plan_line
from nixops_proxmox.model import Effect, Finding, Level, Phase
from nixops_proxmox.spelling import recalled

if TYPE_CHECKING:
    from nixops_proxmox.core.table import AnyLifecycle
    from nixops_proxmox.operations import Checked, Deployed, Planned, Recoverable, Removal
    from nixops_proxmox.operations.keeping import VolumeShown
    from nixops_proxmox.operations.resources import ResourceShown
    from nixops_proxmox.operations.rolling import Rollout
    from nixops_proxmox.state import JournalEntry

NOT_AS_IT_SHOULD_BE = 1
CHANGES = 10  # of `plan --check` and `check`: a deploy would do something


def tell_changing(screen: Screen, deployed: "Deployed", names: Sequence[str]) -> None:
    """Name the machines whose systems are built, before they are."""
    with screen.busy("evaluating the systems"):
        changing = deployed.changing(names)
    if changing:
        screen.say(changing_line(changing, len(names)))


def agree_with_care(screen: Screen, deployed: "Deployed", names: Sequence[str], *, yes: bool) -> bool:
    """Where a hypervisor asks for a word before its machines and resources are changed, show what would be done, and
    ask. Nothing is asked if nothing would be done."""
    with screen.busy("looking at what will be done"):
        asking = deployed.asking(names)
        resources = deployed.asking_resources()
        planned = deployed.plan(asking) if asking else []
        planned = [one for one in planned if one.effect not in (Effect.NOTHING, Effect.WAITS)]
    if not planned and not resources:
        return True
    if not yes:
        show_plans(screen, planned, (), (), resources, as_json=False)
    profiles = sorted({deployed.profile_of(one.name) for one in planned} | {one.profile for one in resources})
    agreed = screen.ask(f"do this on {', '.join(profiles)}?", yes=yes)
    if agreed:
        deployed.agree()
    return agreed


def show_plans(
    screen: Screen,
    planned: "Sequence[Planned]",
    removals: "Sequence[Removal]",
    volumes: "Sequence[VolumeShown]" = (),
    resources: "Sequence[ResourceShown]" = (),
    *,
    as_json: bool,
    check: bool = False,
    rollouts: "Sequence[Rollout]" = (),
) -> int:
    """`removals`: machines that are recorded and no longer described; `volumes`, `resources`: all of them. `check`: an
    exit status of its own says that something is not as described. `rollouts`: which machines wait for others."""
    planned = by_danger(planned)
    if as_json:
        screen.json(plans_json(planned, removals, volumes, resources, rollouts))
    else:
        groups = by_hypervisor(planned, lambda plan: plan.hypervisor)
        for name, theirs in groups.items():
            if len(groups) > 1:
                screen.result(heading(name, len(theirs)))
            for plan in theirs:
                if plan.placement is not None:
                    _show_placement(screen, plan)
                screen.sentences(describe(plan, in_full=plan.placement is not None))
        for removal in removals:
            screen.sentences(describe_removal(removal))
        for volume in volumes:
            screen.sentences([plan_line(volume)])
        for one in resources:
            screen.sentences(describe_resource(one))
        screen.sentences(closing(planned, removals, volumes, resources, rollouts) if planned or resources else ())
    found = [*(plan.error for plan in planned), *(one.error for one in resources)]
    errors = [error for error in found if error is not None]
    for error in errors:
        screen.show(explain(error))
    screen.show(read_on(errors))
    if errors:
        return errors[0].exit_status
    changes = any(plan.effect is not Effect.NOTHING or plan.hooks for plan in planned) or any(map(has_change, volumes))
    return CHANGES if check and (changes or any(map(resource_changes, resources))) else 0


def _show_placement(screen: Screen, plan: "Planned") -> None:
    found, exists = plan.placement, plan.phase not in (Phase.ABSENT, Phase.RESERVED)
    if found is not None:
        screen.result(places.place_line(found, exists=exists))
        screen.table(places.HEADS, [places.place_row(one, exists=exists) for one in found.nodes])


def show_checks(
    screen: Screen, checked: "Sequence[Checked]", resources: "Sequence[ResourceShown]" = (), *, as_json: bool
) -> int:
    if as_json:
        found: shapes.ChecksJson = {
            "machines": [checks.check_json(one) for one in checked],
            "resources": [resource_json(one) for one in resources],
        }
        screen.json(found)
    else:
        screen.table(checks.HEADS, [checks.check_row(one) for one in checked], phases=1)
        screen.sentences(line for one in checked for line in checks.check_remarks(one))
        for one in resources:
            screen.sentences(describe_resource(one))
    if any(map(checks.has_drifted, checked)) or any(map(resource_changes, resources)):
        return CHANGES
    well = all(map(checks.is_well, checked)) and all(map(resources_is_well, resources))
    return 0 if well else NOT_AS_IT_SHOULD_BE


def show_findings(screen: Screen, findings: Sequence[Finding], errors: Sequence[DeployError], *, as_json: bool) -> int:
    """`errors`: those among the findings. The first one says the exit status."""
    if as_json:
        screen.json(setup.FindingsJson(findings=[finding_json(finding) for finding in findings]))
    else:
        for finding in findings:
            screen.result_lines(finding_lines(finding), fit=True)
    if not any(one.level is Level.PROBLEM for one in findings):
        return 0
    return errors[0].exit_status if errors else NOT_AS_IT_SHOULD_BE


def show_history(screen: Screen, found: "Sequence[JournalEntry]", *, in_full: bool, as_json: bool) -> int:
    """`in_full`: with errors and tasks, of the last entry or (-v) of all."""
    found = [replace(entry, error=screen.spell(recalled(entry.error))) for entry in found]
    if as_json:
        screen.json(shapes.HistoryJson(history=[entries.entry_json(entry) for entry in found]))
        return 0
    if not found:
        screen.say("nothing has happened yet")
        return 0
    mixed = len({entry.kind for entry in found}) > 1
    screen.table(entries.entry_heads(found), [entries.entry_row(entry, with_kind=mixed) for entry in found])
    for entry in found if in_full else ():
        told = [f"  {line}" for line in (*entry.error.splitlines(), *entry.tasks)]
        if told and (screen.verbosity or entry is found[-1]):
            screen.result_lines([Line(f"{entries.entry_moment(entry)} {entry.label}:"), *map(Line, told)])
    return 0


def show_recoverable(screen: Screen, found: "Sequence[Recoverable]", *, as_json: bool) -> None:
    if as_json:
        screen.json(setup.RecoverablesJson(found=[recoverable.recoverable_json(one) for one in found]))
        return
    if found:
        screen.table(recoverable.HEADS, [recoverable.recoverable_row(one) for one in found], phases=4)
    for line in (line for one in found for line in recoverable.recoverable_remarks(one)):
        screen.warn(line)


def show_lifecycle(screen: Screen, lifecycle: "AnyLifecycle", *, as_mermaid: bool, as_json: bool) -> int:
    from nixops_proxmox.core.diagram import mermaid, table
    from nixops_proxmox.messages.table import lifecycle_json

    if as_json:
        screen.json(lifecycle_json(lifecycle))
    else:
        text = (mermaid if as_mermaid else table)(lifecycle)
        screen.result_lines([Line(line) for line in text.rstrip("\n").split("\n")])
    return 0
