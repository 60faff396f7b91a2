"""The keys of `deployment.keys`: read here when they are needed, and written into a guest's memory through SSH. And the
files of `deployment.files`, which the installer puts onto the disk."""

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from nixops_proxmox.errors import ConfigError, GuestError
from nixops_proxmox.model import Completed, FileForDisk, Machine
from nixops_proxmox.paths import expanded
from nixops_proxmox.secrecy import learn
from nixops_proxmox.spec.placed_file import PlacedFile
from nixops_proxmox.spec.sent_key import IN_MEMORY, SentKey
from nixops_proxmox.texts import tail

LARGEST = 1 << 20  # bytes of one key
TIMEOUT = 300.0  # seconds: a password store may ask its user for something
SEND_TIME = 60.0
WORTH_BLANKING = 12  # characters of a line; a shorter one may be an ordinary word


class Runs(Protocol):
    """What is needed of a shell in the guest."""

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed: ...


ReadKey = Callable[[Sequence[str]], bytes]

# The whole key is there, with its owner and mode, or none of it. The same key is left alone, so no unit that waits for
# it starts again.
SCRIPT = """\
set -eu
umask 077
dir={dir} path={path} owner={user}:{group}
if [ ! -d "$dir" ]; then
  if [ "$dir" = {memory} ]; then mkdir -p -m 0750 "$dir"; chown root:keys "$dir" 2>/dev/null || :
  else (umask 022; mkdir -p "$dir"); fi
fi
if [ "$dir" = {memory} ]; then
  case $(stat -f -c %T "$dir") in
    tmpfs | ramfs) ;;
    *) echo "its $dir is not in memory but on $(stat -f -c %T "$dir")" >&2; exit 3 ;;
  esac
fi
temp=$(mktemp "$dir/.{name}.XXXXXX")
trap 'rm -f "$temp"' EXIT
cat > "$temp"
if [ "$(stat -c %s "$temp")" != {size} ]; then echo "the connection broke" >&2; exit 3; fi
chmod {mode} "$temp"
if chown "$owner" "$temp" 2>/dev/null; then owned=yes; else owned=no; fi
look() {{ stat -c %a:%U:%G "$1"; }}
same() {{ [ -f "$path" ] && cmp -s "$temp" "$path" && [ "$(look "$temp")" = "$(look "$path")" ]; }}
same || mv -f "$temp" "$path"
echo "owned=$owned"
"""

LOOK = """\
set -eu
while read -r sum name path; do
  if [ ! -f "$path" ]; then echo "$name"; continue; fi
  [ "$sum" = - ] || [ "$(sha256sum < "$path" | cut -d' ' -f1)" = "$sum" ] || echo "$name"
done
"""


def run_here(argv: Sequence[str]) -> bytes:
    """What a command of the operator's prints. Raises OSError, ValueError if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT, check=False, env=os.environ)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"it did not end within {TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        said = tail(done.stderr.decode("utf-8", "replace").strip(), 400)
        raise ValueError(f"it ended with exit status {done.returncode}{': ' if said else ''}{said}")
    return done.stdout


@dataclass(frozen=True)
class KeyCourier:
    """Satisfies `kinds.machine.ports.Courier`."""

    keys: Sequence[SentKey]
    run: ReadKey = run_here
    files: Sequence[PlacedFile] = ()

    def paths(self) -> Mapping[str, str]:
        return {key.name: key.path for key in self.keys}

    def find_lacking(self, machine: Machine, shell: Runs) -> Sequence[str]:
        """Their sums go through standard input, so no other user of the guest sees them."""
        lines = []
        for key in self.keys:
            content = b"" if key.key_command is not None else self.read(machine, key)
            lines.append(f"{sha256(content).hexdigest() if content else '-'} {key.name} {key.path}\n")
        done = shell.run(LOOK, stdin="".join(lines).encode(), timeout=SEND_TIME)
        if done.status != 0:
            raise GuestError(f"{machine.name}: its keys could not be looked at: {tail(done.stderr.strip(), 400)}")
        return [key.name for key in self.keys if key.name in done.stdout.split()]

    def send(self, machine: Machine, shell: Runs) -> Sequence[str]:
        """Each is read before any is sent, so that a missing one changes nothing."""
        ready = [(key, self.read(machine, key)) for key in self.keys]
        return [key.name for key, content in ready if not self._put(machine, shell, key, content)]

    def placed(self, machine: Machine) -> Sequence[FileForDisk]:
        """Each is read before any is put anywhere."""
        ready = []
        for one in self.files:
            where = f'{machine.name}.deployment.files."{one.name}"'
            words = {"file": one.file, "command": one.command}
            content = self._read(where, one.text, words)
            ready.append(FileForDisk(one.name, content, int(one.permissions, 8), one.uid, one.gid))
        return ready

    def read(self, machine: Machine, key: SentKey) -> bytes:
        """Raises ConfigError if it cannot be read, is empty or is too large."""
        words = {"keyFile": key.key_file, "keyCommand": key.key_command}
        return self._read(f"{machine.name}.deployment.keys.{key.name}", key.text, words)

    def _read(self, where: str, text: str | None, words: Mapping[str, str | Sequence[str] | None]) -> bytes:
        """`words`: by the option's name a file, or a command."""
        (option, source), *_ = [(name, said) for name, said in words.items() if said is not None] or [("", "")]
        try:
            if text is not None:
                content = text.encode()
            else:
                where += f".{option}"
                content = expanded(source).read_bytes() if isinstance(source, str) else self.run(source)
        except OSError as error:
            raise ConfigError(f"{where}: {error.filename or ''}: {error.strerror}", hint="nothing was sent") from error
        except ValueError as error:
            raise ConfigError(f"{where}: {error}", hint="nothing was sent") from error
        if not content or len(content) > LARGEST:
            raise ConfigError(f"{where}: it has {len(content)} bytes: expected 1 to {LARGEST}", hint="nothing was sent")
        learn(*(line for line in content.decode("utf-8", "replace").splitlines() if len(line) >= WORTH_BLANKING))
        return content

    def _put(self, machine: Machine, shell: Runs, key: SentKey, content: bytes) -> bool:
        """Whether it has its owner: the system that knows the user may come only now."""
        script = SCRIPT.format(
            dir=shlex.quote(key.dest_dir),
            path=shlex.quote(key.path),
            user=shlex.quote(key.user),
            group=shlex.quote(key.group),
            name=key.name,
            mode=key.permissions,
            memory=IN_MEMORY,
            size=len(content),
        )
        done = shell.run(script, stdin=content, timeout=SEND_TIME)
        if done.status != 0:
            said = tail(done.stderr.strip(), 400)
            raise GuestError(
                f"{machine.name}: the key {key.name} could not be written to {key.path}: {said or done.status}"
            )
        return "owned=yes" in done.stdout
