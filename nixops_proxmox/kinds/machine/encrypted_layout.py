"""How the installer makes the encrypted volumes, and how it gets their keys. Pure."""

import io
import tarfile
from collections.abc import Collection, Mapping, Sequence

from nixops_proxmox.kinds.machine.encrypted import ROOT, data_disks
from nixops_proxmox.kinds.machine.encryption import KEYS, LABEL, SEALED, SLOTS, Use, uses_of, volume_uuid
from nixops_proxmox.kinds.machine.keepers import resolved
from nixops_proxmox.kinds.machine.sealing import pin_of, sealing
from nixops_proxmox.model import Facts
from nixops_proxmox.spec import Encryption, MachineSpec
from nixops_proxmox.spec.layouts import DEFAULT_LAYOUT, Sealed, layout_script
from nixops_proxmox.texts import script_marker

FAST = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"


def layout(spec: MachineSpec, facts: Facts, kept: Collection[str] = ()) -> str:
    """The whole first disk, as its layout has it, on an encrypted partition; and the encrypted data disks, but those to
    keep: of these, the system gets the key alone."""
    assert spec.encryption is not None
    encryption, slots = resolved(spec.encryption, facts.luks), data_disks(spec)
    make = _root(encryption, volume_uuid(facts, ROOT))
    first = layout_script(spec.install.layout or DEFAULT_LAYOUT, Sealed(code="8309", label=LABEL, make=make))
    others = "".join(_data_disk(encryption, slot, volume_uuid(facts, slot)) for slot in slots if slot not in kept)
    return first + others + _files(slots)


def _files(slots: Sequence[str]) -> str:
    """What the system opens its volumes with. The keys here are overwritten."""
    files = {f"{KEYS}/{slot}.{SLOTS[Use.SYSTEM]}": key_file(slot) for slot in slots}
    copies = "".join(f"cp {have} /mnt{want}; chmod 0400 /mnt{want}\n" for have, want in files.items())
    return f"""\
mkdir -p /mnt{SEALED}
chmod 0700 /mnt{SEALED}
if [ -e {KEYS}/{ROOT}.jwe ]; then cp {KEYS}/{ROOT}.jwe /mnt{SEALED}/{ROOT}.jwe; chmod 0400 /mnt{SEALED}/{ROOT}.jwe; fi
{copies}\
find {KEYS} -type f -exec shred -u {{}} +
rm -rf {KEYS}
"""


def key_file(volume: str) -> str:
    """In the system: what opens a data disk, on the encrypted root."""
    return f"{SEALED}/{volume}.key"


def label_of(volume: str) -> str:
    """What udev calls the LUKS of a data disk by: /dev/disk/by-label/nixos-scsi1, as nix/encryption.nix has it."""
    return f"nixos-{volume}"


def _root(encryption: Encryption, uuid: str) -> str:
    """Make it, give it its keys, and prove that each of them opens it."""
    uses = uses_of(encryption)
    tools = "cryptsetup shred" + (f" clevis clevis-encrypt-{pin_of(encryption)[0]}" if Use.SEALED in uses else "")
    lines = [
        'fail() { echo "$1" >&2; exit 1; }',
        f'for tool in {tools}; do command -v $tool >/dev/null || fail "the installer has no $tool"; done',
        f"[ -d {KEYS} ] || fail 'the keys are not there'",
        *_made("$root", ROOT, uses, {"uuid": uuid}),
    ]
    if Use.SEALED in uses:
        opens = f'cryptsetup open --test-passphrase {_slot(Use.SEALED)} --key-file - "$root"'
        lines += sealing(encryption, _key(ROOT, Use.SEALED), f"{KEYS}/{ROOT}.jwe", opens)
    lines += _proven("$root", ROOT, [use for use in uses if use is not Use.SEALED])
    lines += [f'cryptsetup open --key-file {_key(ROOT, uses[0])} "$root" {ROOT}', f"root=/dev/mapper/{ROOT}"]
    return "".join(f"{line}\n" for line in lines)


def _data_disk(encryption: Encryption, slot: str, uuid: str) -> str:
    """LUKS on the whole disk. What is made on it then is the system's business."""
    uses, device = uses_of(encryption, slot), f"$DISK_{slot}"
    lines = [f'empty "{device}"', *_made(device, slot, uses, {"uuid": uuid, "label": label_of(slot)})]
    return "".join(f"{line}\n" for line in [*lines, *_proven(device, slot, uses)])


def _made(device: str, volume: str, uses: Sequence[Use], about: Mapping[str, str]) -> list[str]:
    """With the first of its keys, and then the others beside it."""
    first = uses[0]
    options = {"type": "luks2", **about, "key-file": _key(volume, first)}
    words = " ".join([FAST, _slot(first), *(f"--{name} {value}" for name, value in options.items())])
    return [
        f'cryptsetup luksFormat -q {words} "{device}"',
        *(
            f"cryptsetup luksAddKey -q {FAST} {_slot(use)} --key-file {_key(volume, first)} "
            f'"{device}" {_key(volume, use)}'
            for use in uses[1:]
        ),
    ]


def _proven(device: str, volume: str, uses: Sequence[Use]) -> list[str]:
    return [f'cryptsetup open --test-passphrase {_slot(use)} --key-file {_key(volume, use)} "{device}"' for use in uses]


def _slot(use: Use) -> str:
    return f"--key-slot {SLOTS[use]}"


def _key(volume: str, use: Use) -> str:
    return f"{KEYS}/{volume}.{SLOTS[use]}"


def key_delivery(keys: Mapping[str, Mapping[Use, str]]) -> tuple[str, bytes]:
    """A script and its standard input: the keys of each volume, put where no disk holds them."""
    script = f"""{script_marker("keys", ROOT)}\
set -eu
umask 077
case $(stat -f -c %T /run) in tmpfs | ramfs) ;; *) echo "/run is not in memory" >&2; exit 1 ;; esac
if [ "$(wc -l < /proc/swaps)" -gt 1 ]; then echo "it swaps, so what is in memory could get onto a disk" >&2; exit 1; fi
rm -rf {KEYS}
mkdir -m 0700 {KEYS}
tar -xpf - -C {KEYS}
"""
    return script, packed(
        {f"{volume}.{SLOTS[use]}": key for volume, theirs in keys.items() for use, key in theirs.items()}
    )


def packed(files: Mapping[str, str]) -> bytes:
    """A tar archive of keys, for their owner alone."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, key in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(key.encode()), 0o400
            tar.addfile(entry, io.BytesIO(key.encode()))
    return archive.getvalue()
