"""What a machine that goes to another hypervisor leaves behind: recorded until its new VM has proved itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nixops_proxmox.errors import OnOtherHypervisor, StateError
from nixops_proxmox.model import Facts, Machine
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import head

LEFT = "left behind"  # in `Facts.extra`


@dataclass(frozen=True)
class Left:
    """The old VM. `ran`: the machine ran before. `archive`: the backup of it that is to be restored, as the new
    hypervisor calls it; empty: it was restored. `storage`: where to. Empty: to storages of the same names. `word`: what
    the machine is, a VM or a container."""

    profile: str
    vmid: int
    node: str
    ran: bool
    archive: str = ""
    storage: str = ""
    word: str = "VM"

    def told(self) -> str:
        return f"{self.word} {self.vmid} on {self.profile}"

    def as_facts(self, facts: Facts) -> Facts:
        """The machine's facts, as they are of the old VM."""
        return replace(without_left(facts), profile=self.profile, vmid=self.vmid, node=self.node, endpoint=None)


def find_left(facts: Facts) -> Left | None:
    """StateError for what no version wrote."""
    text = facts.extra.get(LEFT)
    if text is None:
        return None
    try:
        found: Any = json.loads(text)
        left = Left(**found)
        wrong = [key for key, value in asdict(left).items() if type(value) is not type(asdict(_EMPTY)[key])]
    except (TypeError, ValueError) as error:
        raise StateError(f"the record of a VM that was left behind is damaged: {head(text, 80)!r}") from error
    if wrong:
        raise StateError(f"the record of a VM that was left behind is damaged: {', '.join(wrong)}")
    return left


_EMPTY = Left("", 0, "", ran=False)


def with_left(facts: Facts, left: Left) -> Facts:
    return replace(facts, extra={**facts.extra, LEFT: json.dumps(asdict(left))})


def without_left(facts: Facts) -> Facts:
    extra: Mapping[str, str] = {key: value for key, value in facts.extra.items() if key != LEFT}
    return replace(facts, extra=extra)


def refuse_unfinished(machine: Machine) -> None:
    """A machine that is on its way is not changed by anything else."""
    left = find_left(machine.facts)
    if left is not None:
        raise OnOtherHypervisor(
            f"{machine.name}: its move from {left.profile} to {machine.facts.profile} has not come to its end:"
            f" {left.told()} is still there",
            hint=f"{command(Verb.MOVE, machine.name)} goes on; {command(Verb.MOVE, machine.name, '--to', left.profile)}"
            " takes it back",
        )
