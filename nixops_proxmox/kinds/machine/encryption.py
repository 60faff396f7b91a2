"""Encrypted disks: which keys open which slots, and the scripts that make and look at them. Pure.

Every key is made by us of 256 random bits. So slots need no slow key derivation, which is for words that people choose.
"""

import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nixops_proxmox.errors import CommandFailed
from nixops_proxmox.kinds.machine.keepers import resolved
from nixops_proxmox.kinds.machine.sealing import describe_seal, find_lost, pin_of, sealing, ways_in, ways_of
from nixops_proxmox.model import Change, Facts, Machine
from nixops_proxmox.spec import Encryption, InstallMethod, MachineSpec
from nixops_proxmox.spec.layouts import DEFAULT_LAYOUT, Sealed, layout_script
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.texts import script_marker

ROOT = "root"  # the name of the volume that holds the root file system, once it is open
KEYS = "/run/nixops-proxmox-keys"  # in the installer: in memory, for root alone
SEALED = "/etc/nixops-proxmox/encryption"  # in the system: what boot.initrd.clevis takes along
LOOK = "nixops-proxmox-luks"
LABEL = "nixos-luks"  # of the partition: /dev/disk/by-partlabel/nixos-luks


class Use(StrEnum):
    """What a key is for. Its slot is the same in every volume."""

    RECOVERY = "recovery"
    SEALED = "sealed"
    TOOL = "tool"


SLOTS = {Use.RECOVERY: 1, Use.SEALED: 2, Use.TOOL: 3}


@dataclass(frozen=True)
class Header:
    """What an encrypted volume's header says, as the installer read it."""

    uuid: str
    slots: tuple[int, ...]


def uses_of(encryption: Encryption) -> tuple[Use, ...]:
    """The keys that a volume has. The first of them is the one that it is made with."""
    wanted = {
        Use.RECOVERY: not encryption.recovery.sink.none,
        Use.SEALED: encryption.unlock.sealed,
        Use.TOOL: encryption.unlock.tool,
    }
    return tuple(use for use, is_wanted in wanted.items() if is_wanted)


def luks_uuid(facts: Facts, volume: str) -> str:
    """The LUKS UUID of a machine's volume, known before it is made. Each installation has its own."""
    return str(uuid.uuid5(uuid.UUID(facts.uuid), f"luks/{facts.round}/{volume}"))


def digest_of(key: str) -> str:
    """What may be recorded of a key. It has 256 random bits, so its digest gives nothing away."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def layout(spec: MachineSpec, facts: Facts) -> str:
    """The whole first disk: as its layout has it, on an encrypted partition."""
    assert spec.encryption is not None
    make = _volume(resolved(spec.encryption, facts.luks), luks_uuid(facts, ROOT))
    return layout_script(spec.install.layout or DEFAULT_LAYOUT, Sealed(code="8309", label=LABEL, make=make)) + _FILES


_FILES = f"""\
mkdir -p /mnt{SEALED}
chmod 0700 /mnt{SEALED}
if [ -e {KEYS}/{ROOT}.jwe ]; then cp {KEYS}/{ROOT}.jwe /mnt{SEALED}/{ROOT}.jwe; chmod 0400 /mnt{SEALED}/{ROOT}.jwe; fi
find {KEYS} -type f -exec shred -u {{}} +
rm -rf {KEYS}
"""


def _volume(encryption: Encryption, volume_uuid: str) -> str:
    """Make it, give it its keys, and prove that each of them opens it."""
    uses = uses_of(encryption)
    first = uses[0]
    tools = "cryptsetup shred" + (f" clevis clevis-encrypt-{pin_of(encryption)[0]}" if Use.SEALED in uses else "")
    lines = [
        'fail() { echo "$1" >&2; exit 1; }',
        f'for tool in {tools}; do command -v $tool >/dev/null || fail "the installer has no $tool"; done',
        f"[ -d {KEYS} ] || fail 'the keys are not there'",
        f'cryptsetup luksFormat -q {_options(first, volume_uuid)} "$root"',
    ]
    lines += [
        f'cryptsetup luksAddKey -q {_FAST} {_slot(use)} --key-file {_key(first)} "$root" {_key(use)}'
        for use in uses[1:]
    ]
    if Use.SEALED in uses:
        opens = f'cryptsetup open --test-passphrase {_slot(Use.SEALED)} --key-file - "$root"'
        lines += sealing(encryption, _key(Use.SEALED), f"{KEYS}/{ROOT}.jwe", opens)
    lines += [
        f'cryptsetup open --test-passphrase {_slot(use)} --key-file {_key(use)} "$root"'
        for use in uses
        if use is not Use.SEALED
    ]
    lines += [f'cryptsetup open --key-file {_key(first)} "$root" {ROOT}', f"root=/dev/mapper/{ROOT}"]
    return "".join(f"{line}\n" for line in lines)


def _options(first: Use, volume_uuid: str) -> str:
    options = {"type": "luks2", "uuid": volume_uuid, "key-file": _key(first)}
    return " ".join([_FAST, _slot(first), *(f"--{name} {value}" for name, value in options.items())])


_FAST = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"


def _slot(use: Use) -> str:
    return f"--key-slot {SLOTS[use]}"


def _key(use: Use) -> str:
    return f"{KEYS}/{ROOT}.{SLOTS[use]}"


def key_delivery(keys: Mapping[Use, str]) -> tuple[str, bytes]:
    """A script and its standard input: the keys, put where no disk holds them."""
    script = f"""{script_marker("keys", ROOT)}\
set -eu
umask 077
case $(stat -f -c %T /run) in tmpfs | ramfs) ;; *) echo "/run is not in memory" >&2; exit 1 ;; esac
if [ "$(wc -l < /proc/swaps)" -gt 1 ]; then echo "it swaps, so what is in memory could get onto a disk" >&2; exit 1; fi
rm -rf {KEYS}
mkdir -m 0700 {KEYS}
tar -xpf - -C {KEYS}
"""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for use, key in keys.items():
            entry = tarfile.TarInfo(f"{ROOT}.{SLOTS[use]}")
            entry.size, entry.mode = len(key), 0o400
            tar.addfile(entry, io.BytesIO(key.encode()))
    return script, packed.getvalue()


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


def refuse_other_header(machine: str, spec: MachineSpec, facts: Facts, found: Header) -> None:
    """The volume has the keys that we gave it, and no other."""
    assert spec.encryption is not None
    wanted = tuple(sorted(SLOTS[use] for use in uses_of(spec.encryption)))
    if found.slots != wanted or found.uuid != luks_uuid(facts, ROOT):
        raise CommandFailed(
            f"{machine}: the encrypted volume {found.uuid} has the key slots {_numbers(found.slots)}, "
            f"not {_numbers(wanted)}",
            status=1,
            hint="somebody else works on this disk",
        )


def _numbers(slots: Sequence[int]) -> str:
    return ", ".join(map(str, slots)) or "none"


def describe_slots(encryption: Encryption) -> str:
    """Tell people and the record which slot is for what, and who unseals."""
    told = {use: use.value for use in Use} | {Use.SEALED: describe_seal(encryption)}
    return ", ".join(f"{SLOTS[use]} {told[use]}" for use in uses_of(encryption))


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


def lost_seal(machine: Machine, changes: Sequence[Change]) -> str:
    """Why the TPM does not unseal the disk's key after these changes of the VM. Empty: it does, or never did."""
    lost = find_lost(seal_in(machine.facts.luks.get("slots", "")), changes)
    return lost and f"{lost}; then its disk waits for its recovery key ({command(Verb.CONSOLE, machine.name)})"


def has_changed(spec: MachineSpec, facts: Facts) -> bool:
    """The disk has other key slots than are described now."""
    slots = facts.luks.get("slots", "")
    if not slots or spec.encryption is None:
        return False
    return slots != describe_slots(resolved(spec.encryption, facts.luks))
