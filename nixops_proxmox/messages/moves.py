"""What moving a machine to another hypervisor means, a line each."""

from typing import TYPE_CHECKING

from nixops_proxmox.messages.amounts import amount
from nixops_proxmox.texts import shown_line

if TYPE_CHECKING:
    from nixops_proxmox.operations.moving import Passage


def describe_move(found: "Passage") -> list[str]:
    name = found.name
    if found.source == found.target and found.left is None:
        return [f"{name}: it is on {found.target} already"]
    if found.left is not None and found.target == found.left.profile:
        return [
            f"{name}: {found.source} → {found.target}, back to {found.left.told()}, which it left behind",
            f"  its {found.word} on {found.source} is destroyed, with what was written there",
        ]
    if found.left is not None:
        return [f"{name}: {found.left.profile} → {found.source}, which was begun before", *_ending(found.left.told())]
    lines = [f"{name}: {found.source} → {found.target}"]
    if found.blocked:
        return [*lines, *(f"  forbidden: {shown_line(reason)}" for reason in found.blocked)]
    where = f", onto {shown_line(found.disks)}" if found.disks else ""
    stop = "shut down, and backed up" if found.runs else "backed up"
    return [
        *lines,
        f"  it is {stop} to {shown_line(found.storage)} ({amount(found.size)} of disks)",
        f"  it is restored on {found.target}{where}, and started there",
        *_ending(f"its {found.word} on {found.source}"),
    ]


def _ending(old: str) -> list[str]:
    return [f"  when it answers with its host key, {old} is destroyed; the backup stays"]


def what_to_describe(found: "Passage", described: str) -> str:
    """What the description must say afterwards. Empty: it does."""
    if not described or described == found.target:
        return ""
    return (
        f'{found.name}: set deployment.proxmox.profile = "{found.target}" now: the description says {described!r}, and'
        " a deploy changes nothing of it until both agree"
    )
