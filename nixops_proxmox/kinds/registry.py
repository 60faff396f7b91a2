"""Kinds by name: our own, and those of other packages, found by their entry point `nixops_proxmox.kinds`.

The doors ask here what there is: the command line completes the names, `lifecycle KIND` and the documents show the
tables, and NixOps 4's provider takes the resource types.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from nixops_proxmox.core.table import AnyLifecycle
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.kinds import (
    address,
    backup_job,
    mapping,
    medium,
    network,
    pool,
    replication,
    reservation,
    routing,
    storage,
    template,
)
from nixops_proxmox.kinds.container import table as container
from nixops_proxmox.kinds.firewall import cluster, group, machine, names
from nixops_proxmox.kinds.ha import resource as ha
from nixops_proxmox.kinds.ha import rule as ha_rule
from nixops_proxmox.kinds.machine.table import LIFECYCLE
from nixops_proxmox.kinds.resource import Describable
from nixops_proxmox.kinds.volume.facts import NAME as VOLUME
from nixops_proxmox.kinds.volume.table import LIFECYCLE as LIFE_OF_VOLUMES
from nixops_proxmox.packages import find_packages
from nixops_proxmox.spec.firewall import ALIAS, IP_SET
from nixops_proxmox.spec.firewall import GROUP as SECURITY_GROUP
from nixops_proxmox.spec.names import option_name
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.tenant import TenantSpec

if TYPE_CHECKING:
    from nixops_proxmox.state import Deployment

GROUP = "nixops_proxmox.kinds"
MACHINE = "machine"

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
    described: Describable | None = None

    def types(self) -> Iterator[ResourceType]:
        """All its resource types: what a network can describe has one without a word more."""
        yield from self.resource_types
        name = option_name(self.name.replace("-", "_"))
        if self.described is not None and all(one.name != name for one in self.resource_types):
            yield ResourceType(name, True, model=self.described.spec, thing=self.name)


TENANT = ResourceType("tenant", True, model=TenantSpec, thing=network.NAME)  # its network; machines have its firewalls


class Hooks:
    """What a package that brings kinds implements, in the module that its entry point names."""

    @hookspec
    def kinds(self) -> Sequence[Entry]:
        """The kinds that the package brings."""
        raise NotImplementedError


def our_kinds() -> Sequence[Entry]:
    """The kinds of this package: one line each."""
    return (
        Entry(MACHINE, "a VM and the NixOS on it", LIFECYCLE, (ResourceType("vm", True), ResourceType("nixos", True))),
        Entry(container.NAME, container.ABOUT, container.LIFECYCLE),
        Entry(medium.NAME, medium.ABOUT, medium.LIFECYCLE, (ResourceType("iso"), ResourceType("image"))),
        Entry(VOLUME, "a disk that outlives machines", LIFE_OF_VOLUMES, (ResourceType("volume", True),)),
        Entry(backup_job.NAME, backup_job.ABOUT, backup_job.LIFECYCLE, described=backup_job.DESCRIBED),
        Entry(ha.NAME, ha.ABOUT, ha.LIFECYCLE, described=ha.DESCRIBED),
        Entry(ha_rule.NAME, ha_rule.ABOUT, ha_rule.LIFECYCLE, described=ha_rule.DESCRIBED),
        Entry(mapping.NAME, mapping.ABOUT, mapping.LIFECYCLE, described=mapping.DESCRIBED),
        Entry(network.NAME, network.ABOUT, network.LIFECYCLE, (TENANT,), network.DESCRIBED),
        Entry(pool.NAME, pool.ABOUT, pool.LIFECYCLE, described=pool.DESCRIBED),
        Entry(replication.NAME, replication.ABOUT, replication.LIFECYCLE, described=replication.DESCRIBED),
        Entry(reservation.NAME, reservation.ABOUT, reservation.LIFECYCLE, described=reservation.DESCRIBED),
        Entry(routing.NAME, routing.ABOUT, routing.LIFECYCLE, described=routing.DESCRIBED),
        Entry(storage.NAME, storage.ABOUT, storage.LIFECYCLE, described=storage.DESCRIBED),
        Entry(template.NAME, template.ABOUT, template.LIFECYCLE, described=template.DESCRIBED),
        Entry(machine.NAME, machine.ABOUT, machine.LIFECYCLE, described=machine.DESCRIBED),
        Entry(cluster.NAME, cluster.ABOUT, cluster.LIFECYCLE, described=cluster.DESCRIBED),
        Entry(IP_SET, "an IP set of the cluster's firewall", names.SETS, described=names.DESCRIBED_SETS),
        Entry(ALIAS, "an alias of the cluster's firewall", names.ALIASES, described=names.DESCRIBED_ALIASES),
        Entry(SECURITY_GROUP, "a security group of the cluster's firewall", group.LIFECYCLE, described=group.DESCRIBED),
        Entry(address.NAME, address.ABOUT, address.LIFECYCLE),
    )


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
    manager = find_packages(GROUP, Hooks, Ours(), "kinds")
    kinds: dict[str, Entry] = {}
    for entry in (one for brought in manager.hook.kinds() for one in brought):
        if entry.name in kinds:
            raise ConfigError(f"two packages bring the kind {entry.name!r}", hint="uninstall one of them")
        kinds[entry.name] = entry
    return kinds


def find_described() -> dict[str, Entry]:
    """The kinds whose things are described under `resources`, by option. ConfigError where two kinds take one."""
    found: dict[str, Entry] = {}
    for entry in find_kinds().values():
        if entry.described is not None:
            option = entry.described.spec.option
            if option in found:
                raise ConfigError(f"two kinds are described under resources.{option}", hint="uninstall one of them")
            found[option] = entry
    return found


def find_resource_types() -> dict[str, ResourceType]:
    """NixOps 4's resource types of all kinds, by name. ConfigError where two kinds have one of the same name."""
    types: dict[str, ResourceType] = {}
    for entry in find_kinds().values():
        for one in entry.types():
            if one.name in types:
                raise ConfigError(f"two kinds have a resource type {one.name!r}", hint="uninstall one of them")
            types[one.name] = one
    return types


class KindNames:
    """The names, for a parser of arguments: asked for when they are completed, so that no start waits for packages.
    It accepts every name, because the verb itself says what is wrong with one."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(find_kinds()))

    def __contains__(self, _name: object) -> bool:
        return True
