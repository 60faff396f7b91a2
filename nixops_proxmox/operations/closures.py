"""How the system that a machine would get differs from the one that it has."""

from collections.abc import Sequence
from dataclasses import dataclass

from nixops_proxmox.nixeval.closure import PackageChange, changed_packages, list_closure, measure
from nixops_proxmox.nixeval.runner import ProcessRunner, Runner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.state.record import DeploymentRecord


@dataclass(frozen=True)
class SystemChange:
    """`bytes_to_copy` is at most this: what the machine has from earlier systems is not copied. None: unknown."""

    packages: tuple[PackageChange, ...]
    bytes_to_copy: int | None


def find_system_change(record: DeploymentRecord, nix: Nix | None, before: str, after: str) -> SystemChange | None:
    """None where one of the two is not known here."""
    if nix is None or not before or not after:
        return None
    run = ProcessRunner()
    old = record.find_closure(before) or list_closure(nix, before, run)
    new = list_closure(nix, after, run)
    if old is None or new is None:
        return None
    return SystemChange(changed_packages(old, new), _to_copy(nix, old, new, run))


def _to_copy(nix: Nix, old: Sequence[str], new: Sequence[str], run: Runner) -> int | None:
    have = frozenset(old)
    return measure(nix, [path for path in new if path not in have], run)


def keep_system(record: DeploymentRecord, nix: Nix | None, system: str) -> None:
    """After a deploy: what the machine has now, for the plans to come."""
    if nix is None or not system or record.find_closure(system) is not None:
        return
    paths = list_closure(nix, system, ProcessRunner())
    if paths is not None:
        record.keep_closure(system, paths)
