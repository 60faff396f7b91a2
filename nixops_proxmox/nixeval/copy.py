"""Copies closures to guests over SSH, with the host key pinned by the options that the caller hands in."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from nixops_proxmox.errors import CopyFailed
from nixops_proxmox.nixeval.closure import list_closure
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.nixeval.trace import nix_message

TIMEOUT = 6 * 3600.0  # seconds; gigabytes over a slow line


@dataclass(frozen=True)
class Destination:
    """A guest's store: an `ssh-ng://` URL, what goes into NIX_SSHOPTS, and what to run Nix through (nsenter …)."""

    store_url: str
    ssh_options: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    from_caches: bool = False  # the guest fetches from its own binary caches what it can

    def into(self, root: str) -> "Destination":
        """The store below `root` in the guest (/mnt in an installer) instead of the guest's own."""
        return Destination(under_root(self.store_url, root), self.ssh_options, self.through, self.from_caches)


def under_root(store_url: str, root: str) -> str:
    """The URL of the store below `root` on the same host: `?remote-store=local%3Froot=/mnt`."""
    store = quote(f"local?root={root}", safe="/=")
    return f"{store_url}{'&' if '?' in store_url else '?'}remote-store={store}"


def copy_argv(nix: Nix, paths: Sequence[str], destination: Destination) -> list[str]:
    """One `nix copy` of the paths' closures. A derivation means itself, and not what it builds. The connection proves
    who sends, so a receiving root needs no signatures. Others say why not."""
    derivations = ["--derivation"] if all(path.endswith(".drv") for path in paths) else []
    flags = [*derivations, "--no-check-sigs", *(["--substitute-on-destination"] if destination.from_caches else [])]
    return [*destination.through, *nix.nix_argv("copy", *flags, "--to", destination.store_url, *paths)]


def copy_environment(destination: Destination) -> dict[str, str]:
    """NIX_SSHOPTS. Nix splits it at blanks, so an option that has some is refused here rather than torn there."""
    torn = [option for option in destination.ssh_options if re.search(r"\s", option)]
    if torn:
        raise CopyFailed(
            f"Nix cannot pass on this SSH option, because it contains blanks: {torn[0]!r}",
            hint="keep the state directory and identity files on paths without blanks",
        )
    return {"NIX_SSHOPTS": " ".join(destination.ssh_options)}


def copy_closure(
    nix: Nix,
    system: str,
    destination: Destination,
    *,
    machine: str,
    run: Runner,
    tell: Callable[[str], None] | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Copy a system and all that it needs. What the guest has already is not sent. CopyFailed may be tried again."""
    argv, environment = copy_argv(nix, [system], destination), copy_environment(destination)
    progress = CopyProgress(tell, lambda: list_closure(nix, system, run) or {}) if tell else None
    try:
        done = run(argv, env=environment, tell=progress, timeout=timeout)
    except OutOfTime as error:
        raise CopyFailed(
            f"{machine}: the copy to {destination.store_url} did not end within {timeout:g} s\n{error.stderr}".rstrip()
        ) from error
    if done.status != 0:
        raise CopyFailed(
            f"{machine}: {system} could not be copied to {destination.store_url}\n{nix_message(done.stderr)}",
            hint="run the same command again; it does not send again what has arrived",
        )


class CopyProgress:
    """Turns Nix's lines into `copying 3/24 NAME (118 MiB before it)`. What it cannot read is passed on as it is.
    `sizes`: asked for the bytes of each path when the first one is sent. Nix 2.8 does not say them."""

    def __init__(self, tell: Tell, sizes: Callable[[], Mapping[str, int]] = dict) -> None:
        self._tell, self._sizes = tell, sizes
        self._known: Mapping[str, int] | None = None
        self._total = self._sent = self._bytes = 0

    def __call__(self, line: str) -> None:
        if found := re.match(r"copying (\d+) paths", line):
            self._total = int(found[1])
        elif found := re.match(r"copying path '(/[^']*/[a-z0-9]{32}-([^']+))'", line):
            self._sent += 1
            of_all = f"/{self._total}" if self._total else ""
            before = f" ({self._bytes >> 20} MiB before it)" if self._bytes >> 20 else ""
            self._tell(f"copying {self._sent}{of_all} {found[2]}{before}")
            self._bytes += self._size(found[1])
        elif line.strip():
            self._tell(line)

    def _size(self, path: str) -> int:
        if self._known is None:
            self._known = self._sizes()
        return self._known.get(path, 0)
