"""How the disks of a machine were laid out when it was installed, and what the description says by now."""

import hashlib
import re
from dataclasses import dataclass, replace

from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.model import Facts, Machine
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.layouts import DEFAULT_LAYOUT, EMPTY, LAYOUTS, LayoutName
from nixops_proxmox.spelling import Verb, command

SCRIPT = "script"  # the user's, or disko's
ENCRYPTED = "encrypted"  # before a layout's name, or for the default layout: on a partition that `encryption` makes
# Other store paths of the same programs lay out the same.
_STORE = re.compile(r"/nix/store/[0-9a-z]{32}-")


@dataclass(frozen=True)
class LayoutChange:
    """The names of layouts, with ENCRYPTED or not, or SCRIPT. If both are SCRIPT, it is another script."""

    have: str
    want: str

    def told(self, name: str) -> str:
        """A sentence about the machine of this name."""
        what = (
            "the partition script has changed since the installation"
            if self.have == self.want
            else f"the layout is {self.have}, and the description says {self.want}"
        )
        again = f"{command(Verb.REINSTALL, name)} lays them out again, which erases them"
        return f"{what}; the disks stay as they are ({again})"

    @property
    def breaks_boot(self) -> bool:
        """A system that mounts what the new layout has does not boot from the old one. Of scripts, nothing is known."""
        if SCRIPT in (self.have, self.want) or self.have == self.want:
            return False
        if is_encrypted(self.have) or is_encrypted(self.want):
            return True
        have, want = LAYOUTS[LayoutName(self.have)], LAYOUTS[LayoutName(self.want)]
        return (have.mounts, have.apart, have.lvm) != (want.mounts, want.apart, want.lvm)

    @property
    def to_stay(self) -> str:
        """What to write for the layout that the disks have."""
        if not is_encrypted(self.have):
            return f'`install.layout = "{self.have}"`'
        return f'`encryption` with `install.layout = "{self.have.partition(" ")[2] or DEFAULT_LAYOUT}"`'


def with_layout(facts: Facts, spec: MachineSpec) -> Facts:
    """The facts, with the layout that was made just now."""
    return replace(facts, layout=name_of(spec), partition_hash=digest_of(spec))


def name_of(spec: MachineSpec) -> str:
    if spec.install.partition:
        return SCRIPT
    name = spec.install.layout or DEFAULT_LAYOUT
    if spec.encryption is None:
        return name.value
    return ENCRYPTED if name is DEFAULT_LAYOUT else f"{ENCRYPTED} {name.value}"


def is_encrypted(name: str) -> bool:
    return name.partition(" ")[0] == ENCRYPTED


def digest_of(spec: MachineSpec) -> str:
    """A script counts by its text without our own part of it, a layout by its name: our next version may write both
    otherwise. The default has the digest that it had before layouts had names."""
    if spec.install.partition:
        return _digest(_STORE.sub("/nix/store/", spec.install.partition.replace(EMPTY, "")))
    name = name_of(spec)
    return _digest("" if name == DEFAULT_LAYOUT else f"layout {name}")


def find_layout_change(facts: Facts, spec: MachineSpec) -> LayoutChange | None:
    """None: nothing is known of the disks (they were not laid out by us), or they are as described."""
    known, want = facts.partition_hash, name_of(spec)
    if not known:
        return None
    unnamed = (ENCRYPTED if facts.luks else DEFAULT_LAYOUT.value) if known == _digest("") else SCRIPT
    have = facts.layout or unnamed
    same_script = known in (digest_of(spec), _digest(spec.install.partition or ""))
    return None if have == want and (want != SCRIPT or same_script) else LayoutChange(have, want)


def refuse_other_layout(machine: Machine, spec: MachineSpec) -> None:
    """Do not give a machine a system that cannot boot from its disks."""
    change = find_layout_change(machine.facts, spec)
    if change is None or not change.breaks_boot:
        return
    raise NeedsPermission(
        f"{machine.name}: its disks have the layout {change.have}, and a system for {change.want} does not boot from"
        " them",
        hint=f"{command(Verb.REINSTALL, machine.name)} lays the disks out again, which erases them;"
        f" or set {change.to_stay}",
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
