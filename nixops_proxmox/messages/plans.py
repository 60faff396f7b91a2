"""What a deploy would do to one machine."""

from typing import TYPE_CHECKING, Any

from nixops_proxmox.errors import Unrecorded
from nixops_proxmox.model import Change, Phase
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import shown_line

if TYPE_CHECKING:
    from nixops_proxmox.operations import Planned


def describe(plan: "Planned") -> list[str]:
    if isinstance(plan.error, Unrecorded):
        return [f"{plan.name}: on the cluster, but not in the record; a deploy would stop here"]
    if plan.error is not None:
        return [f"{plan.name}: {plan.phase}; it cannot be deployed as it is"]
    waits = [f"{plan.lock}; a deploy waits for that"] if plan.lock else []
    if not plan.moves and not plan.changes and not plan.system:
        return [f"{plan.name}: {plan.phase}, nothing to do", *(f"  {line}" for line in (*waits, *plan.stays))]
    lines = [f"{plan.name}: {plan.phase}", *(f"  {line}" for line in (*waits, *plan.moves))]
    if plan.phase is Phase.RESCUE:
        lines.insert(1, f"  [only {command(Verb.DEPLOY, '--allow-reboot')} boots its own system]")
    lines += [f"  {describe_change(change)}" for change in plan.changes]
    lines += [f"  {line}" for line in plan.stays]
    return [*lines, f"  system: {plan.system}"] if plan.system else lines


def describe_change(change: Change) -> str:
    """Its values are others' words, of one line; our remedy has a line of its own."""
    have, want = (shown_line(value) or "(none)" for value in (change.have, change.want))
    return f"{change.key}: {have} → {want}{_note(change)}"


def _note(change: Change) -> str:
    if change.forbidden:
        return f"  [cannot be: {change.forbidden}]{_remedy(change)}"
    if change.permission:
        return f"  [needs your permission: {change.permission}]{_remedy(change)}"
    if change.waiting:
        return f"  [waits for a restart: {command(Verb.DEPLOY, '--allow-reboot')}]"
    return "  [needs a restart]" if change.restart else ""


def _remedy(change: Change) -> str:
    return f"\n{change.remedy}" if change.remedy else ""


def change_json(change: Change) -> dict[str, Any]:
    return {
        "key": change.key,
        "have": change.have,
        "want": change.want,
        "restart": change.restart,
        "waiting": change.waiting,
        "forbidden": change.forbidden,
        "permission": change.permission,
        "remedy": change.remedy,
    }


def plan_json(plan: "Planned") -> dict[str, Any]:
    return {
        "machine": plan.name,
        "phase": plan.phase.value,
        "moves": list(plan.moves),
        "changes": [change_json(change) for change in plan.changes],
        "system": plan.system,
        "stays": list(plan.stays),
        "lock": plan.lock or None,
        "error": None if plan.error is None else plan.error.message,
    }
