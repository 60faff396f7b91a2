"""The one script that the agent runs in a copied system: its identity, who may log in, and sshd taking the host key."""

import base64
import json
import re
import shlex
from collections.abc import Mapping, Sequence

from nixops_proxmox.model import Completed
from nixops_proxmox.texts import script_marker

HEADER = "nixops-proxmox-introduced 1"
_PUBLIC = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\r\n]*)?")

_BODY = r"""PATH=$PATH:/run/current-system/sw/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
rm -f -- "$0"
umask 077
command -v cloud-init >/dev/null 2>&1 && cloud-init status --wait >/dev/null 2>&1
put() {
  ( umask 022; mkdir -p "${1%/*}" ) && printf %s "$3" | base64 -d > "$1.new" && chmod "$2" "$1.new" \
    && mv -f "$1.new" "$1" && return
  echo "cannot write $1" >&2; exit 1
}
authorize() {
  entry=$(awk -F: -v user="$1" '$1 == user { print $3 ":" $4 ":" $6 }' /etc/passwd 2>/dev/null)
  [ -n "$entry" ] || { [ "$1" = root ] && entry=0:0:/root; } || { echo "there is no user $1" >&2; exit 1; }
  home=${entry#*:*:}; file="$home/.ssh/authorized_keys"; shift
  mkdir -p "$home/.ssh" && chmod 700 "$home/.ssh" || exit 1
  [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ] && echo >> "$file"
  for key; do
    grep -qsxF "$key" "$file" || printf '%s\n' "$key" >> "$file" || exit 1
  done
  chmod 600 "$file" && chown -R "${entry%:*}" "$home/.ssh"
}
"""

_RESTART = f"""sync
for unit in sshd ssh; do
  systemctl is-active "$unit.service" >/dev/null 2>&1 && systemctl restart "$unit.service" && break
done
echo '{HEADER}'
"""


def introduce_script(files: Mapping[str, tuple[str, int]], authorized: Sequence[str], users: Sequence[str]) -> str:
    """`files`: text and mode, by path from the root. `authorized`: public keys, let in as each of `users`. Safe to
    repeat. It waits for cloud-init, whose first run makes host keys of its own, and leaves no copy of itself behind."""
    keys = [key.strip() for key in authorized]
    if not all(_PUBLIC.fullmatch(key) for key in keys):
        raise ValueError("not a public key")
    placed = {f"/{path.lstrip('/')}": content for path, content in files.items()}
    texts = {path: text for path, (text, _) in placed.items()}
    marker = script_marker("introduce", json.dumps({"files": texts, "keys": keys, "users": list(users)}))
    lines = [_put(path, text, mode) for path, (text, mode) in placed.items()]
    lines += [f"authorize {shlex.join([user, *keys])}" for user in users]
    return marker + _BODY + "\n".join(lines) + "\n" + _RESTART


def _put(path: str, text: str, mode: int) -> str:
    return f"put {shlex.quote(path)} {mode:o} {base64.b64encode(text.encode()).decode()}"


def is_introduced(done: Completed) -> bool:
    return done.status == 0 and HEADER in done.stdout.splitlines()
