"""The header of an encrypted volume, taken out of a guest and handed to the sink of the recovery key."""

import base64
import binascii
from dataclasses import replace

from nixops_proxmox.kinds.machine.answers import read_answer
from nixops_proxmox.kinds.machine.encrypted import part_of, told_as, with_part
from nixops_proxmox.kinds.machine.encryption import find_device
from nixops_proxmox.kinds.machine.ports import Shell
from nixops_proxmox.kinds.machine.shape import World
from nixops_proxmox.model import Facts, Machine
from nixops_proxmox.texts import script_marker

HEADER = "header"  # in `Facts.luks`: where it went
TIMEOUT = 300.0  # seconds; it has 16 MiB
_FILE = "/run/nixops-proxmox-header"
_MAGIC, _UUID = b"LUKS\xba\xbe\x00\x02", 168  # how a header of LUKS2 begins, and where its UUID is


def backup_script(volume_uuid: str) -> str:
    """Prints the header in base64."""
    return f"""{script_marker("luks-backup", volume_uuid)}\
umask 077
{find_device(volume_uuid)}\
rm -f {_FILE}
trap 'rm -f {_FILE}' EXIT
cryptsetup luksHeaderBackup "$device" --header-backup-file {_FILE}
base64 {_FILE}
"""


def parse_backup(printed: str, volume_uuid: str) -> bytes:
    """Raises ValueError for what is not the header of that volume."""
    try:
        data = base64.b64decode(printed.replace("\n", ""), validate=True)
    except binascii.Error as error:
        raise ValueError("it did not arrive whole") from error
    if not data.startswith(_MAGIC) or not data.startswith(volume_uuid.encode() + b"\0", _UUID):
        raise ValueError("it is not the header of this volume")
    return data


def back_up_header(world: World, machine: Machine, facts: Facts, shell: Shell, volume: str) -> Facts:
    """Safe to repeat: the sink gets the same header once more."""
    encryption = world.spec.encryption
    if encryption is None or not encryption.recovery.header:
        return facts
    part = part_of(facts.luks, volume)
    uuid, disk = part["uuid"], told_as(volume, part)
    world.reporter.detail(machine, f"handing over the header of its {disk}")
    done = shell.run(backup_script(uuid), timeout=TIMEOUT)
    header = read_answer(
        done,
        lambda printed: parse_backup(printed, uuid),
        f"{machine.name}: the header of its {disk} could not be backed up",
        "it needs 16 MiB of memory in /run; what was installed stays",
    )
    place = world.escrow.hand_over_header(encryption.recovery.sink, machine, volume, uuid, header)
    return replace(facts, luks=with_part(facts.luks, volume, {**part, HEADER: place}))
