"""A binary cache between us and the machines: what they share leaves us once, and each machine fetches it there.

Everything in it is signed by a key of the deployment's own, and a machine takes nothing that is not.
"""

import re
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nixops_proxmox.errors import CopyFailed
from nixops_proxmox.nixeval.activate import ScriptShell
from nixops_proxmox.nixeval.closure import list_closure
from nixops_proxmox.nixeval.copy import TIMEOUT, CopyProgress
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.nixeval.trace import nix_message
from nixops_proxmox.texts import script_marker, tail

# What a machine asks the cache for was put there a moment ago, so an earlier "it is not there" does not count.
_FETCH = """\
nix-store {store}--realise {system} \\
  --option substituters {url} --option trusted-public-keys {key} --option require-sigs true \\
  --option narinfo-cache-negative-ttl 0 --option connect-timeout 15 >/dev/null
"""


@dataclass(frozen=True)
class CacheKey:
    """`file`: the private key, as `nix-store --generate-binary-cache-key` writes it. `public`: NAME:BASE64."""

    file: Path
    public: str


class Caches:
    """The binary caches of one run. Systems go to a cache one after another, so that what they share goes once."""

    def __init__(self, nix: Nix, key: Callable[[], CacheKey], run: Runner) -> None:
        self._nix, self._key, self._run = nix, key, run
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._pushed: set[tuple[str, str]] = set()

    def push(self, system: str, store: str, tell: Tell) -> None:
        """Sign the system and all that it needs, and copy to the store what it lacks. Raises CopyFailed."""
        with self._turn(store):
            if (store, system) in self._pushed:
                return
            for argv in push_argvs(self._nix, system, store, self._key().file):
                self._do(argv, system, store, tell)
            self._pushed.add((store, system))

    def fetch(self, system: str, url: str, shell: ScriptShell, *, machine: str, root: str = "") -> None:
        """Have the machine fetch it. `root`: into the store below it. Raises CopyFailed."""
        done = shell.run(fetch_script(system, url, self._key().public, root), timeout=TIMEOUT)
        if done.status != 0:
            raise CopyFailed(f"{machine}: it could not fetch {system} from {url}\n{tail(done.stderr.strip(), 1000)}")

    def _turn(self, store: str) -> threading.Lock:
        with self._lock:
            return self._turns.setdefault(store, threading.Lock())

    def _do(self, argv: list[str], system: str, store: str, tell: Tell) -> None:
        progress = CopyProgress(tell, lambda: list_closure(self._nix, system, self._run) or {})
        try:
            done = self._run(argv, tell=progress, timeout=TIMEOUT)
        except OutOfTime as error:
            raise CopyFailed(f"{system} was not in the cache {store} within {TIMEOUT:g} s") from error
        if done.status != 0:
            raise CopyFailed(f"{system} could not be copied to the cache {store}\n{nix_message(done.stderr)}")


def push_argvs(nix: Nix, system: str, store: str, key: Path) -> list[list[str]]:
    """A store of files signs what it gets. Any other one gets what was signed here."""
    copy = ["--no-check-sigs", "--to"]
    if re.match(r"(?:file|https?|s3):", store):
        more = "" if "compression=" in store else "compression=zstd&"
        url = f"{store}{'&' if '?' in store else '?'}{more}secret-key={quote(str(key))}"
        return [nix.nix_argv("copy", *copy, url, system)]
    sign = nix.nix_argv("store", "sign", "--recursive", "--key-file", str(key), system)
    return [sign, nix.nix_argv("copy", *copy, store, system)]


def fetch_script(system: str, url: str, public: str, root: str = "") -> str:
    """A POSIX script for the machine, as root: Nix takes these settings from no other user."""
    store = f"--store {shlex.quote(f'local?root={root}')} " if root else ""
    words = {"system": system, "url": url, "key": public}
    quoted = {name: shlex.quote(word) for name, word in words.items()}
    return script_marker("fetch", system) + _FETCH.format(store=store, **quoted)
