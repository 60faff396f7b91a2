"""What is true of one machine right now."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nixops_proxmox.messages.accepting import accepting_line, place_of
from nixops_proxmox.messages.plans import change_json, describe_change, layout_json
from nixops_proxmox.messages.shapes import machines as shapes
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import shown_line

if TYPE_CHECKING:
    from nixops_proxmox.operations import Checked
    from nixops_proxmox.operations.drift import Drift

WORDS = {True: "yes", False: "no", None: "?"}
HEADS = ("machine", "phase", "exists", "running", "reachable", "system")


def is_well(one: "Checked") -> bool:
    looks = (one.exists, one.running, one.reachable, one.system_ok)
    return False not in looks and not one.changes and not one.problems


def has_drifted(one: "Checked") -> bool:
    """Is something other than described, that a deploy would put right?"""
    return bool(one.changes) or one.system_ok is False


def check_row(one: "Checked") -> list[str]:
    looks = (one.exists, one.running, one.reachable, one.system_ok)
    return [one.name, one.phase.value, *(WORDS[look] for look in looks)]


def check_remarks(one: "Checked") -> list[str]:
    known = {drift.change.key: drift for drift in one.drift}
    lines: list[str] = []
    for change in one.changes:
        lines.append(f"{one.name}: {describe_change(change)}")
        if change.key in known:
            lines += [f"  {line}" for line in describe_origin(known[change.key], one.places)]
    lines += [f"{one.name}: {key} waits for a stop and start" for key in one.pending]
    lines += [f"{one.name}: {one.layout.told(one.name)}"] if one.layout is not None else []
    return [*lines, *(f"{one.name}: {problem}" for problem in one.problems)]


def describe_origin(drift: "Drift", places: Mapping[str, str]) -> Iterator[str]:
    """Who made the difference, and the two ways out. `places`: where the description says what."""
    undo = f"undo: {command(Verb.DEPLOY)}"
    match drift.origin.value:
        case "description":
            yield f"the description changed since the last deploy; {command(Verb.DEPLOY)} applies it"
        case "by hand":
            line = accepting_line(drift.change)
            place = place_of(line, places)
            accept = f"{place}: {line}" if place else line
            yield f"changed on the VM since the last deploy, {_by_whom(drift)}"
            yield f"{undo}   accept: {shown_line(accept)}" if accept else undo
        case _:
            yield undo


def _by_whom(drift: "Drift") -> str:
    if not drift.tasks:
        return "by whom is unknown: PVE keeps no task of a change that it makes at once"
    tasks = [
        f"{shown_line(task.user)}, {time.strftime('%F %H:%M', time.localtime(task.started))} ({shown_line(task.type)})"
        for task in drift.tasks
    ]
    return f"probably by {tasks[0]}" if len(tasks) == 1 else f"probably one of: {'; '.join(tasks)}"


def check_json(one: "Checked") -> shapes.MachineCheckJson:
    return {
        "machine": one.name,
        "phase": one.phase.value,
        "exists": one.exists,
        "running": one.running,
        "reachable": one.reachable,
        "system_ok": one.system_ok,
        "changes": [change_json(change) for change in one.changes],
        "drift": [_drift_json(drift, one.places) for drift in one.drift],
        "pending": list(one.pending),
        "layout": layout_json(one.layout),
        "problems": list(one.problems),
        "ok": is_well(one),
    }


def _drift_json(drift: "Drift", places: Mapping[str, str]) -> shapes.DriftJson:
    accept = accepting_line(drift.change)
    return {
        "key": drift.change.key,
        "origin": drift.origin.value,
        "tasks": [{"upid": task.upid, "user": task.user, "started": task.started} for task in drift.tasks],
        "accept": accept or None,
        "described in": place_of(accept, places) or None,
    }


def metrics(checked: "list[Checked]", deployment: str, now: float) -> str:
    """For the text-file collector of Prometheus's node exporter."""
    gauges = {
        "ok": ("Whether all is as described.", is_well),
        "exists": ("Whether the VM exists.", lambda one: one.exists),
        "reachable": ("Whether the machine answers and proves who it is.", lambda one: one.reachable),
        "system_ok": ("Whether the wanted system is active.", lambda one: one.system_ok),
        "changes": ("How many settings of the VM are not as described.", lambda one: len(one.changes)),
    }
    lines = [
        "# HELP nixops_proxmox_check_seconds When the machines were checked, in seconds since the epoch.",
        "# TYPE nixops_proxmox_check_seconds gauge",
        f"nixops_proxmox_check_seconds{{deployment={_label(deployment)}}} {now:.0f}",
    ]
    for name, (about, value) in gauges.items():
        lines += [f"# HELP nixops_proxmox_machine_{name} {about}", f"# TYPE nixops_proxmox_machine_{name} gauge"]
        for one in checked:
            found = value(one)
            if found is not None:
                labels = f"deployment={_label(deployment)},machine={_label(one.name)}"
                lines.append(f"nixops_proxmox_machine_{name}{{{labels}}} {int(found)}")
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
