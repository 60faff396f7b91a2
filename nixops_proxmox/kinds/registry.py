"""Kinds by name: our own, and those of other packages, found by their entry point `nixops_proxmox.kinds`."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

import pluggy

from nixops_proxmox.core.table import AnyLifecycle
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.kinds import medium
from nixops_proxmox.kinds.machine.table import LIFECYCLE

GROUP = "nixops_proxmox.kinds"
MACHINE = "machine"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclass(frozen=True)
class Entry:
    """A kind as the registry has it. A kind of four functions takes its table from `core.kind.three_rows`."""

    name: str
    lifecycle: AnyLifecycle


class Hooks:
    """What a package that brings kinds implements, in the module that its entry point names."""

    @hookspec
    def kinds(self) -> Sequence[Entry]:
        """The kinds that the package brings."""
        raise NotImplementedError


def our_kinds() -> Sequence[Entry]:
    """The kinds of this package: one line each."""
    return (Entry(MACHINE, LIFECYCLE), Entry(medium.NAME, medium.LIFECYCLE))


class Ours:
    @hookimpl
    def kinds(self) -> Sequence[Entry]:
        return our_kinds()


def find_kind(name: str) -> Entry:
    """Raises ConfigError for a name that no package brings."""
    kinds = find_kinds()
    if name not in kinds:
        raise ConfigError(f"there is no kind {name!r}", hint=f"known kinds: {', '.join(sorted(kinds))}")
    return kinds[name]


def find_kinds() -> dict[str, Entry]:
    """Raises ConfigError where a package cannot be loaded, or two bring a kind of the same name."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Hooks)
    manager.register(Ours())
    for found in entry_points(group=GROUP):
        try:
            manager.register(found.load(), name=found.name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"the kinds of the package {found.name!r} cannot be loaded: {error}", hint="repair or uninstall it"
            ) from error
    kinds: dict[str, Entry] = {}
    for entry in (one for brought in manager.hook.kinds() for one in brought):
        if entry.name in kinds:
            raise ConfigError(f"two packages bring the kind {entry.name!r}", hint="uninstall one of them")
        kinds[entry.name] = entry
    return kinds
