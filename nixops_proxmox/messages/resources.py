"""Resources as lines of a plan, rows, and JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nixops_proxmox.messages.explaining import explain
from nixops_proxmox.messages.reading import find_place
from nixops_proxmox.messages.shapes.plan import ResourceJson
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import shown_line

if TYPE_CHECKING:
    from nixops_proxmox.operations.resources import ResourceShown


def has_change(one: "ResourceShown") -> bool:
    """Would a deploy change it?"""
    return one.described and one.error is None and one.phase.value != "present"


def is_well(one: "ResourceShown") -> bool:
    return one.error is None and one.described and one.phase.value == "present"


def describe_resource(one: "ResourceShown") -> Iterator[str]:
    """What a deploy does to it, a line, and then how it differs."""
    title = f"{one.ref.kind} {one.ref.name}"
    if one.error is not None:
        yield f"{title}: could not be looked at: {shown_line(explain(one.error)[0].text.removeprefix('error: '))}"
    elif not one.described:
        yield f"{title}: no longer described; {command(Verb.DEPLOY, '--remove')} removes it"
    elif one.replaced:
        yield f"{title}: removed, and made again"
    elif one.phase.value == "absent":
        yield f"{title}: new"
    else:
        yield f"{title}: {'as described' if one.phase.value == 'present' else 'changes'}"
    yield from (f"  {shown_line(line)}" for line in one.differences)
    yield from (f"  note: {shown_line(line)}" for line in one.remarks)


def resource_json(one: "ResourceShown") -> ResourceJson:
    return {
        "kind": one.ref.kind,
        "name": one.ref.name,
        "phase": one.phase.value if one.error is None else None,
        "described": one.described,
        "replaced": one.replaced,
        "differences": list(one.differences),
        "remarks": list(one.remarks),
        "error": None if one.error is None else one.error.message,
        "more": find_place(one.error),
    }


def how_many(number: int) -> str:
    return f"{number} {'resource' if number == 1 else 'resources'}"
