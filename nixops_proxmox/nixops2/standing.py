"""The one state that NixOps shows of a machine: by its phase, and by what was last seen of it. Pure."""

from nixops_proxmox.model import Phase, Power

MISSING, STARTING, UP, STOPPED, UNREACHABLE, RESCUE = "MISSING", "STARTING", "UP", "STOPPED", "UNREACHABLE", "RESCUE"

BY_PHASE = {
    Phase.ABSENT: MISSING,
    Phase.RESERVED: MISSING,
    Phase.LOST: MISSING,
    Phase.READY: UP,
    Phase.DRIFTED: UP,
    Phase.STOPPED: STOPPED,
    Phase.RESCUE: RESCUE,
}  # all others are on their way


def standing(phase: Phase, power: Power | None = None, *, reachable: bool | None = None, before: str = "") -> str:
    """The name of NixOps's state. `power`, `reachable`: as they were seen, where anybody looked. `before`: the state
    that was known, which a mere difference of the hardware does not change."""
    known = BY_PHASE.get(phase, STARTING)
    if known == MISSING:
        return MISSING
    if power is Power.STOPPED:
        return STOPPED
    if power is None:
        return before if phase is Phase.DRIFTED and before in (UP, STOPPED, UNREACHABLE) else known
    if phase in (Phase.RUNNING, Phase.READY, Phase.DRIFTED) and reachable is not None:
        return UP if reachable else UNREACHABLE
    return UP if known == STOPPED else known
