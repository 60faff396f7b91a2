"""The last lines of a deploy that went well: what is where, how to log in, and what to look at next. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nixops_proxmox.messages.lines import Line
from nixops_proxmox.spelling import Verb, command

if TYPE_CHECKING:  # it takes a while, and a help text shows no machines
    from nixops_proxmox.model import Machine

MOST = 12  # machines that are told one by one


def closing_lines(machines: "Sequence[Machine]") -> Iterator[Line]:
    """`machines`: those that this run has worked on, as the record has them now."""
    if not machines:
        return
    if len(machines) <= MOST:
        yield from map(Line, _aligned([_cells(machine) for machine in machines]))
    else:
        yield from map(Line, _counted(machines))
    first = machines[0].name
    yield Line(f"log in: {command(Verb.SSH, first)}; the console: {command(Verb.CONSOLE, first)}", "dim")
    yield Line(f"look: {command(Verb.STATUS)}, {command(Verb.HISTORY, first)}, {command(Verb.CHECK)}", "dim")


def no_lines(_machines: "Sequence[Machine]") -> Iterator[Line]:
    return iter(())


def place_of(machine: "Machine") -> str:
    """`lab/pve1`. Empty: it has none yet."""
    return "/".join(filter(None, (machine.facts.profile, machine.facts.node)))


def _cells(machine: "Machine") -> tuple[str, str, str]:
    endpoint = machine.facts.endpoint
    return (
        f"  {machine.name}",
        f"{place_of(machine)}, VM {machine.facts.vmid}",
        "" if endpoint is None else f"at {endpoint.host}" + (f", through {endpoint.jump}" if endpoint.jump else ""),
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _counted(machines: "Sequence[Machine]") -> Iterator[str]:
    """A line for each hypervisor: its nodes, and how many machines are on each."""
    by_profile: dict[str, Counter[str]] = {}
    for machine in machines:
        by_profile.setdefault(machine.facts.profile, Counter())[machine.facts.node] += 1
    for profile, nodes in sorted(by_profile.items()):
        told = ", ".join(f"{count} on {node}" for node, count in sorted(nodes.items()))
        yield f"  {profile}: {told}"
