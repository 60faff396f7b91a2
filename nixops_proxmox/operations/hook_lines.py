"""Which of the user's commands a deploy runs around a change."""

from nixops_proxmox.kinds.machine.errands.hooking import AFTER, is_due, says_farewell
from nixops_proxmox.kinds.machine.ports import HookRunner
from nixops_proxmox.model import Machine


def find_hooks(machine: Machine, known: HookRunner | None, *, changes: bool) -> tuple[str, ...]:
    """What a deploy runs, a line each. `changes`: it changes the machine."""
    if known is None:
        return ()
    lines = ["run deploy.hooks.before first"] if changes and says_farewell(machine, known) else []
    if known.has(AFTER) and (changes or is_due(machine)):
        lines.append("run deploy.hooks.after at the end" + (", which is due" if not changes else ""))
    return tuple(lines)
