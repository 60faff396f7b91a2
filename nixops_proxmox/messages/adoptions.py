"""What taking over VMs comes to: a line for each, what is left alone, and the network that describes them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nixops_proxmox.messages.nix import as_nix
from nixops_proxmox.messages.shapes import setup as shapes
from nixops_proxmox.texts import shown_line, shown_name

if TYPE_CHECKING:
    from nixops_proxmox.kinds.resource import Stranger
    from nixops_proxmox.operations.adopting import Adoption

HEADS = ("vm", "name", "node", "machine", "result")


def adoption_row(one: "Adoption") -> list[str]:
    guest = one.guest
    name, node = (shown_name(guest.name), guest.node) if guest is not None else ("-", "-")
    machine = one.machine.name if one.machine is not None else "-"
    result = "a deploy would do nothing" if one.ready else f"no: {shown_line(one.problem)}"
    return [shown_name(one.target.word), name, node, machine, result]


def adoption_remarks(one: "Adoption") -> list[str]:
    name = one.machine.name if one.machine is not None else shown_name(one.target.word)
    lines = [f"{name}: left alone: {shown_line(line)}" for line in one.left]
    lines += [f"{name}: {shown_line(line)}" for line in one.remarks]
    if one.ready and one.machine is not None and one.machine.facts.nameless:
        lines.append(f"{name}: some of its disks have no serial, so they are known by PVE's names of their volumes")
    return lines


def stranger_lines(place: str, one: "Stranger") -> list[str]:
    comment = f': its comment is "{shown_line(one.comment)}"' if one.comment else ""
    lines = [f"{place}: it is there, and not ours{comment}"]
    lines += [f"  gets our mark: {shown_line(line)}" for line in one.parts]
    lines += [f"  a deploy changes it then: {shown_line(line)}" for line in one.differences]
    return lines if one.differences else [*lines, "  a deploy changes nothing of it then"]


def stranger_json(place: str, one: "Stranger") -> shapes.StrangeResourceJson:
    return {
        "resource": place,
        "comment": one.comment or None,
        "differences": list(one.differences),
        "parts": list(one.parts),
    }


def network_text(found: "Sequence[Adoption]") -> str:
    """A network with all that can be taken over, to be written to a file or copied into one."""
    machines = {
        one.machine.name: {"deployment": {"proxmox": dict(one.options)}}
        for one in found
        if one.ready and one.machine is not None and one.options is not None
    }
    return as_nix(machines) + "\n"


def adoption_json(one: "Adoption") -> shapes.AdoptionJson:
    guest, machine = one.guest, one.machine
    return {
        "asked for": one.target.word,
        "vmid": None if guest is None else guest.vmid,
        "node": None if guest is None else guest.node,
        "machine": None if machine is None else machine.name,
        "host key": None if machine is None else machine.facts.host_key or None,
        "options": None if one.options is None else dict(one.options),
        "left alone": list(one.left),
        "remarks": list(one.remarks),
        "problem": one.problem or None,
        "terraform": one.target.address or None,
    }
