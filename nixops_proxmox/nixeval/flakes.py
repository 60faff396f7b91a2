"""Reads flake references as `nix build` reads them: Nix itself says what a reference means, and what of it is copied.

A folder in a git work tree means the files that git knows. Handed to Nix as a bare path it would mean the whole folder,
with `.git` and with ignored secrets, and all of it would land in the store, which everybody can read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix, explain_store
from nixops_proxmox.nixeval.trace import nix_message
from nixops_proxmox.paths import expanded

# What a reference contains whose content can never be another one.
_PINNED = re.compile(
    r"[?&](?:rev=[0-9a-f]{40}|narHash=sha256-)|^(?:github|gitlab|sourcehut):[^/?]+/[^/?]+/[0-9a-f]{40}\b"
)
_LOCAL = re.compile(r"(?P<scheme>path:|git\+file:)(?://)?(?P<path>[^?]*)(?P<query>\?.*)?", re.DOTALL)


@dataclass(frozen=True)
class LockedFlake:
    """What a reference means now. `url`: as `builtins.getFlake` takes it. `said`: what Nix said beside. `tree`: where
    the store has the flake's own files."""

    url: str
    said: str = ""
    tree: Path | None = None

    @property
    def is_pinned(self) -> bool:
        """It will mean the same for ever. The files of a work tree with changes do not."""
        return _PINNED.search(self.url) is not None


def split_reference(reference: str) -> tuple[str, str]:
    """The flake, and the name after `#`: whole, dots and all, as nixos-rebuild takes it. No flake means `.`."""
    flake, _, fragment = reference.partition("#")
    name = unquote(fragment)
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1]
    return flake or ".", name


def metadata_argv(nix: Nix, flake: str, base: Path) -> list[str]:
    """Asks Nix what a reference means. It locks inputs, and writes the lock file, as `nix build` does."""
    return nix.nix_argv("flake", "metadata", "--json", absolute(flake, base), features=["flakes"])


def absolute(flake: str, base: Path) -> str:
    """`path:.` and `git+file:.` with the whole path: older versions of Nix take them for the root's, or lose them."""
    found = _LOCAL.fullmatch(flake)
    if found is None or found["path"].startswith("/"):
        return flake
    return f"{found['scheme']}{(base / found['path']).resolve()}{found['query'] or ''}"


def lock_flake(
    nix: Nix, flake: str, *, run: Runner, base: Path | None = None, tell: Tell | None = None, timeout: float
) -> LockedFlake:
    """Pinned as far as the flake can be: a dirty tree cannot."""
    try:
        done = run(metadata_argv(nix, flake, base or Path.cwd()), tell=tell, timeout=timeout)
    except OutOfTime as error:
        raise EvaluationFailed(f"reading the flake {flake} did not end within {timeout:g} s\n{error.stderr}") from error
    if done.status != 0:
        words = nix_message(done.stderr)
        hint = explain_store(words) or _hint(flake, nix)
        raise EvaluationFailed(f"{flake}: the flake cannot be read\n{words}", hint=hint)
    try:
        metadata = json.loads(done.stdout)
        tree = metadata.get("path")
        return LockedFlake(_whole_url(metadata), done.stderr, Path(tree) if isinstance(tree, str) else None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationFailed(f"{flake}: Nix did not say what this flake is") from error


def _whole_url(metadata: Mapping[str, Any]) -> str:
    """Older versions of Nix leave the wish for submodules out of the URL, though they had it."""
    url = str(metadata["url"])
    if not metadata["locked"].get("submodules") or "submodules=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}submodules=1"


def local_folder(flake: str, base: Path) -> Path | None:
    """The folder that holds the flake.nix which a local reference means. None for one that is elsewhere.

    As Nix does, look in the folders above, too, where the folder itself has no flake.nix.
    """
    found = _LOCAL.fullmatch(flake)
    address = f"{found['path']}{found['query'] or ''}" if found else flake
    path, _, query = address.partition("?")
    if found is None and not path.startswith((".", "/", "~")):
        return None
    folder = (base / expanded(unquote(path))).resolve()
    if inner := parse_qs(query).get("dir"):
        return (folder / inner[0]).resolve()
    above = (one for one in (folder, *folder.parents) if (one / "flake.nix").is_file())
    return folder if found else next(above, folder)


def _hint(flake: str, nix: Nix) -> str:
    if re.search(r"\s", flake) and nix.version < (2, 20):
        return "older versions of Nix take no blanks in a flake's path: move it, or use a newer Nix"
    if "flake.nix" in flake:
        return "give the folder of the flake.nix"
    return ""
