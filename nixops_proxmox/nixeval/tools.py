"""Finds Nix on this machine, and says which flags this Nix needs in order to do its work here."""

import grp
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nixops_proxmox.errors import NixMissing
from nixops_proxmox.nixeval.runner import ProcessRunner, Runner

# Where Nix is when PATH does not say so: sudo and cron hand on a short one.
USUAL_PLACES = (
    "/run/current-system/sw/bin",
    "/nix/var/nix/profiles/default/bin",
    "~/.nix-profile/bin",
    "~/.local/state/nix/profile/bin",
)
OLDEST = (2, 4)  # NIX_CONFIG, and the `nix copy` of today
HOW_TO_GET = "install Nix: `apt install nix-bin` on Debian, or see https://nixos.org/download"
NO_STORE = (
    "you may not write /nix, and there is no Nix daemon that does: install one (`apt install nix-setup-systemd` on"
    " Debian), or name a store of your own in NIX_CONFIG (`store = /home/me/nix`)"
)

ROOT_IN_NAME = (
    "you are root in name only, in a user namespace, and this Nix is too old to build there: run it as the user that"
    " you are outside, or get a newer Nix"
)


class Store(StrEnum):
    """Who writes the store."""

    DAEMON = "daemon"
    LOCAL = "local"  # single-user: we do
    OTHER = "other"  # a store URL in NIX_REMOTE or NIX_CONFIG: we change nothing


@dataclass(frozen=True)
class Nix:
    """A Nix that was found: its programs, version and kind of store. It builds argv and runs nothing."""

    directory: Path
    version: tuple[int, ...]
    store: Store = Store.DAEMON
    flags: tuple[str, ...] = ()  # what every command needs here

    def argv(self, program: str, *arguments: str) -> list[str]:
        """A classic command: nix-instantiate, nix-store, …"""
        return [str(self.directory / program), *self.flags, *arguments]

    def nix_argv(self, command: str, *arguments: str, features: Sequence[str] = ()) -> list[str]:
        """A command of the `nix` program, which counts as experimental and must be allowed to run."""
        wanted = " ".join(["nix-command", *features])
        return [str(self.directory / "nix"), "--extra-experimental-features", wanted, command, *self.flags, *arguments]


def find_nix(environment: Mapping[str, str] | None = None, run: Runner | None = None) -> Nix | None:
    """The first Nix on PATH or in the usual places. None when there is none that runs."""
    environment = os.environ if environment is None else environment
    program = _find_program(environment)
    if program is None:
        return None
    run = ProcessRunner() if run is None else run
    done = run([str(program), "--version"], timeout=30)
    version = parse_version(done.stdout)
    if done.status != 0 or version is None:
        return None
    kind = store_kind(environment)
    return Nix(program.parent, version, kind, tuple(store_flags(kind)))


def get_nix(environment: Mapping[str, str] | None = None, run: Runner | None = None) -> Nix:
    """Like `find_nix`. Raises NixMissing, which says how to get one."""
    nix = find_nix(environment, run)
    if nix is None:
        raise NixMissing("there is no Nix on this machine", hint=HOW_TO_GET)
    if nix.version < OLDEST:
        found, oldest = (".".join(map(str, version)) for version in (nix.version, OLDEST))
        raise NixMissing(f"the Nix in {nix.directory} is {found}; at least {oldest} is needed", hint=HOW_TO_GET)
    return nix


def explain_store(words: str) -> str:
    """A hint, if it is an older Nix that failed for who we are: it makes no store for a user without a daemon, and does
    not build for a user namespace's root. Empty otherwise."""
    if "setgroups failed" in words:
        return ROOT_IN_NAME
    return NO_STORE if re.search(r"creating directory '/nix\b.*Permission denied", words) else ""


def parse_version(text: str) -> tuple[int, ...] | None:
    """(2, 8, 0) from `nix-instantiate (Nix) 2.8.0`. Suffixes such as pre20220525 are left out."""
    found = re.search(r"\b(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups() if part is not None) if found else None


def store_kind(
    environment: Mapping[str, str],
    *,
    state: Path = Path("/nix/var/nix"),
    may_write: Callable[[Path], bool] = lambda path: os.access(path, os.W_OK),
) -> Store:
    """Which store Nix's own rule ("auto") takes: its state directory if we may write it, else the daemon's socket."""
    remote = environment.get("NIX_REMOTE", "")
    if remote == "daemon":
        return Store.DAEMON
    if remote not in ("", "auto") or re.search(r"(?m)^\s*store\s*=", environment.get("NIX_CONFIG", "")):
        return Store.OTHER
    if may_write(state) or (not state.exists() and may_write(Path("/"))):
        return Store.LOCAL
    return Store.DAEMON


def store_flags(
    kind: Store, *, is_root: bool | None = None, has_group: Callable[[str], bool] | None = None
) -> Iterator[str]:
    """Root without a daemon builds as the users of the group nixbld. Where that is missing, builds run as root."""
    is_root = os.geteuid() == 0 if is_root is None else is_root
    has_group = _has_members if has_group is None else has_group
    if kind is not Store.DAEMON and is_root and not has_group("nixbld"):
        yield from ("--option", "build-users-group", "")


def _find_program(environment: Mapping[str, str]) -> Path | None:
    home = environment.get("HOME", "")
    places = [place.replace("~", home) for place in USUAL_PLACES if home or not place.startswith("~")]
    path = os.pathsep.join(part for part in (environment.get("PATH", ""), *places) if part)
    found = shutil.which("nix-instantiate", path=path)
    return Path(found) if found else None


def _has_members(group: str) -> bool:
    try:
        return bool(grp.getgrnam(group).gr_mem)
    except KeyError:
        return False
