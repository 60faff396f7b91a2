"""How the system that a machine would get differs from the one that it has."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nixops_proxmox.model import SystemContents
from nixops_proxmox.nixeval.boots import find_later, find_refusals, read_boots
from nixops_proxmox.nixeval.closure import PackageChange, changed_packages, list_closure
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix
from nixops_proxmox.state.record import DeploymentRecord


@dataclass(frozen=True)
class SystemChange:
    """`bytes_to_copy` is at most this: what the machine has from earlier systems is not copied. `growth`: bytes by
    which the system gets larger. `later`: what takes effect at the next boot. `refused`: why NixOS does not switch to
    it while the machine runs."""

    packages: tuple[PackageChange, ...]
    bytes_to_copy: int
    growth: int = 0
    later: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    boots: Mapping[str, str] = field(default_factory=dict)  # what a boot of the new system takes up, by its name


def find_system_change(record: DeploymentRecord, nix: Nix | None, before: str, after: str) -> SystemChange | None:
    """None where one of the two is not known here."""
    if nix is None or not before or not after:
        return None
    old, new = record.find_contents(before) or look_into(nix, before), look_into(nix, after)
    return None if old is None or new is None else compare(old, new)


def compare(old: SystemContents, new: SystemContents) -> SystemChange:
    return SystemChange(
        changed_packages(old.paths, new.paths),
        _size_beyond(new.paths, old.paths),
        sum(new.paths.values()) - sum(old.paths.values()),
        find_later(old.boots, new.boots),
        find_refusals(old.boots, new.boots),
        new.boots,
    )


def since_boot(found: SystemChange | None, booted: Mapping[str, str]) -> SystemChange | None:
    """The same, with what waits for a boot counted from what the machine was `booted` with: earlier deploys may have
    left something waiting. Empty: that is unknown."""
    return found if found is None or not booted else replace(found, later=find_later(booted, found.boots))


def _size_beyond(paths: Mapping[str, int], have: Mapping[str, int]) -> int:
    return sum(size for path, size in paths.items() if path not in have)


def look_into(nix: Nix, system: str) -> SystemContents | None:
    """None: it is not in the store here (any more)."""
    paths = list_closure(nix, system, ProcessRunner())
    return None if paths is None else SystemContents(paths, read_boots(Path(system)))


def keep_system(record: DeploymentRecord, nix: Nix | None, system: str) -> None:
    """After a deploy: what the machine has now, for the plans to come."""
    if nix is None or not system or record.find_contents(system) is not None:
        return
    contents = look_into(nix, system)
    if contents is not None:
        record.keep_contents(system, contents)
