"""What is true of one machine right now."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nixops_proxmox.messages.plans import change_json, describe_change

if TYPE_CHECKING:
    from nixops_proxmox.operations import Checked

WORDS = {True: "yes", False: "no", None: "?"}
HEADS = ("machine", "phase", "exists", "running", "reachable", "system")


def is_well(one: "Checked") -> bool:
    looks = (one.exists, one.running, one.reachable, one.system_ok)
    return False not in looks and not one.changes and not one.problems


def check_row(one: "Checked") -> list[str]:
    looks = (one.exists, one.running, one.reachable, one.system_ok)
    return [one.name, one.phase.value, *(WORDS[look] for look in looks)]


def check_remarks(one: "Checked") -> list[str]:
    lines = [f"{one.name}: {describe_change(change)}" for change in one.changes]
    lines += [f"{one.name}: {key} waits for a stop and start" for key in one.pending]
    return [*lines, *(f"{one.name}: {problem}" for problem in one.problems)]


def check_json(one: "Checked") -> dict[str, Any]:
    plain = vars(replace(one)).copy()
    plain["machine"] = plain.pop("name")
    return {
        **plain,
        "phase": one.phase.value,
        "changes": [change_json(change) for change in one.changes],
        "ok": is_well(one),
    }
