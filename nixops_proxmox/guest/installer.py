"""The one script that the agent runs in the installer: is it the installer, let us in, tell its boot and host keys."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from nixops_proxmox.errors import CommandFailed
from nixops_proxmox.model import Completed
from nixops_proxmox.texts import script_marker, tail

HEADER = "nixops-proxmox-installer 1"
_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{40,2000}={0,3}")
_BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PUBLIC = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\r\n]*)?")


@dataclass(frozen=True)
class Entered:
    """What answered: the installer or not. Its boot, its SMBIOS UUID (may be empty), its public host keys, and what it
    calls itself (os-release)."""

    is_installer: bool
    boot_id: str
    uuid: str = ""
    host_keys: tuple[str, ...] = ()
    system: str = ""


def enter_script(public_keys: Sequence[str]) -> str:
    """Put the keys into root's authorized_keys, but only in the installer. Elsewhere, just look. Safe to repeat.

    The installer is known by our marker, or by NixOS's own VARIANT_ID (nixos/modules/profiles/installation-device.nix).
    It waits up to 20 s for sshd's host keys, which a booting system may still be making.
    """
    keys = [key.strip() for key in public_keys]
    if not all(_PUBLIC.fullmatch(key) for key in keys):
        raise ValueError("not a public key")
    words = " ".join(map(shlex.quote, keys))
    return f"""{script_marker("enter", *keys)}\
PATH=$PATH:/run/current-system/sw/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
kind=other
grep -qsx 'VARIANT_ID="*installer"*' /etc/os-release && kind=installer
[ -e /etc/nixops-proxmox-installer ] && kind=installer
if [ $kind = installer ]; then
  umask 077
  home=$(awk -F: '$1 == "root" {{ print $6 }}' /etc/passwd 2>/dev/null); file="${{home:-/root}}/.ssh/authorized_keys"
  mkdir -p "${{file%/*}}" && chmod 700 "${{file%/*}}" || exit 1
  [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ] && echo >> "$file"
  for key in {words}; do
    grep -qsxF "$key" "$file" || printf '%s\\n' "$key" >> "$file" || exit 1
  done
  chmod 600 "$file"
  n=0
  while ! grep -qs . /etc/ssh/ssh_host_ed25519_key.pub && [ $n -lt 100 ]; do n=$((n+1)); sleep 0.2; done
fi
echo '{HEADER}'
echo "kind $kind"
echo "boot-id $(cat /proc/sys/kernel/random/boot_id)"
echo "system $(. /etc/os-release 2>/dev/null; echo "${{PRETTY_NAME:-${{NAME:-unknown}}}}")"
echo "uuid $(cat /sys/class/dmi/id/product_uuid 2>/dev/null)"
for file in /etc/ssh/ssh_host_*_key.pub; do
  [ -e "$file" ] && while read -r type key rest; do echo "host-key $type $key"; done < "$file"
done
echo end
"""


def parse_entered(done: Completed) -> Entered:
    """What `enter_script` printed. Raises CommandFailed for anything else."""
    text = done.stdout
    _, _, body = text.partition(f"{HEADER}\n")
    lines = body.splitlines()
    fields = dict(line.split(" ", 1) for line in lines if " " in line and not line.startswith("host-key "))
    keys = [line.removeprefix("host-key ") for line in lines if line.startswith("host-key ")]
    boot_id = fields.get("boot-id", "").strip().lower()
    if "end" not in lines or fields.get("kind") not in ("installer", "other") or not _BOOT_ID.fullmatch(boot_id):
        said = tail(done.stderr.strip(), 500) or "it printed nothing that we can read"
        raise CommandFailed(
            f"the installer could not be entered: {said}",
            status=done.status,
            output=tail(text + done.stderr, 2000),
        )
    good = tuple(dict.fromkeys(key for key in keys if _KEY.fullmatch(key)))
    uuid, system = fields.get("uuid", "").strip().lower(), fields.get("system", "").strip()
    return Entered(fields["kind"] == "installer", boot_id, uuid, good, system)
