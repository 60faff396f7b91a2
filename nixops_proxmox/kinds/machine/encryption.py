"""Encrypted disks: which keys open which slots, and the scripts that look at them. Pure.

Every key is made by us of 256 random bits. So slots need no slow key derivation, which is for words that people choose.
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nixops_proxmox.errors import CommandFailed
from nixops_proxmox.kinds.machine.encrypted import ROOT, data_disks, part_of
from nixops_proxmox.kinds.machine.keepers import resolved
from nixops_proxmox.kinds.machine.sealing import TPM2, describe_seal, find_lost, ways_in, ways_of
from nixops_proxmox.model import Change, Facts, Machine
from nixops_proxmox.spec import Encryption, InstallMethod, MachineSpec
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import script_marker

KEYS = "/run/nixops-proxmox-keys"  # in the installer: in memory, for root alone
SEALED = "/etc/nixops-proxmox/encryption"  # in the system: what boot.initrd.clevis takes along
LOOK = "nixops-proxmox-luks"
LABEL = "nixos-luks"  # of the partition: /dev/disk/by-partlabel/nixos-luks


class Use(StrEnum):
    """What a key is for. Its slot is the same in every volume."""

    RECOVERY = "recovery"
    SEALED = "sealed"
    TOOL = "tool"
    SYSTEM = "system"  # of a data disk: the key lies on the encrypted root


# The second is for what opens the volume without anybody's help: a root has a sealed key, and a data disk the system's.
SLOTS = {Use.RECOVERY: 1, Use.SEALED: 2, Use.SYSTEM: 2, Use.TOOL: 3}


def next_use(use: Use) -> str:
    """What the key store calls a key that is not in its place yet."""
    return f"next-{use}"


@dataclass(frozen=True)
class Header:
    """What an encrypted volume's header says, as the installer read it."""

    uuid: str
    slots: tuple[int, ...]


def uses_of(encryption: Encryption, volume: str = ROOT) -> tuple[Use, ...]:
    """The keys that a volume has. The first of them is the one that it is made with."""
    wanted = {
        Use.RECOVERY: not encryption.recovery.sink.none,
        Use.SEALED: encryption.unlock.sealed and volume == ROOT,
        Use.SYSTEM: volume != ROOT,
        Use.TOOL: (encryption.unlock.tool or encryption.unlock.ssh is not None) and volume == ROOT,
    }
    return tuple(use for use, is_wanted in wanted.items() if is_wanted)


def luks_uuid(facts: Facts, volume: str) -> str:
    """The LUKS UUID of a machine's volume, known before it is made. Each installation has its own."""
    return str(uuid.uuid5(uuid.UUID(facts.uuid), f"luks/{facts.round}/{volume}"))


def volume_uuid(facts: Facts, volume: str) -> str:
    """The one that it has. A disk that a reinstall keeps has that of its own installation."""
    return part_of(facts.luks, volume).get("uuid") or luks_uuid(facts, volume)


def digest_of(key: str) -> str:
    """What may be recorded of a key. It has 256 random bits, so its digest gives nothing away."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def find_device(volume_uuid: str) -> str:
    """The first lines of scripts about the machine's volume: they end at an error, and `$device` is the volume."""
    return f"set -eu\ndevice=$(blkid -t UUID={volume_uuid} -o device | head -n 1)\n"


# Tells the header of `$device`, for `parse_header`.
TELL_HEADER = f"""\
echo "{LOOK} $(cryptsetup luksUUID "$device")"
cryptsetup luksDump --dump-json-metadata "$device"
"""


def look_script(volume_uuid: str) -> str:
    """Tells the header of the machine's volume."""
    return script_marker("luks-header", volume_uuid) + find_device(volume_uuid) + TELL_HEADER


def parse_header(printed: str) -> Header:
    """Raises ValueError for anything else than a header of LUKS2."""
    first, _, rest = printed.partition("\n")
    word, _, told = first.partition(" ")
    if word != LOOK:
        raise ValueError("no header was told")
    metadata: Any = json.loads(rest)
    slots = metadata.get("keyslots") if isinstance(metadata, dict) else None
    if not isinstance(slots, dict) or not all(number.isdecimal() and len(number) < 3 for number in slots):
        raise ValueError("its key slots cannot be read")
    return Header(str(uuid.UUID(told)), tuple(sorted(int(number) for number in slots)))


def refuse_other_header(machine: str, spec: MachineSpec, facts: Facts, found: Header, volume: str = ROOT) -> None:
    """The volume has the keys that we gave it, and no other."""
    assert spec.encryption is not None
    wanted = tuple(sorted(SLOTS[use] for use in uses_of(spec.encryption, volume)))
    if found.slots != wanted or found.uuid != volume_uuid(facts, volume):
        raise CommandFailed(
            f"{machine}: the encrypted volume {found.uuid} has the key slots {_numbers(found.slots)}, "
            f"not {_numbers(wanted)}",
            status=1,
            hint="somebody else works on this disk",
        )


def _numbers(slots: Sequence[int]) -> str:
    return ", ".join(map(str, slots)) or "none"


def describe_slots(encryption: Encryption, volume: str = ROOT) -> str:
    """Tell people and the record which slot is for what, and who unseals."""
    told = {use: use.value for use in Use} | {Use.SEALED: describe_seal(encryption)}
    return ", ".join(f"{SLOTS[use]} {told[use]}" for use in uses_of(encryption, volume))


def find_mismatch(spec: MachineSpec, facts: Facts) -> str:
    """Why the described system could not boot from the disk as we installed it. Empty: it can, or we did not."""
    if facts.installed_by not in tuple(InstallMethod):
        return ""
    wanted, slots = spec.encryption, facts.luks.get("slots", "")
    if wanted is None:
        return "its disk is encrypted, and the description has no `encryption`" if slots else ""
    if not slots:
        return "the description has `encryption`, and its disk was installed without"
    return _find_other_seal(wanted, seal_in(slots)) if wanted.unlock.sealed else ""


def _find_other_seal(wanted: Encryption, seal: str) -> str:
    """The first stage of a system reads the sealed key, and has what unseals it as it is described."""
    has, wants = ways_in(seal), ways_of(wanted)
    if not has:
        return f"the description has `encryption.unlock.{min(wants)}`, and no key of its disk is sealed"
    if missing := sorted(has - wants):
        return f"the key of its disk is sealed ({seal}), and the description has no `encryption.unlock.{missing[0]}`"
    return ""


def seal_in(slots: str) -> str:
    """What the record says of the sealed key. Empty: there is none."""
    told = dict(entry.partition(" ")[::2] for entry in slots.split(", "))
    return told.get(str(SLOTS[Use.SEALED]), "")


def has_way_to(wanted: Encryption, slots: str) -> bool:
    """The first stage that runs now would ask a TPM, if one is wanted: so a rotation can seal a key for it."""
    return wanted.unlock.tpm2 is None or TPM2 in ways_in(seal_in(slots))


def lost_seal(machine: Machine, changes: Sequence[Change]) -> str:
    """Why the TPM does not unseal the disk's key after these changes of the VM. Empty: it does, or never did."""
    lost = find_lost(seal_in(machine.facts.luks.get("slots", "")), changes)
    return lost and f"{lost}; then its disk waits for its recovery key ({command(Verb.CONSOLE, machine.name)})"


def find_changed(spec: MachineSpec, facts: Facts) -> tuple[str, ...]:
    """The volumes that have other key slots than are described now."""
    if spec.encryption is None or not facts.luks.get("slots"):
        return ()
    encryption = resolved(spec.encryption, facts.luks)
    have = {name: part_of(facts.luks, name).get("slots", "") for name in (ROOT, *data_disks(spec))}
    return tuple(name for name, slots in have.items() if slots and slots != describe_slots(encryption, name))
