"""New keys for an encrypted volume that is in use: the scripts that put them beside the old ones, and then in their
place. Pure.

Each new key first gets a spare slot. Only when it is where it is needed later (the sink, the key store, the boot
loader's first stage), the old key's slot is emptied. So there is no moment without a key that opens the disk. Every
line may run twice.
"""

import shlex
from collections.abc import Mapping, Sequence

from nixops_proxmox.kinds.machine.encrypted import ROOT
from nixops_proxmox.kinds.machine.encrypted_layout import FAST, key_file, packed
from nixops_proxmox.kinds.machine.encryption import KEYS, SEALED, SLOTS, TELL_HEADER, Use, find_device, uses_of
from nixops_proxmox.kinds.machine.first_stage import SEEK
from nixops_proxmox.kinds.machine.header import SPARE
from nixops_proxmox.kinds.machine.sealing import pin_of, sealing_for_boot
from nixops_proxmox.spec import Encryption
from nixops_proxmox.texts import script_marker

LOCKED = 90  # the exit status of `stage_script` where no key opens the disk
TAKEN = 91  # and where a spare slot is somebody else's
STALE = 92  # of `settle_script`: the first stage has another sealed key than the system
PROFILE = "/nix/var/nix/profiles/system"
_SEALED = f"{SEALED}/{ROOT}.jwe"
_NEW = f"{KEYS}/{ROOT}.jwe"


def delivery(keys: Mapping[Use, str], opening: Sequence[str], volume: str = ROOT) -> tuple[str, bytes]:
    """A script and its standard input: the new keys, and some that may open the volume now. They are in memory that is
    never swapped."""
    files = {f"{volume}.{SLOTS[use]}": key for use, key in keys.items()}
    files |= {f"open.{number}": key for number, key in enumerate(opening)}
    script = f"""{script_marker("luks-keys", volume)}\
set -eu
umask 077
mkdir -p -m 0700 {KEYS}
mountpoint -q {KEYS} || mount -t ramfs -o mode=0700 none {KEYS}
rm -f {KEYS}/*
tar -xpf - -C {KEYS}
"""
    return script, packed(files)


def _begin(volume_uuid: str) -> str:
    """The words of both scripts. One of them works at a time."""
    return f"""\
exec 9> {KEYS}.lock
flock -w 240 9 || {{ echo "another run works on the keys of this disk" >&2; exit 1; }}
{find_device(volume_uuid)}\
opens() {{ cryptsetup open --test-passphrase --key-slot "$1" --key-file "$2" "$device" 2>/dev/null; }}
is_used() {{ cryptsetup luksDump "$device" | grep -q "^  $1: luks2"; }}
empty() {{ ! is_used "$1" || cryptsetup luksKillSlot -q "$device" "$1"; }}
put() {{ # the key of a file into a slot, opened by another's
  opens "$1" "$2" || {{ empty "$1"; cryptsetup luksAddKey -q {FAST} --key-slot "$1" --key-file "$3" "$device" "$2"; }}
  opens "$1" "$2"
}}
"""


def stage_script(encryption: Encryption, volume_uuid: str, volume: str = ROOT, *, again: bool) -> str:
    """Give each new key a spare slot beside the old ones, and seal the one that others unseal. `again`: the spare slots
    are ours, from a run that broke off."""
    uses = uses_of(encryption, volume)
    slots = [SLOTS[use] for use in uses]
    spares = " ".join(str(slot + SPARE) for slot in slots)
    lines = [_begin(volume_uuid), _find_opening(volume, slots)]
    if not again:
        lines.append(_REFUSE_TAKEN.format(spares=spares))
    lines += [f'put {slot + SPARE} {KEYS}/{volume}.{slot} "$opening"\n' for slot in slots]
    if Use.SEALED in uses:
        lines.append(_seal(encryption))
    marker = script_marker("luks-stage", volume_uuid, _listed(slots), "again" if again else "first")
    return marker + "set -eu\numask 077\n" + "".join(lines)


def _find_opening(volume: str, slots: Sequence[int]) -> str:
    """The first that opens it: a new key, one that was brought, or what the system itself opens it with."""
    own = _UNSEAL if volume == ROOT else _USE_KEY_FILE.format(file=key_file(volume))
    return f"""\
opening=
for slot in {" ".join(map(str, slots))}; do
  file={KEYS}/{volume}.$slot
  [ -f $file ] || continue
  if opens $((slot + {SPARE})) $file || opens $slot $file; then opening=$file; break; fi
done
for file in {KEYS}/open.*; do
  [ -z "$opening" ] && [ -f $file ] || continue
  if cryptsetup open --test-passphrase --key-file $file "$device" 2>/dev/null; then opening=$file; fi
done
{own}\
[ -n "$opening" ] || {{ echo "no key opens it" >&2; exit {LOCKED}; }}
"""


_UNSEAL = f"""\
if [ -z "$opening" ] && [ -e {_SEALED} ] && command -v clevis >/dev/null; then
  file={KEYS}/unsealed
  if clevis decrypt < {_SEALED} > $file && opens {SLOTS[Use.SEALED]} $file; then opening=$file; fi
fi
"""
_USE_KEY_FILE = f"""\
if [ -z "$opening" ] && opens {SLOTS[Use.SYSTEM]} {{file}}; then opening={{file}}; fi
"""

_REFUSE_TAKEN = f"""\
for slot in {{spares}}; do
  if is_used $slot; then echo "$slot" >&2; exit {TAKEN}; fi
done
"""


def _seal(encryption: Encryption) -> str:
    """Each server is asked for itself, and then what all of them sealed is unsealed."""
    pin, config = pin_of(encryption)
    slot = SLOTS[Use.SEALED]
    tries = [
        f'[ "$(echo probe | clevis encrypt tang {shlex.quote(one)} | clevis decrypt)" = probe ] || '
        f"{{ echo {shlex.quote(f'the tang server {url} does not seal and unseal')} >&2; exit 1; }}\n"
        for url, one in _servers(encryption)
    ]
    begin = f"""\
command -v clevis >/dev/null || {{ echo "the system has no clevis" >&2; exit 1; }}
{"".join(tries)}\
"""
    if encryption.unlock.tpm2 is not None:
        lines = sealing_for_boot(encryption, f"{KEYS}/{ROOT}.{slot}", _NEW)
        return begin + "".join(f"{line}\n" for line in lines)
    return f"""\
{begin}\
clevis encrypt {pin} {shlex.quote(config)} < {KEYS}/{ROOT}.{slot} > {_NEW}
clevis decrypt < {_NEW} > {KEYS}/unsealed
opens {slot + SPARE} {KEYS}/unsealed
"""


def _servers(encryption: Encryption) -> list[tuple[str, str]]:
    """By address: how clevis is told of one alone."""
    alone = (
        encryption.model_copy(
            update={"threshold": 1, "unlock": encryption.unlock.model_copy(update={"tang": (one,), "tpm2": None})}
        )
        for one in encryption.unlock.tang
    )
    return [(str(one.unlock.tang[0].url), pin_of(one)[1]) for one in alone]


def hand_on_script(volume_uuid: str) -> str:
    """The next first stage gets the new sealed key, whose spare slot opens the root beside all others. The keys are
    taken out of the memory."""
    slot = SLOTS[Use.SEALED]
    lines = [f"opens {slot + SPARE} {KEYS}/{ROOT}.{slot}\n", _replace(_NEW, _SEALED), _TAKE_ALONG, _LEAVE]
    marker = script_marker("luks-hand-on", volume_uuid)
    return f"{marker}set -eu\numask 077\n{_begin(volume_uuid)}{''.join(lines)}"


def settle_script(
    encryption: Encryption, volume_uuid: str, emptied: Sequence[int], volume: str = ROOT, *, handed_on: bool = False
) -> str:
    """Put the new keys into the places of the old ones. `emptied`: our slots that nothing needs afterwards. What opens
    the volume by itself gets its new key before anything is taken away, unless it was `handed_on` before. Tells the
    header."""
    uses = uses_of(encryption, volume)
    slots = [SLOTS[use] for use in uses]
    lines = [_begin(volume_uuid)]
    # One that broke off while it emptied the spare slots had filled all others before.
    new = {slot: f"{KEYS}/{volume}.{slot}" for slot in slots}
    lines += [f"opens {slot + SPARE} {file} || opens {slot} {file}\n" for slot, file in new.items()]
    if Use.SEALED in uses and not handed_on:
        lines.append(_replace(_NEW, _SEALED) + _TAKE_ALONG)
    if Use.SYSTEM in uses:
        lines.append(_replace(f"{KEYS}/{volume}.{SLOTS[Use.SYSTEM]}", key_file(volume)))
    lines += [f"put {slot} {KEYS}/{volume}.{slot} {KEYS}/{volume}.{slot}\n" for slot in slots]
    lines += [f"empty {slot}\n" for slot in emptied]
    lines.append(_LEAVE)
    marker = script_marker("luks-settle", volume_uuid, _listed(slots), _listed(emptied))
    return f"{marker}set -eu\numask 077\n{''.join(lines)}{TELL_HEADER}"


_LEAVE = f"rm -f {KEYS}/*\numount {KEYS}\n"


def _listed(slots: Sequence[int]) -> str:
    return ",".join(map(str, slots))


def _replace(file: str, kept: str) -> str:
    """A crash leaves the old file or the new one."""
    return f"""\
mkdir -p -m 0700 {SEALED}
cp {file} {kept}.new
chmod 0400 {kept}.new
sync
mv {kept}.new {kept}
"""


_TAKE_ALONG = f"""\
{PROFILE}/bin/switch-to-configuration boot >&2
{SEEK}\
stage=$(seek_sealed)
case $stage in lacks*) echo "${{stage#lacks }}" >&2; exit {STALE} ;; esac
"""
