"""What the header of an encrypted volume has, held against the record, and which of its key slots a key opens. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nixops_proxmox.kinds.machine.encrypted import ROOT, told_as
from nixops_proxmox.kinds.machine.encryption import LOOK, SLOTS, TELL_HEADER, Header, Use, find_device, parse_header
from nixops_proxmox.model import recorded_slots
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import script_marker

YOURS = 0  # the key slot that is the user's own
SPARE = 16  # a rotation's new key for slot N is in slot N + SPARE until the old one is gone
PENDING = "pending"  # in `Facts.luks`: the spare slots of a rotation that has not ended
WAITS = "waits"  # and the boot after which another must show that the TPM unseals the new key
_OPENED = f"{LOOK}-opened"


@dataclass(frozen=True)
class HeaderSeen:
    """What a key opens, and how the header differs from the record. `slot` None: it opens none."""

    header: Header
    slot: int | None
    strange: tuple[int, ...] = ()  # neither ours nor the user's
    missing: tuple[int, ...] = ()

    @property
    def is_well(self) -> bool:
        """It opens the disk as a recovery key should, and the header is as recorded."""
        recovery = SLOTS[Use.RECOVERY]
        return self.slot in (recovery, recovery + SPARE) and not self.strange and not self.missing


def spare_slots(luks: Mapping[str, str]) -> tuple[int, ...]:
    """The slots of a rotation that was broken off."""
    return tuple(int(slot) for slot in luks.get(PENDING, "").split())


def compare(header: Header, luks: Mapping[str, str], slot: int | None = None) -> HeaderSeen:
    known, spare = recorded_slots(luks), spare_slots(luks)
    ours = {YOURS, *known, *spare}
    strange = tuple(one for one in header.slots if one not in ours)
    # A rotation empties a slot for a moment, and its spare has the key meanwhile.
    missing = tuple(
        one for one in known if one not in header.slots and not (one + SPARE in spare and one + SPARE in header.slots)
    )
    return HeaderSeen(header, slot, strange, missing)


def find_slot_problems(machine: str, proof: HeaderSeen, luks: Mapping[str, str], volume: str = ROOT) -> tuple[str, ...]:
    """How the header of the volume differs from what the record knows of it (`luks`), a sentence each."""
    known, disk = recorded_slots(luks), told_as(volume, luks)
    rotate = command(Verb.RECOVERY_ROTATE, machine)
    lines = [f"its {disk} has the key slot {slot}, which is not ours" for slot in proof.strange]
    lines += [f"its {disk} has no key slot {slot} any more, which was for {known[slot]}" for slot in proof.missing]
    if WAITS in luks:
        lines.append(f"new keys for its {disk} wait for a boot at which its TPM opens it: then {rotate} ends it")
    elif spare_slots(luks):
        lines.append(f"new keys for its {disk} were begun and not finished: {rotate} goes on")
    return tuple(lines)


def try_script(volume_uuid: str) -> str:
    """Tells the header, and which key slot the key opens that comes by standard input. Opens nothing for use."""
    return f"""{script_marker("luks-test", volume_uuid)}\
{find_device(volume_uuid)}{TELL_HEADER}\
echo "{_OPENED} $(LC_ALL=C cryptsetup open --test-passphrase --verbose --key-file - "$device" 2>&1 |
  sed -n 's/^Key slot \\([0-9]*\\) unlocked\\.$/\\1/p')"
"""


def parse_tried(printed: str) -> tuple[Header, int | None]:
    """Raises ValueError for what `try_script` does not print."""
    rest, mark, told = printed.rpartition(f"{_OPENED} ")
    slot = told.strip()
    if not mark or not re.fullmatch(r"\d{0,2}", slot):
        raise ValueError("it was not told which key slot the key opens")
    return parse_header(rest), int(slot) if slot else None
