"""Scripts for a machine that runs and gets another host key, or has it in another place. Pure.

Each looks first, so it may run twice. A path may be a link, as where `/etc` does not stay: what it leads to is written.
The key before stays beside the new one (`.old`) until that was proven. sshd keeps the sessions that it has.
"""

import shlex

from nixops_proxmox.kinds.machine.packing import pack
from nixops_proxmox.model import FileForDisk
from nixops_proxmox.texts import script_marker

_START = """\
set -e
umask 077
key=$(readlink -f {path} 2>/dev/null) || key={path}
restart() {{
  sync
  for unit in sshd ssh; do
    if systemctl is-active "$unit.service" >/dev/null 2>&1; then systemctl restart "$unit.service"; return; fi
  done
}}
"""
_PUT = """\
work=$(mktemp -d "${key%/*}/.nixops-proxmox.XXXXXX")
trap 'rm -rf "$work"' EXIT
tar -xpf - -C "$work"
if ! cmp -s "$work/key" "$key"; then
  if [ -e "$key" ] && [ ! -e "$key.old" ]; then cp -p "$key" "$work/old"; mv -f "$work/old" "$key.old"; fi
  mv -f "$work/key" "$key"
fi
mv -f "$work/key.pub" "$key.pub"
restart
"""
_BACK = """\
if [ -e "$key.old" ]; then
  mv -f "$key.old" "$key"
  printf '%s\\n' {public} >"$key.pub"
  chmod 644 "$key.pub"
fi
restart
"""
_CLEAN = """\
rm -f "$key.old"
sync
"""
_MOVE = """\
set -e
umask 077
if [ ! -e {to} ]; then
  ( umask 022; mkdir -p "$(dirname {to})" )
  cp -p {have} {to}.new
  cp -p {have}.pub {to}.pub
  mv -f {to}.new {to}
  sync
fi
"""


def put_delivery(path: str, private: str, public: str) -> tuple[str, bytes]:
    """A script and its standard input: the new key comes in the place of the one before, and sshd shows it."""
    public = f"{public.strip()}\n"
    packed = pack([FileForDisk("key", private.encode(), 0o600), FileForDisk("key.pub", public.encode(), 0o644)])
    return script_marker("rekey-put", path) + _START.format(path=shlex.quote(path)) + _PUT, packed


def back_script(path: str, public: str) -> str:
    """The key before comes back. `public`: of that key."""
    told = _START.format(path=shlex.quote(path)) + _BACK.format(public=shlex.quote(public.strip()))
    return script_marker("rekey-back", path) + told


def clean_script(path: str) -> str:
    """The key before goes."""
    return script_marker("rekey-clean", path) + _START.format(path=shlex.quote(path)) + _CLEAN


def move_script(have: str, to: str) -> str:
    """The key is in another place, too, unless there is one."""
    return script_marker("rekey-move", have, to) + _MOVE.format(have=shlex.quote(have), to=shlex.quote(to))
