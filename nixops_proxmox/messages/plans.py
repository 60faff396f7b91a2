"""What a deploy would do, for people and for programs."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from nixops_proxmox.errors import OnOtherHypervisor, Unrecorded
from nixops_proxmox.messages.amounts import amount, duration, growth
from nixops_proxmox.messages.places import place_json
from nixops_proxmox.messages.reading import find_place
from nixops_proxmox.messages.resources import has_change as resource_changes
from nixops_proxmox.messages.resources import how_many, resource_json
from nixops_proxmox.messages.shapes import plan as plan_shapes
from nixops_proxmox.messages.volumes import is_new, volume_json
from nixops_proxmox.model import Change, Effect, Phase, When
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import shown_line

if TYPE_CHECKING:
    from nixops_proxmox.kinds.machine.laid_out import LayoutChange
    from nixops_proxmox.nixeval.closure import PackageChange
    from nixops_proxmox.nixeval.rehearsal import Rehearsal, Units
    from nixops_proxmox.operations import Planned, Removal
    from nixops_proxmox.operations.keeping import VolumeShown
    from nixops_proxmox.operations.resources import ResourceShown
    from nixops_proxmox.operations.rolling import Rollout

NAMED = 12  # packages or units
EVERYTHING = 1 << 30
UNITS = {  # what becomes of units
    "restarts": "restarts",
    "stops": "stops",
    "reloads": "reloads",
    "starts": "starts",
    "keeps": "changes, but does not restart",
}
FORGETS = "not with systemd-boot: its VM has no EFI disk (`efi`), so it becomes what boots at once"
SNAPSHOT = "take a snapshot of its disks before the switch, and remove it when the new system is confirmed"
FORMAT = 1  # of the JSON; docs/json.md describes it
EFFECTS = {  # what the footer calls them, except those that are refused
    Effect.RECREATE: "recreated",
    Effect.REINSTALL: "reinstalled",
    Effect.RESTART: "restarted",
    Effect.CHANGE: "changed",
    Effect.NEW: "new",
    Effect.GO_ON: "continued",
    Effect.WAITS: "waiting for a restart",
    Effect.NOTHING: "unchanged",
}


def by_danger(plans: "Sequence[Planned]") -> "list[Planned]":
    """What cannot be done first, then what loses most; within that as they were."""
    order = list(Effect)
    return sorted(plans, key=lambda plan: -1 if plan.error is not None else order.index(plan.effect))


def changing_line(changing: Sequence[str], count: int) -> str:
    """Name the machines that get another system, before it is built. `count`: of how many."""
    named = ", ".join(islice(changing, NAMED)) + (f" and {len(changing) - NAMED} more" if len(changing) > NAMED else "")
    rest = count - len(changing)
    others = (
        "" if not rest else "; 1 machine keeps what it has" if rest == 1 else f"; {rest} machines keep what they have"
    )
    return f"a new system for {named}{others}"


def describe(plan: "Planned", *, in_full: bool = False) -> list[str]:
    """`in_full`: nothing is left out, and of each change it is said what becomes of it."""
    if isinstance(plan.error, Unrecorded):
        return [f"{plan.name}: on the cluster, but not in the record; a deploy would stop here"]
    if isinstance(plan.error, OnOtherHypervisor):
        return [
            f"{plan.name}: {plan.phase}, and not where it is described; {command(Verb.MOVE, plan.name)} takes it there"
        ]
    if plan.error is not None:
        return [f"{plan.name}: {plan.phase}; it cannot be deployed as it is"]
    waits = [f"{plan.lock}; a deploy waits for that"] if plan.lock else []
    layout = [plan.layout.told(plan.name)] if plan.layout is not None else []
    stays = [*plan.stays, *plan.notes, *layout, *([plan.seal] if plan.seal else [])]
    if not plan.moves and not plan.changes and not plan.system:
        here = f"{plan.name}: {plan.phase}, {'nothing else' if plan.hooks else 'nothing'} to do"
        return [here, *(f"  {line}" for line in (*waits, *plan.hooks, *stays))]
    first = [SNAPSHOT] if plan.snapshot else []
    lines = [f"{plan.name}: {_summary(plan)}", *(f"  {line}" for line in (*waits, *plan.moves, *first, *plan.hooks))]
    if plan.phase is Phase.RESCUE:
        lines.insert(1, f"  [only {command(Verb.DEPLOY, '--allow-reboot')} boots its own system]")
    for change in plan.changes:
        lines += [f"  {describe_change(change)}", *(f"    {line}" for line in _explain_change(change) if in_full)]
    lines += [f"  ~ {line}" for line in plan.grows]
    lines += [f"  {line}" for line in stays]
    return [*lines, *_describe_system(plan, EVERYTHING if in_full else NAMED)]


def _describe_system(plan: "Planned", most: int) -> list[str]:
    if not plan.system:
        return []
    lines = (*_packages(plan, most), *_boots(plan), *_units(plan.units, most))
    return [f"  system: {plan.system}", *(f"    {line}" for line in lines)]


def _packages(plan: "Planned", most: int) -> list[str]:
    found = plan.difference
    if found is None:
        return []
    size = f"{_grown(found.growth)}, at most {amount(found.bytes_to_copy)} to copy"
    count = len(found.packages)
    told = "no package changes" if not count else "1 package changes" if count == 1 else f"{count} packages change"
    lines = [f"{told}{size}", *(describe_package(change) for change in islice(found.packages, most))]
    more = len(found.packages) - most
    return [*lines, f"… and {more} more ({command(Verb.PLAN, f'--why {plan.name}')} has all)"] if more > 0 else lines


def _boots(plan: "Planned") -> list[str]:
    """What of the system waits for a boot."""
    found = plan.difference
    if found is None:
        return []
    when = "with the restart" if plan.restart else "at the next restart"
    lines = [f"{when}: {', '.join(map(shown_line, found.later))}"] if found.later else []
    if found.refused and plan.restart:
        lines.append(f"cannot go live: {', '.join(map(shown_line, found.refused))}; the restart boots it")
    elif found.refused:
        why = ", ".join(map(shown_line, found.refused))
        lines += [
            f"cannot go live: {why}; a deploy leaves it to the next boot and says so,"
            f" then {command(Verb.REBOOT, plan.name)} boots it"
        ]
    if lines and plan.restart and plan.tried:
        lines.append("boot, then reboot: it is booted once, and becomes what boots when that boot is confirmed")
        lines += [FORGETS] if plan.forgets else []
    return lines


def _units(found: "Rehearsal | None", most: int) -> list[str]:
    if found is None:
        return []
    if found.units is None:
        asks = f"; {command(Verb.PLAN, '--copy')} copies it and asks the machine" if found.absent else ""
        return [f"units: unknown, because {shown_line(found.why)}{asks}"]
    named = [(verb, getattr(found.units, verb)) for verb in UNITS]
    return [f"{UNITS[verb]} {_some(names, most)}" for verb, names in named if names] or ["no unit is touched"]


def _some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown_line, names[:most])) + more


def describe_package(change: "PackageChange") -> str:
    before, after = (shown_line(", ".join(versions)) or "(none)" for versions in (change.before, change.after))
    return f"{shown_line(change.name)} {before} → {after}{_grown(change.growth)}"


def _grown(count: int) -> str:
    return f", {text}" if (text := growth(count)) else ""


def _summary(plan: "Planned") -> str:
    here = plan.phase.value
    match plan.effect:
        case Effect.REFUSED:
            return f"{here}, it cannot be changed like this; a deploy changes nothing and says why"
        case Effect.RECREATE:
            return f"{here}, a new VM is created; the data on the old disks is lost"
        case Effect.REINSTALL:
            return f"{here}, it is installed again{_away(plan)}"
        case Effect.NEW:
            return f"new, on {shown_line(plan.node)}" if plan.node else "new"
        case Effect.RESTART:
            times = "twice" if plan.twice else "once"
            return f"{here}, it restarts {times}: {', '.join(map(shown_line, plan.restart))}{_away(plan)}"
        case Effect.CHANGE if plan.phase is Phase.STOPPED:
            return f"{here}, it is started"
        case Effect.CHANGE:
            later = [shown_line(change.key) for change in plan.changes if change.when is When.RESTART]
            return f"{here}, it changes without a restart" + (f"; {', '.join(later)} at the next one" if later else "")
        case Effect.GO_ON if plan.phase in (Phase.DRIFTED, Phase.RUNNING):
            return f"{here}, nothing differs; a deploy looks whether it is ready"
        case Effect.WAITS:
            return f"{here}, nothing to do before the next restart"
    return here


def _away(plan: "Planned") -> str:
    if not plan.restart:
        return ""
    return f" (down for about {duration(plan.downtime)}, as the last time)" if plan.downtime else " (down: unknown)"


def describe_change(change: Change) -> str:
    """Its values are others' words, of one line; our remedy has a line of its own."""
    sign = "~" if change.have and change.want else "+" if change.want else "-"
    have, want = (shown_line(value) or "(none)" for value in (change.have, change.want))
    return f"{sign} {change.key}: {have} → {want}  {_note(change)}"


def _note(change: Change) -> str:
    match change.when:
        case When.NEVER:
            return f"[cannot be changed: {change.forbidden}]{_remedy(change)}"
        case When.PERMISSION:
            return f"[needs your permission: {change.permission}]{_remedy(change)}"
        case When.RESTART if change.stops:
            return f"[needs a stop: {change.reason}; {command(Verb.DEPLOY, '--allow-reboot')} stops and starts it]"
        case When.RESTART if change.waiting:
            return f"[waits for a restart: {command(Verb.DEPLOY, '--allow-reboot')}]"
        case When.RESTART:
            return f"[at the next restart: {change.reason}]"
    return "[live]"


def _explain_change(change: Change) -> list[str]:
    """What becomes of it, in a sentence."""
    match change.when:
        case When.NEVER | When.PERMISSION:
            return []  # its own line says all
        case When.RESTART if change.stops:
            return ["it is done between the stop and the start of a restart"]
        case When.RESTART if change.waiting:
            return ["Proxmox VE has the new value, and the running VM has the old one until it is stopped and started"]
        case When.RESTART if change.restart:
            allowed = command(Verb.DEPLOY, "--allow-reboot")
            return [f"a deploy writes it, and it waits until the VM is stopped and started; {allowed} does that"]
        case When.RESTART:
            return ["the VM gets it when it starts"]
    return ["it takes effect at once, while the VM runs"]


def _remedy(change: Change) -> str:
    return f"\n{change.remedy}" if change.remedy else ""


def describe_removal(removal: "Removal") -> list[str]:
    """A machine that is not described any more, and what the deploy that removes it does."""
    machine = removal.machine
    lines = [f"{machine.name}: no longer in the description; {command(Verb.DEPLOY, '--remove')} destroys it"]
    lines += [f"  {line}" for line in what_goes(removal)]
    return lines


def what_goes(removal: "Removal") -> list[str]:
    """What destroying a machine takes and leaves, a line each."""
    facts = removal.machine.facts
    profile = f" ({facts.profile})" if facts.profile else ""
    vm = (
        f"VM {facts.vmid} on {facts.node}{profile}, with all of its disks" if facts.vmid else "its record; it has no VM"
    )
    lines = [f"destroyed: {vm}", *(f"destroyed: {line}" for line in removal.losses)]
    return [*lines, *(f"kept: {line}" for line in removal.spared)]


def closing(
    plans: "Sequence[Planned]",
    removals: "Sequence[Removal]",
    volumes: "Sequence[VolumeShown]",
    resources: "Sequence[ResourceShown]",
    rollouts: "Sequence[Rollout]",
) -> list[str]:
    """In which order, and the footer."""
    return [*map(describe_order, rollouts), footer(plans, removals, volumes, resources)]


def footer(
    plans: "Sequence[Planned]",
    removals: "Sequence[Removal]",
    volumes: "Sequence[VolumeShown]" = (),
    resources: "Sequence[ResourceShown]" = (),
) -> str:
    """How many machines of which effect, how many new volumes, how many other resources that change, and who is away
    for how long."""
    counted = Counter(plan.effect if plan.error is None else Effect.REFUSED for plan in plans)
    parts = [f"{counted[effect]} {EFFECTS[effect]}" for effect in EFFECTS if counted[effect]]
    refused = counted[Effect.REFUSED]
    parts += [f"{refused} that cannot be deployed"] if refused else []
    parts += [f"{len(removals)} no longer described"] if removals else []
    new = sum(map(is_new, volumes))
    parts += [f"{new} new {'volume' if new == 1 else 'volumes'}"] if new else []
    changing = sum(map(resource_changes, resources))
    parts += [f"{how_many(changing)} to make or change"] if changing else []
    down = [f"{plan.name} {duration(plan.downtime) if plan.downtime else 'unknown'}" for plan in plans if plan.restart]
    return f"{', '.join(parts)}. Downtime: {', '.join(down) or 'none'}."


def change_json(change: Change) -> plan_shapes.ChangeJson:
    return {
        "key": change.key,
        "have": change.have,
        "want": change.want,
        "when": change.when.value,
        "reason": change.reason,
        "restart": change.restart,
        "waiting": change.waiting,
        "forbidden": change.forbidden,
        "permission": change.permission,
        "remedy": change.remedy,
    }


def layout_json(change: "LayoutChange | None") -> plan_shapes.LayoutJson | None:
    return None if change is None else {"have": change.have, "want": change.want}


def plan_json(plan: "Planned") -> plan_shapes.MachinePlanJson:
    return {
        "machine": plan.name,
        "phase": plan.phase.value,
        "effect": plan.effect.value if plan.error is None else "refused",
        "moves": list(plan.moves),
        "hooks": list(plan.hooks),
        "changes": [change_json(change) for change in plan.changes],
        "restart": list(plan.restart),
        "restarts": 2 if plan.twice else 1 if plan.restart else 0,
        "downtime": plan.downtime,
        "hypervisor": plan.hypervisor,
        "node": plan.node,
        "placement": None if plan.placement is None else place_json(plan.placement),
        "packages": None if plan.difference is None else [_package_json(one) for one in plan.difference.packages],
        "bytes to copy": None if plan.difference is None else plan.difference.bytes_to_copy,
        "growth": None if plan.difference is None else plan.difference.growth,
        "at the next restart": None if plan.difference is None else list(plan.difference.later),
        "cannot go live": None if plan.difference is None else list(plan.difference.refused),
        "system": plan.system,
        "units": None if plan.units is None or plan.units.units is None else _units_json(plan.units.units),
        "units unknown": None if plan.units is None or plan.units.units is not None else plan.units.why,
        "disks in the guest": list(plan.grows),
        "stays": list(plan.stays),
        "notes": list(plan.notes),
        "layout": layout_json(plan.layout),
        "seal": plan.seal,
        "snapshot": plan.snapshot,
        "lock": plan.lock or None,
        "error": None if plan.error is None else plan.error.message,
        "more": find_place(plan.error),
    }


def _package_json(change: "PackageChange") -> plan_shapes.PackageJson:
    return {
        "name": change.name,
        "before": list(change.before),
        "after": list(change.after),
        "growth": change.growth,
    }


def _units_json(units: "Units") -> plan_shapes.UnitsJson:
    return {
        "restarts": list(units.restarts),
        "stops": list(units.stops),
        "reloads": list(units.reloads),
        "starts": list(units.starts),
        "keeps": list(units.keeps),
    }


def plans_json(
    plans: "Sequence[Planned]",
    removals: "Sequence[Removal]",
    volumes: "Sequence[VolumeShown]" = (),
    resources: "Sequence[ResourceShown]" = (),
    rollouts: "Sequence[Rollout]" = (),
) -> plan_shapes.PlansJson:
    return {
        "format": FORMAT,
        "machines": [plan_json(plan) for plan in plans],
        "no longer described": [removal.machine.name for removal in removals],
        "removals": [_removal_json(removal) for removal in removals],
        "volumes": [volume_json(volume) for volume in volumes],
        "resources": [resource_json(one) for one in resources],
        "order": [_rollout_json(one) for one in rollouts],
    }


def describe_order(rollout: "Rollout") -> str:
    """Which machines of a group are changed beside each other, and when the rest is left alone."""
    batches = [_some(batch, NAMED) for batch in rollout.batches]
    group = f"the group {rollout.group}" if rollout.group else "the machines without a group"
    stops = rollout.max_failures + 1
    failures = f"{stops} failure{'s' * (stops > 1)}"
    first = " of others, or one of the first" if rollout.canaries and stops > 1 else ""
    return f"order of {group}: {', then '.join(batches)}; no more begin after {failures}{first}"


def _rollout_json(rollout: "Rollout") -> plan_shapes.RolloutJson:
    return {
        "group": rollout.group or None,
        "batches": [list(batch) for batch in rollout.batches],
        "canaries": rollout.canaries,
        "max failures": rollout.max_failures,
    }


def _removal_json(removal: "Removal") -> plan_shapes.RemovalJson:
    facts = removal.machine.facts
    return {
        "machine": removal.machine.name,
        "phase": removal.machine.phase.value,
        "vmid": facts.vmid or None,
        "node": facts.node or None,
        "also destroyed": list(removal.losses),
        "kept": list(removal.spared),
    }
