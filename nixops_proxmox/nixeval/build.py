"""Builds systems, several at once, and keeps them from being collected."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nixops_proxmox.errors import BuildFailed
from nixops_proxmox.nixeval.evaluate import Toplevel
from nixops_proxmox.nixeval.runner import OutOfTime, Runner, Tell
from nixops_proxmox.nixeval.tools import Nix, explain_store
from nixops_proxmox.nixeval.trace import nix_message

TIMEOUT = 24 * 3600.0  # seconds; a kernel is slow to compile


@dataclass(frozen=True)
class Built:
    """Store paths of the machines whose system is there, and why the others' is not."""

    systems: Mapping[str, str]
    failures: Mapping[str, BuildFailed]


def build_argv(nix: Nix, drv_paths: Iterable[str]) -> list[str]:
    """One build of everything. One that fails does not stop the others."""
    return nix.argv("nix-store", "--realise", "--keep-going", *sorted(set(drv_paths)))


def root_argv(nix: Nix, system: str, root: Path) -> list[str]:
    """Makes `root` a link to a system that exists, known to the garbage collector."""
    return nix.argv("nix-store", "--realise", system, "--add-root", str(root))


def build_systems(
    nix: Nix,
    toplevels: Mapping[str, Toplevel],
    *,
    roots: Path,
    run: Runner,
    tell: Tell | None = None,
    timeout: float = TIMEOUT,
) -> Built:
    """Build the machines' systems in one go. Each that is there gets the garbage collector's root `roots/NAME`."""
    if not toplevels:
        return Built({}, {})
    try:
        done = run(build_argv(nix, (t.drv_path for t in toplevels.values())), tell=tell, timeout=timeout)
    except OutOfTime as error:
        failure = BuildFailed(f"the build did not end within {timeout:g} s\n{nix_message(error.stderr)}")
        return Built({}, dict.fromkeys(toplevels, failure))
    systems = {name: toplevel.out_path for name, toplevel in toplevels.items()}
    failures: dict[str, BuildFailed] = {}
    if done.status != 0:
        missing = _missing_paths(nix, systems.values(), run)
        lost = {name: toplevel for name, toplevel in toplevels.items() if toplevel.out_path in missing}
        failures = {name: _failure(nix, name, toplevel, done.stderr, run) for name, toplevel in lost.items()}
        if not lost:
            failures = {name: BuildFailed(f"{name}: {nix_message(done.stderr)}") for name in toplevels}
        systems = {name: system for name, system in systems.items() if name not in failures}
    keep_systems(nix, systems, roots, run)
    return Built(systems, failures)


def build_system(nix: Nix, name: str, toplevel: Toplevel, *, roots: Path, run: Runner, tell: Tell | None = None) -> str:
    """Build one machine's system and return its store path. Raises BuildFailed."""
    built = build_systems(nix, {name: toplevel}, roots=roots, run=run, tell=tell)
    for failure in built.failures.values():
        raise failure
    return built.systems[name]


def keep_systems(nix: Nix, systems: Mapping[str, str], roots: Path, run: Runner) -> None:
    """Root each system as `roots/NAME`. A machine's earlier root is replaced."""
    roots.mkdir(parents=True, exist_ok=True)
    for name, system in systems.items():
        done = run(root_argv(nix, system, roots / name), timeout=60)
        if done.status != 0:
            raise BuildFailed(f"{name}: {nix_message(done.stderr)}", hint=f"is {roots} writable?")


def drop_root(roots: Path, name: str) -> None:
    """Let go of a machine's system. One that has no root is fine."""
    (roots / name).unlink(missing_ok=True)


def failed_derivations(stderr: str) -> Sequence[str]:
    """The derivations whose own builder failed, in the order in which Nix named them."""
    quoted = re.findall(r"(?:builder for|Cannot build) ['‘](/[^'’]+\.drv)['’]", stderr)
    return list(dict.fromkeys(quoted))


def _missing_paths(nix: Nix, paths: Iterable[str], run: Runner) -> set[str]:
    done = run(nix.argv("nix-store", "--check-validity", "--print-invalid", *paths), timeout=60)
    return set(done.stdout.split())


def _failure(nix: Nix, name: str, toplevel: Toplevel, stderr: str, run: Runner) -> BuildFailed:
    needed = set(run(nix.argv("nix-store", "--query", "--requisites", toplevel.drv_path), timeout=60).stdout.split())
    guilty = [drv for drv in failed_derivations(stderr) if drv in needed]
    words = _lines_about(stderr, guilty) or nix_message(stderr)
    hint = f"the whole log: nix-store --read-log {guilty[0]}" if guilty else explain_store(stderr)
    if builder := next((b for b in _programs_missing(stderr) if b in (_builder(nix, drv, run) for drv in guilty)), ""):
        words += f"\nits builder {builder} does not exist in Nix's sandbox"
        hint = f"a sandboxed build sees only the store: use a builder from there, such as nixpkgs' bash, not {builder}"
    return BuildFailed(f"{name}: its system could not be built\n{words}", hint=hint)


def _builder(nix: Nix, drv: str, run: Runner) -> str:
    return run(nix.argv("nix-store", "--query", "--binding", "builder", drv), timeout=60).stdout.strip()


def _programs_missing(stderr: str) -> Sequence[str]:
    """What Nix could not execute. A host's program that a sandbox does not have is the usual cause."""
    return re.findall(r"executing '(/[^']+)': No such file or directory", stderr)


def _lines_about(stderr: str, derivations: Sequence[str]) -> str:
    """Nix's error paragraphs that name one of these derivations, without the summary (`build of 'a', 'b' failed`)."""
    paragraphs = [p for p in re.split(r"(?m)^(?=error:)", stderr)[1:] if not re.match(r"error: build of ", p)]
    return "\n".join(p.strip() for p in paragraphs if any(drv in p for drv in derivations))
