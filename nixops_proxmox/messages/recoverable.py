"""Machines that were found by their marks on the cluster."""

from typing import TYPE_CHECKING

from nixops_proxmox.messages.shapes import setup as shapes
from nixops_proxmox.texts import shown_name

if TYPE_CHECKING:
    from nixops_proxmox.operations import Recoverable

HEADS = ("machine", "deployment", "node", "vmid", "phase", "why not")


def recoverable_row(one: "Recoverable") -> list[str]:
    mark, phase = one.mark, one.machine.phase.value if one.machine else "-"
    return [shown_name(mark.machine), shown_name(mark.deployment), one.node, str(one.vmid), phase, one.problem or "-"]


def recoverable_remarks(one: "Recoverable") -> list[str]:
    return [f"{shown_name(one.mark.machine)}: {remark}" for remark in one.remarks]


def recoverable_json(one: "Recoverable") -> shapes.RecoverableJson:
    return {
        "machine": one.mark.machine,
        "deployment": one.mark.deployment,
        "uuid": one.mark.uuid,
        "node": one.node,
        "vmid": one.vmid,
        "phase": one.machine.phase.value if one.machine else None,
        "problem": one.problem or None,
        "remarks": list(one.remarks),
    }
