"""Builds systems, several at once, and keeps them from being collected."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.evaluate import Toplevel
from nixops_proxmox.nixeval.following import Built, Following, NothingLeft, Settled
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.nixeval.trace import nix_message

TIMEOUT = 24 * 3600.0  # seconds; a kernel is slow to compile


def build_argv(nix: Nix, drv_paths: Iterable[str]) -> list[str]:
    """One build of everything. One that fails does not stop the others."""
    return nix.argv("nix-store", "--realise", "--keep-going", *sorted(set(drv_paths)))


def build_systems(
    nix: Nix,
    toplevels: Mapping[str, Toplevel],
    *,
    roots: Path,
    run: Runner,
    tell: Tell | None = None,
    ended: Settled = lambda _name, _failure: None,
    timeout: float = TIMEOUT,
) -> Built:
    """Build the machines' systems in one go. Each that is there gets the garbage collector's root `roots/NAME`. `ended`
    is told of each machine at once, whatever the others still need: None, or why its system is not there."""
    following = Following(nix, toplevels, roots, run, ended)
    if toplevels:
        with following.looking():
            done = _build(nix, toplevels, run, following.listen(tell), timeout)
        following.take(done)
    return Built(following.systems, following.failures)


def _build(nix: Nix, toplevels: Mapping[str, Toplevel], run: Runner, tell: Tell, timeout: float) -> Completed:
    try:
        return run(build_argv(nix, (one.drv_path for one in toplevels.values())), tell=tell, timeout=timeout)
    except OutOfTime as error:
        return Completed(1, "", f"error: the build did not end within {timeout:g} s\n{nix_message(error.stderr)}")
    except NothingLeft:
        return Completed(0)


def build_system(nix: Nix, name: str, toplevel: Toplevel, *, roots: Path, run: Runner, tell: Tell | None = None) -> str:
    """Build one machine's system and return its store path. Raises BuildFailed."""
    built = build_systems(nix, {name: toplevel}, roots=roots, run=run, tell=tell)
    for failure in built.failures.values():
        raise failure
    return built.systems[name]


def drop_root(roots: Path, name: str) -> None:
    """Let go of a machine's system. One that has no root is fine."""
    (roots / name).unlink(missing_ok=True)
