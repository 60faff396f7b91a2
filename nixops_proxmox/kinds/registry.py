"""Kinds by name: our own, and those of other packages, found by their entry point `nixops_proxmox.kinds`.

The doors ask here what there is: the command line completes the names, `lifecycle KIND` and the documents show the
tables, and NixOps 4's provider takes the resource types.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy
from typing_extensions import override

from nixops_proxmox.core.table import AnyLifecycle
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.kinds.names import GROUP, MACHINE
from nixops_proxmox.packages import find_packages
from nixops_proxmox.spec.firewall import ALIAS, CLUSTER_FIREWALL, FIREWALL, IP_SET
from nixops_proxmox.spec.firewall import GROUP as SECURITY_GROUP
from nixops_proxmox.spec.ha import HA, HA_RULE
from nixops_proxmox.spec.names import option_name
from nixops_proxmox.spec.replication import REPLICATION
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.resources import OURS as OUR_MODELS
from nixops_proxmox.spec.routing import ROUTING
from nixops_proxmox.spec.storage import STORAGE
from nixops_proxmox.spec.template import TEMPLATE
from nixops_proxmox.spec.tenant import TenantSpec

if TYPE_CHECKING:
    from nixops_proxmox.kinds.resource import Describable
    from nixops_proxmox.state import Deployment

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclass(frozen=True)
class ResourceType:
    """A kind as NixOps 4 sees it. A kind may have several: a machine is a `vm`, and the `nixos` on it.

    `stateful`: what is made bears an identity, which NixOps must remember.
    `make`: creates or updates a resource with these inputs, and returns its outputs. It must be safe to repeat, and
    raises SpecError for inputs that it does not know. None: the type is one of ours, and the provider makes it.
    `model`: the inputs are those of things that networks describe; `thing`: the kind of the thing that stands for it.
    """

    name: str
    stateful: bool = False
    make: "Callable[[Mapping[str, Any], Deployment], Mapping[str, Any]] | None" = None
    model: type[ResourceSpec] | None = None
    thing: str = ""


@dataclass(frozen=True)
class Entry:
    """A kind as the registry has it. A kind of four functions takes its table from `core.kind.three_rows`.

    `about`: what its things are, in a few words. `described`: how a network describes them under `resources`; None: it
    does not, or the kind has a place of its own.
    """

    name: str
    about: str
    lifecycle: AnyLifecycle
    resource_types: Sequence[ResourceType] = ()
    described: "Describable | None" = None

    def types(self) -> Iterator[ResourceType]:
        """All its resource types: what a network can describe has one without a word more."""
        yield from self.resource_types
        name = option_name(self.name.replace("-", "_"))
        if self.described is not None and all(one.name != name for one in self.resource_types):
            yield ResourceType(name, True, model=self.described.spec, thing=self.name)


class Hooks:
    """What a package that brings kinds implements, in the module that its entry point names."""

    @hookspec
    def kinds(self) -> Sequence[Entry]:
        """The kinds that the package brings."""
        raise NotImplementedError


def our_kinds() -> Sequence[Entry]:
    """The kinds of this package, all of them."""
    return [load() for load in OURS.values()]


def _machine() -> Entry:
    from nixops_proxmox.kinds.machine.table import LIFECYCLE

    return Entry(
        MACHINE, "a VM and the NixOS on it", LIFECYCLE, (ResourceType("vm", True), ResourceType("nixos", True))
    )


def _volume() -> Entry:
    from nixops_proxmox.kinds.volume.table import LIFECYCLE

    return Entry("volume", "a disk that outlives machines", LIFECYCLE, (ResourceType("volume", True),))


def _network() -> Entry:
    """A tenant stands for its network; machines have its firewalls."""
    from nixops_proxmox.kinds import network

    tenant = ResourceType("tenant", True, model=TenantSpec, thing=network.NAME)
    return Entry(network.NAME, network.ABOUT, network.LIFECYCLE, (tenant,), network.DESCRIBED)


def _ip_set() -> Entry:
    from nixops_proxmox.kinds.firewall.names import DESCRIBED_SETS, SETS

    return Entry(IP_SET, "an IP set of the cluster's firewall", SETS, described=DESCRIBED_SETS)


def _alias() -> Entry:
    from nixops_proxmox.kinds.firewall.names import ALIASES, DESCRIBED_ALIASES

    return Entry(ALIAS, "an alias of the cluster's firewall", ALIASES, described=DESCRIBED_ALIASES)


def _security_group() -> Entry:
    from nixops_proxmox.kinds.firewall.group import DESCRIBED, LIFECYCLE

    return Entry(SECURITY_GROUP, "a security group of the cluster's firewall", LIFECYCLE, described=DESCRIBED)


def _in(module: str, *types: ResourceType) -> Callable[[], Entry]:
    """The kind that a module below here describes by its constants."""

    def load() -> Entry:
        kind = import_module(f"nixops_proxmox.kinds.{module}")
        return Entry(kind.NAME, kind.ABOUT, kind.LIFECYCLE, types, getattr(kind, "DESCRIBED", None))

    return load


# The kinds of this package: one line each. A kind is imported when it is asked for, because a run has things of few.
OURS: Mapping[str, Callable[[], Entry]] = {
    MACHINE: _machine,
    "container": _in("container.table"),
    "medium": _in("medium", ResourceType("iso"), ResourceType("image")),
    "volume": _volume,
    "backup-job": _in("backup_job"),
    HA: _in("ha.resource"),
    HA_RULE: _in("ha.rule"),
    "mapping": _in("mapping"),
    "network": _network,
    "pool": _in("pool"),
    REPLICATION: _in("replication"),
    "reservation": _in("reservation"),
    ROUTING: _in("routing"),
    STORAGE: _in("storage"),
    TEMPLATE: _in("template"),
    FIREWALL: _in("firewall.machine"),
    CLUSTER_FIREWALL: _in("firewall.cluster"),
    IP_SET: _ip_set,
    ALIAS: _alias,
    SECURITY_GROUP: _security_group,
    "address": _in("address"),
}


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
    return _by_name([*our_kinds(), *_others()])


def _others() -> list[Entry]:
    """What other packages bring."""
    manager = find_packages(GROUP, Hooks, None, "kinds")
    return [entry for brought in manager.hook.kinds() for entry in brought]


def _by_name(entries: Sequence[Entry], ours: Collection[str] = ()) -> dict[str, Entry]:
    kinds: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in kinds or entry.name in ours:
            raise ConfigError(f"two packages bring the kind {entry.name!r}", hint="uninstall one of them")
        kinds[entry.name] = entry
    return kinds


def find_described() -> dict[str, Entry]:
    """The kinds whose things are described under `resources`, by option. ConfigError where two kinds take one."""
    kinds = find_used()
    return {option: kinds[name] for name, option in kinds.options.items()}


class Used(Mapping[str, Entry]):
    """The kinds whose things are described under `resources`, by name. One of ours is imported when it is asked for.

    `models`: how each is described, by option.
    """

    def __init__(self, others: Sequence[Entry] = ()) -> None:
        self._entries = {name: one for name, one in _by_name(others, OURS).items() if one.described is not None}
        self.models: dict[str, type[ResourceSpec]] = dict(OUR_MODELS)
        self.options = {model.kind: option for option, model in OUR_MODELS.items()}
        for name, one in self._entries.items():
            assert one.described is not None
            option = one.described.spec.option
            if option in self.models:
                raise ConfigError(f"two kinds are described under resources.{option}", hint="uninstall one of them")
            self.models[option], self.options[name] = one.described.spec, option

    @override
    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries and name in self.options:
            self._entries[name] = OURS[name]()
        return self._entries[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.options)

    @override
    def __len__(self) -> int:
        return len(self.options)


def find_used() -> Used:
    """Raises ConfigError where a package cannot be loaded, or does not fit to another."""
    return Used(_others())


def find_resource_types() -> dict[str, ResourceType]:
    """NixOps 4's resource types of all kinds, by name. ConfigError where two kinds have one of the same name."""
    types: dict[str, ResourceType] = {}
    for entry in find_kinds().values():
        for one in entry.types():
            if one.name in types:
                raise ConfigError(f"two kinds have a resource type {one.name!r}", hint="uninstall one of them")
            types[one.name] = one
    return types
