"""The SSH server of a first stage: the host key of its own, and the script by which it is handed the key of the disk.
Pure.

Its host key lies on the boot partition, which is not encrypted. So it is never the system's.
"""

from collections.abc import Sequence
from enum import StrEnum

from nixops_proxmox.kinds.machine.encrypted import ROOT
from nixops_proxmox.kinds.machine.encrypted_layout import packed
from nixops_proxmox.kinds.machine.encryption import SEALED
from nixops_proxmox.texts import script_marker

SSH_PORT = "ssh"  # in `Facts.luks`: the port of the first stage's SSH server
HOST_KEY, AUTHORIZED = "ssh_host_ed25519_key", "authorized_keys"  # below SEALED, as in nix/encryption.nix
REPLY = "/etc/nixops-proxmox/reply-password"  # in the first stage: a file that names systemd's program for that
SYSTEMD = "/usr/lib/systemd/systemd-reply-password"  # where others have it
ASKED = "/run/systemd/ask-password"
TIME = 120.0  # seconds for `unlock_script`
_TOLD = "nixops-proxmox-unlocked"


class Handed(StrEnum):
    """What became of a key that a first stage was handed."""

    OPENED = "opened"
    WRONG = "wrong"
    SILENT = "silent"


def delivery_of_key(private: str, authorized: Sequence[str], target: str) -> tuple[str, bytes]:
    """A script and its standard input. A crash leaves the old files or the new ones."""
    files = {HOST_KEY: private, AUTHORIZED: "".join(f"{key.strip()}\n" for key in authorized)}
    folder = f"{target}{SEALED}"
    script = f"""{script_marker("luks-ssh", target or "/")}\
set -eu
umask 077
mkdir -p {folder}
rm -rf {folder}/ssh.new
mkdir {folder}/ssh.new
tar -xpf - -C {folder}/ssh.new
sync
mv -f {folder}/ssh.new/* {folder}/
rmdir {folder}/ssh.new
"""
    return script, packed(files)


def unlock_script() -> str:
    """The key comes by standard input, and goes to who asks for the passphrase of a disk. A first stage has few
    programs, so this needs the shell, `cat` and `sleep`."""
    return f"""{script_marker("luks-unlock", ROOT)}\
key=$(cat)
tell() {{ echo "{_TOLD} $1"; exit 0; }}
is_open() {{ [ -e /dev/mapper/{ROOT} ]; }}
reply={SYSTEMD}
if [ -r {REPLY} ]; then read -r reply < {REPLY} || :; fi
found=silent
for try in 1 2 3; do
  is_open && tell opened
  for ask in {ASKED}/ask.*; do
    [ -r "$ask" ] || continue
    id= socket=
    while IFS= read -r line; do
      case $line in Id=*) id=${{line#Id=}} ;; Socket=*) socket=${{line#Socket=}} ;; esac
    done < "$ask"
    case $id in cryptsetup:*) ;; *) continue ;; esac
    found=wrong
    printf %s "$key" | "$reply" 1 "$socket"
    for second in 1 2 3 4 5 6 7 8 9 10; do is_open && tell opened; [ -e "$ask" ] || break; sleep 1; done
  done
  sleep 1
done
is_open && tell opened
tell $found
"""


def parse_handed(printed: str) -> Handed:
    """Raises ValueError for anything else than what the script prints."""
    word, _, told = printed.strip().partition(" ")
    if word != _TOLD:
        raise ValueError("it was not told what became of the key")
    return Handed(told)
