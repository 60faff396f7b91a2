"""Show where the machines stand, from the record.

With --endpoints, tries their addresses now.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nixops_proxmox.cli.arguments import get_deployment, open_deployed, state_location
from nixops_proxmox.display.arguments import add_json, add_machines, select
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import DeployError
from nixops_proxmox.kinds.machine.encrypted import ROOT, disks_in, part_of, told_as
from nixops_proxmox.kinds.machine.opening import BOOT, OPENED
from nixops_proxmox.messages.amounts import duration, epoch_text
from nixops_proxmox.messages.groups import by_hypervisor, grouped
from nixops_proxmox.messages.shapes import machines as shapes
from nixops_proxmox.messages.shapes.machines import MachineStatusJson, StatusJson
from nixops_proxmox.model import Endpoint, Machine, Phase, recorded_slots

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed
    from nixops_proxmox.state import Held, Holder

SILENT = 60.0  # seconds without a heartbeat that are worth mentioning: the run is stopped, or out of touch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_machines(parser)
    add_json(parser)
    parser.add_argument("--endpoints", action="store_true", help="Try every address, and explain the choice")


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.state import open_state, this_process

    with open_state(state_location(args)) as state:
        deployment = get_deployment(args, state.deployments)
        known = state.has_deployment(deployment)
        machines = state.deployment(deployment).machines() if known else []
        holders = state.deployment(deployment).holders() if known else []
    names = select([machine.name for machine in machines], args)
    shown = grouped([machine for machine in machines if machine.name in names], lambda machine: machine.facts.profile)
    attempts = explain_all(args, screen, shown) if args.endpoints else {}
    if args.json:
        rows = [to_json(machine, attempts.get(machine.name)) for machine in shown]
        groups = by_hypervisor(shown, lambda machine: machine.facts.profile)
        hypervisors = {name: [machine.name for machine in theirs] for name, theirs in groups.items() if name}
        screen.json(StatusJson(deployment=deployment, machines=rows, hypervisors=hypervisors))
        return 0
    for line in at_work(deployment, holders, this_process(), time.time()):
        screen.say(line)
    if not machines:
        screen.say(f"nothing is deployed in {deployment}")
        return 0
    heads = ("machine", "phase", "hypervisor", "node", "vmid", "endpoint", "generation")
    screen.table(heads, [row(machine) for machine in shown], phases=1)
    screen.sentences([line for machine in shown for line in (*encrypted(machine), *tried(machine))])
    for name, lines in attempts.items():
        screen.sentences([f"{name}:", *(f"  {line}" for line in lines)])
    return 0


def at_work(deployment: str, holders: Sequence["Held"], we: "Holder", now: float) -> list[str]:
    """Say who changes what. For runs that are provably gone, say only that they were cut off."""
    lines = []
    for held in holders:
        what = deployment if held.scope.is_all else f"{held.scope.name} of {deployment}"
        if held.is_gone(we):
            lines.append(
                f"the last run on {what}, by {held.holder.title}, was cut off; the next run continues from there"
            )
            continue
        silent = now - held.heartbeat
        sign = f"; its last sign of life was {duration(silent)} ago" if silent > SILENT else ""
        lines.append(f"{what} is being changed by {held.holder.title}{sign}")
    return lines


def explain_all(args: argparse.Namespace, screen: Screen, machines: Sequence[Machine]) -> dict[str, list[str]]:
    if not machines:
        return {}
    with open_deployed(args, screen, described=None) as deployed, screen.busy("trying the addresses"):
        return {machine.name: explain(deployed, machine) for machine in machines}


def explain(deployed: "Deployed", machine: Machine) -> list[str]:
    if machine.phase in (Phase.ABSENT, Phase.RESERVED, Phase.DEFINED, Phase.STOPPED, Phase.LOST):
        return [f"not running: it is {machine.phase}"]
    try:
        lines, _ = deployed.endpoints(machine.name)
    except DeployError as error:
        return [error.message, *([error.hint] if error.hint else [])]
    return list(lines)


def encrypted(machine: Machine) -> list[str]:
    """What the record knows of encrypted disks."""
    lines = []
    for volume in (ROOT, *disks_in(machine.facts.luks)):
        part = part_of(machine.facts.luks, volume)
        if part.get("slots"):
            sink = f"; the recovery key went to {part['sink']}" if "sink" in part else ""
            header = f"; its header went to {part['header']}" if "header" in part else ""
            lines.append(f"{machine.name}: its {told_as(volume, part)} has the key slots {part['slots']}{sink}{header}")
        if OPENED in part:
            when = epoch_text(float(part[OPENED]))
            lines.append(f"{machine.name}: its disk last opened by itself at the boot of {when} (boot ID {part[BOOT]})")
    return lines


def encryption_json(luks: Mapping[str, str]) -> dict[str, Any] | None:
    """As recorded, and with the key slots by number. The data disks are below `disks`, by slot."""
    if not luks:
        return None
    root = part_of(luks, ROOT)
    opened = {"at": int(root[OPENED]), "boot": root[BOOT]} if OPENED in root else None
    disks = {slot: {**part_of(luks, slot), "key_slots": slots_json(part_of(luks, slot))} for slot in disks_in(luks)}
    return {**root, "key_slots": slots_json(root), "opened_by_itself": opened, "disks": disks}


def slots_json(part: Mapping[str, str]) -> dict[str, str]:
    return {str(slot): use for slot, use in recorded_slots(part).items()}


def tried(machine: Machine) -> list[str]:
    """What became of the last system on probation, if it was not confirmed."""
    probation = machine.facts.probation
    verdict = probation.get("verdict", "not over, as far as we know")
    if not probation or verdict == "confirmed":
        return []
    why = f": {probation['why']}" if "why" in probation else ""
    return [f"{machine.name}: the probation of {probation.get('system', 'a system')} is {verdict}{why}"]


def row(machine: Machine) -> list[str]:
    facts = machine.facts
    where = [facts.profile or "-", facts.node or "-", str(facts.vmid or "-")]
    return [
        machine.name,
        machine.phase.value,
        *where,
        endpoint_text(facts.endpoint) if facts.endpoint else "-",
        str(facts.generation or "-"),
    ]


def endpoint_text(endpoint: Endpoint) -> str:
    """`10.0.0.7`, `[fd00::7]:2222`, `admin@10.0.0.7 via bastion`: what is usual is left out."""
    host = f"[{endpoint.host}]:{endpoint.port}" if endpoint.is_ipv6 else f"{endpoint.host}:{endpoint.port}"
    host = endpoint.host if endpoint.port == 22 else host
    user = "" if endpoint.user == "root" else f"{endpoint.user}@"
    return f"{user}{host}" + (f" via {endpoint.jump}" if endpoint.jump else "")


def to_json(machine: Machine, attempts: list[str] | None) -> MachineStatusJson:
    facts = machine.facts
    endpoint: shapes.EndpointJson | None = None
    if facts.endpoint is not None:
        found = facts.endpoint
        endpoint = {"host": found.host, "port": found.port, "user": found.user, "jump": found.jump}
    plain: MachineStatusJson = {
        "machine": machine.name,
        "phase": machine.phase.value,
        "hypervisor": facts.profile,
        "node": facts.node,
        "vmid": facts.vmid or None,
        "uuid": facts.uuid,
        "macs": list(facts.macs),
        "host_key": facts.host_key,
        "endpoint": endpoint,
        "addresses": [
            {"ip": str(a.ip), "reach": a.reach.value, "interface": a.interface, "mac": a.mac} for a in facts.addresses
        ],
        "system": facts.system,
        "generation": facts.generation or None,
        "encryption": encryption_json(facts.luks),
        "probation": dict(facts.probation) or None,
    }
    return plain if attempts is None else {**plain, "attempts": attempts}
