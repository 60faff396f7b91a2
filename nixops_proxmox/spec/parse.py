"""From what Nix evaluated to the frozen description. Every mistake is told, each with its option's full path."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError

from nixops_proxmox.spec import check
from nixops_proxmox.spec.addresses import check_ip, spell_out
from nixops_proxmox.spec.cloud_init import with_cloud_init
from nixops_proxmox.spec.container import ContainerSpec, MountSpec, RootSpec
from nixops_proxmox.spec.containers import check_containers
from nixops_proxmox.spec.deploy import HealthSpec, HttpCheck, Strategy
from nixops_proxmox.spec.derived import with_derived
from nixops_proxmox.spec.encryption import Encryption, Tang, Unlocking, check_encryption
from nixops_proxmox.spec.explain import explain
from nixops_proxmox.spec.firewall import ClusterFirewall, MachineFirewall, Rule, SecurityGroup, filtered
from nixops_proxmox.spec.ha import HaRuleSpec, rules_of_placement
from nixops_proxmox.spec.legacy import rewrite_machine
from nixops_proxmox.spec.machine import Disk, InstallSource, InstallSpec, IpSpec, MachineSpec, NetworkSpec, Nic, Ssh
from nixops_proxmox.spec.macs import MAC_POOLS, MAC_SCHEMES, MacPoolSpec, MacSchemeSpec, check_scheme
from nixops_proxmox.spec.mapping import MappingEntry, MappingSpec
from nixops_proxmox.spec.names import (
    NIX_ONLY,
    OF_RESOURCES,
    WHERE_SECRETS_GO,
    all_names,
    key_of,
    option_name,
    options_of,
    secrets_of,
    with_our_names,
)
from nixops_proxmox.spec.placed_file import PlacedFile, check_placed_file
from nixops_proxmox.spec.quantities import UNITS, parse_size
from nixops_proxmox.spec.resource import ResourceSpec, place_of
from nixops_proxmox.spec.resources import OURS, Models
from nixops_proxmox.spec.routing import (
    DhcpNetwork,
    Masquerade,
    PortForward,
    Route,
    RouterRule,
    RouterVlan,
    RoutingSpec,
)
from nixops_proxmox.spec.sent_key import SentKey, check_sent_key
from nixops_proxmox.spec.slots import disk_slots, mount_slots, nic_slots
from nixops_proxmox.spec.storage import with_image_storage
from nixops_proxmox.spec.template import with_template
from nixops_proxmox.spec.tenant import TENANTS, TenantSpec, with_tenants
from nixops_proxmox.spec.tree import Mistakes, Node, below, grow, nearest, show
from nixops_proxmox.spec.virtual_network import connected
from nixops_proxmox.spec.volume import VolumeSpec

M = TypeVar("M", bound=BaseModel)

VOLUMES = "resources.volumes"
MACHINES = "resources.machines"  # what NixOps 2 and eval.nix put there for modules: the machines themselves

Read = Callable[[Node, Mistakes], object]  # what goes into the model; None: nothing


def parse_network(name: str, data: object, models: Models = OURS) -> NetworkSpec:
    """Parse `{"network": {"description": …}, "machines": {name: {"deployment": {"proxmox": {…}}}, …},
    "resources": {"volumes": {name: {…}, …}}}`. `models`: of the resources, beside volumes, by option.

    A machine may also be just `{"proxmox": {…}}`. One whose `deployment.targetEnv` is another backend's is left out and
    named in `foreign`. Raises one SpecError with a line for each mistake of the whole network.
    """
    mistakes = Mistakes()
    network = _network(name, data, models, mistakes)
    if mistakes.found:
        raise mistakes.error()
    return network


def parse_part(
    name: str,
    data: object,
    about: Collection[str],
    models: Models = OURS,
    beside: Sequence[MachineSpec] = (),
) -> NetworkSpec:
    """The same, for a door that is told of one thing at a time: `data` has that thing, and what is known of others.
    `about`: the paths of what it is told now. Mistakes in the rest become warnings: the rest may be mended after it,
    and resources with mistakes are left out until then.
    `beside`: machines whose words are not known any more. Volumes are not looked for: their record is enough."""
    mistakes = Mistakes()
    network = _network(name, data, models, mistakes, beside=beside, whole=False)
    ours = [one for one in mistakes.found if _is_below(one.path, about)]
    if ours:
        raise Mistakes(ours).error()
    others = [f"{one.path}: {one.text}" for one in mistakes.found]
    fine = [one for one in network.resources if not any(_is_below(two.path, [place_of(one)]) for two in mistakes.found)]
    return network.model_copy(update={"resources": tuple(fine), "warnings": (*network.warnings, *others)})


def _is_below(path: str, places: Collection[str]) -> bool:
    return any(path == place or path.startswith((f"{place}.", f"{place}[")) for place in places)


def _network(
    name: str,
    data: object,
    models: Models,
    mistakes: Mistakes,
    *,
    beside: Sequence[MachineSpec] = (),
    whole: bool = True,
) -> NetworkSpec:
    machines = data.get("machines") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(machines, Mapping):
        mistakes.add(name, "expected a network: an attribute set with machines")
        raise mistakes.error()
    foreign = tuple(str(machine) for machine, entry in machines.items() if _target(entry) not in (None, "proxmox"))
    ours = [(str(machine), entry) for machine, entry in machines.items() if machine not in foreign]
    read = [spec for spec in (_machine(machine, entry, mistakes) for machine, entry in ours) if spec is not None]
    found = [*beside, *read]
    described = _with_own(data.get("resources"), ours, mistakes)
    volumes = _described(VolumeSpec, described, VOLUMES, mistakes)
    tenants = _described(TenantSpec, described, TENANTS, mistakes)
    resources = with_tenants(_resources(described, models, mistakes), tenants, found, mistakes)
    resources = _with_rules(name, found, resources)
    pools = _described(MacPoolSpec, described, MAC_POOLS, mistakes)
    schemes = _described(MacSchemeSpec, described, MAC_SCHEMES, mistakes)
    found = [*beside, *with_derived(read, schemes, pools, _path, mistakes)]
    check.check_network(found, _path, mistakes)
    if whole:
        check.check_strategies(found, _path, mistakes)
        check.check_ways(found, _path, mistakes)
        check.check_keepers(found, _path, mistakes)
        check.check_volumes(volumes, found, _path, mistakes)
    check.check_resources(resources, models, found, _path, mistakes)
    check_containers(resources, found, mistakes)
    by_name = {spec.name: spec for spec in found}
    network = data.get("network")
    description = network.get("description") if isinstance(network, Mapping) else None
    return NetworkSpec(
        name=name,
        description=description if isinstance(description, str) else "",
        machines=tuple(
            with_template(with_image_storage(filtered(connected(spec, resources), resources), resources), resources)
            for spec in found
        ),
        volumes=tuple(volumes),
        resources=tuple(resources),
        mac_pools=tuple(pools),
        mac_schemes=tuple(schemes),
        foreign=foreign,
        sent_keys={name: keys for name, entry in ours if (keys := _sent_keys(name, entry, mistakes))},
        placed_files={
            name: files for name, entry in ours if (files := _placed_files(name, entry, by_name.get(name), mistakes))
        },
        warnings=tuple(mistakes.warnings),
    )


def _described(model: type[M], resources: object, path: str, mistakes: Mistakes) -> list[M]:
    """Everything of one kind that the network has beside its machines. `path`: where it is described."""
    kind = path.rpartition(".")[2]
    described = resources.get(kind) if isinstance(resources, Mapping) else None
    if described is None:
        return []
    if not isinstance(described, Mapping):
        mistakes.add(path, f"expected an attribute set of {kind}, got {show(described)}")
        return []
    found = (
        _read(model, grow(below(path, name), entry, mistakes), mistakes, given={"name": str(name)})
        for name, entry in described.items()
    )
    return [spec for spec in found if spec is not None]


def _resources(described: object, models: Models, mistakes: Mistakes) -> list[ResourceSpec]:
    """All that is described below `resources`, but for volumes and where MACs come from. Other backends have resources,
    too."""
    found: list[ResourceSpec] = []
    for option, entries in described.items() if isinstance(described, Mapping) else ():
        path = below("resources", option)
        if option in models:
            found += _of_one_option(models[option], path, entries, mistakes)
        elif path not in (VOLUMES, MAC_POOLS, MAC_SCHEMES, TENANTS, MACHINES):
            close = nearest(str(option), [*models, "volumes", "macPools", "macSchemes", "tenants"])
            if close:
                mistakes.add(path, f"there are no such resources{close}")
            else:
                mistakes.warnings.append(f"{path}: no kind of ours is called so, so we do nothing with it")
    return found


def _of_one_option(model: type[ResourceSpec], path: str, entries: object, mistakes: Mistakes) -> Iterator[ResourceSpec]:
    if not isinstance(entries, Mapping):
        mistakes.add(path, f"expected an attribute set, each with a name of its own, got {show(entries)}")
        return
    for name, entry in entries.items():
        spec = _read(model, grow(below(path, name), entry, mistakes), mistakes, given={"name": str(name)})
        if spec is not None:
            yield spec


def parse_volume(name: str, data: object) -> VolumeSpec:
    """Parse one of `resources.volumes`. Raises one SpecError with a line for each mistake."""
    mistakes = Mistakes()
    found = _described(VolumeSpec, {"volumes": {name: data}}, VOLUMES, mistakes)
    if not found or mistakes.found:
        raise mistakes.error()
    return found[0]


def parse_machine(name: str, data: object, *, alone: bool = True) -> MachineSpec:
    """Parse one machine: `{"deployment": {"proxmox": {…}}}` or `{"proxmox": {…}}`. Raises one SpecError with a line
    for each mistake. `alone`: no network is read afterwards, so it can name no other resources."""
    mistakes = Mistakes()
    spec = _machine(name, data, mistakes)
    for place, nic in enumerate(spec.network if spec is not None and alone else ()):
        if nic.network is not None:
            text = "set bridge instead: only a whole network of machines has resources.networks"
            mistakes.add(f"{_path(name)}.network[{place}].network", text)
    options = _options(data)
    for option in OF_RESOURCES:
        if alone and isinstance(options, Mapping) and options.get(option) is not None:
            text = "has no effect here: only the command line's networks have it"
            mistakes.add(f"{_path(name)}.{option}", text)
    if alone and spec is not None and spec.deploy.strategy != Strategy():
        text = "has no effect here: only the command line deploys machines in an order of its own"
        mistakes.add(f"{_path(name)}.deploy.strategy", text)
    if spec is not None and spec.is_container:
        mistakes.add(f"{_path(name)}.kind", "only the command line makes containers: expected vm here")
    if spec is None or mistakes.found:
        raise mistakes.error()
    return spec


def _machine(name: str, entry: object, mistakes: Mistakes) -> MachineSpec | None:
    path = _path(name)
    options = _options(entry)
    if options is None:
        mistakes.add(path, "is not set: describe the machine here")
        return None
    node = grow(path, options, mistakes)
    spec = _read(MachineSpec, node, mistakes, given={"name": name})
    return None if spec is None else with_cloud_init(spec)


def _sent_keys(name: str, entry: object, mistakes: Mistakes) -> tuple[SentKey, ...]:
    found = _secrets(SentKey, "keys", name, entry, mistakes)
    for one in found:
        check_sent_key(one, below(_below_deployment(name, "keys"), one.name), mistakes)
    return tuple(found)


def _placed_files(name: str, entry: object, spec: MachineSpec | None, mistakes: Mistakes) -> tuple[PlacedFile, ...]:
    found, path = _secrets(PlacedFile, "files", name, entry, mistakes), _below_deployment(name, "files")
    for one in found:
        check_placed_file(one, below(path, one.name), mistakes)
    for one in found if spec is not None else ():
        if spec is not None and one.name in (spec.ssh.host_key, f"{spec.ssh.host_key}.pub"):
            mistakes.add(below(path, one.name), "is written by this tool: ssh.hostKey says so")
    if found and spec is not None and (spec.is_container or spec.install.source is not InstallSource.ISO):
        mistakes.add(path, "are put onto the disk by the installer, and this machine is made without it")
    return tuple(found)


def parse_secrets(
    name: str, keys: object, files: object, spec: MachineSpec
) -> tuple[tuple[SentKey, ...], tuple[PlacedFile, ...]]:
    """`deployment.keys` and `deployment.files` of a machine, from a door that says them apart. SpecError for all
    mistakes."""
    mistakes, entry = Mistakes(), {"deployment": {"keys": keys, "files": files}}
    found = _sent_keys(name, entry, mistakes), _placed_files(name, entry, spec, mistakes)
    if mistakes.found:
        raise mistakes.error()
    return found


def _below_deployment(name: str, option: str) -> str:
    return f"{below('', name)}.deployment.{option}"


def _secrets(model: type[M], option: str, name: str, entry: object, mistakes: Mistakes) -> list[M]:
    """What is below `deployment.keys` or `deployment.files`. What stands in the place of an attribute set may be a
    secret, so it is not repeated."""
    deployment = entry.get("deployment") if isinstance(entry, Mapping) else None
    said = deployment.get(option) if isinstance(deployment, Mapping) else None
    path = _below_deployment(name, option)
    if said is not None and not isinstance(said, Mapping):
        mistakes.add(path, f"expected an attribute set of {option}")
        return []
    described = {key: value for key, value in (said or {}).items() if isinstance(value, Mapping)}
    for key in (said or {}).keys() - described.keys():
        mistakes.add(below(path, str(key)), "expected an attribute set")
    return _described(model, {option: described}, path, mistakes)


def _options(entry: object) -> object:
    """What is below `deployment.proxmox`; None: nothing."""
    if not isinstance(entry, Mapping):
        return None
    deployment = entry.get("deployment")
    options = deployment.get("proxmox") if isinstance(deployment, Mapping) else None
    return entry.get("proxmox") if options is None else options


def _with_own(described: object, machines: Iterable[tuple[str, object]], mistakes: Mistakes) -> object:
    """The resources, with those that machines describe themselves. They have the machine's hypervisor."""
    if described is not None and not isinstance(described, Mapping):
        return described
    resources, machines = dict(described or {}), list(machines)
    for option, place in OF_RESOURCES.items():
        own = {}
        for name, entry in machines:
            options = _options(entry)
            if isinstance(options, Mapping) and isinstance(options.get(option), Mapping):
                of_machine = {"profile": options["profile"]} if isinstance(options.get("profile"), str) else {}
                own[name] = {**of_machine, **options[option]}
        beside = resources.get(place)
        others = beside if isinstance(beside, Mapping) else {}
        for name in own.keys() & others.keys():
            mistakes.add(f"{_path(name)}.{option}", f"is described under resources.{place}, too")
        if own:
            resources[place] = {**others, **own}
    return resources


def _with_rules(name: str, machines: Sequence[MachineSpec], found: list[ResourceSpec]) -> list[ResourceSpec]:
    """With the rules of HA that follow from placement. One that is described by that name stands for itself."""
    known = {spec.name for spec in found if isinstance(spec, HaRuleSpec)}
    return found + [rule for rule in rules_of_placement(name, machines, found) if rule.name not in known]


def _path(machine: str) -> str:
    return f"{below('', machine)}.deployment.proxmox"


def _target(entry: object) -> object:
    deployment = entry.get("deployment") if isinstance(entry, Mapping) else None
    return deployment.get("targetEnv") if isinstance(deployment, Mapping) else None


def _read(model: type[M], node: Node, mistakes: Mistakes, *, given: Mapping[str, object] | None = None) -> M | None:
    """One attribute set as a model. `given`: fields that are known from elsewhere."""
    if not isinstance(node.value, dict):
        mistakes.add(node.path, f"expected an attribute set, got {show(node.plain())}")
        return None
    node = _rewrite(model, with_our_names(model, node, mistakes), mistakes)
    fields, data = _known(model, node, mistakes), dict(given or {})
    for field, child in fields.items():
        value = _reader(model, field)(child, mistakes)
        if value is not None:
            data.setdefault(key_of(model, field), value)
    places = dict.fromkeys(given or {}, node.path)
    places |= {key_of(model, field): child.path for field, child in fields.items()}
    made = _build(model, data, places, node, mistakes)
    if made is not None and model in _CHECKS:
        _CHECKS[model](
            made, lambda field: places.get(key_of(model, field)) or below(node.path, option_name(field)), mistakes
        )
    return made


def _build(
    model: type[M], data: Mapping[str, object], places: Mapping[str, str], node: Node, mistakes: Mistakes
) -> M | None:
    """Make the model. What does not fit becomes a mistake, and the rest is checked without it."""
    try:
        # As JSON, for there pydantic's strict mode turns lists into tuples and words into enums, and nothing else.
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        for path, text in explain(error, node.path, places):
            mistakes.add(path, text)
        rest = {
            name: value
            for name, value in data.items()
            if name not in {str(d["loc"][0]) for d in error.errors() if d["loc"]}
        }
        return _build(model, rest, places, node, mistakes) if len(rest) < len(data) else None


def _known(model: type[BaseModel], node: Node, mistakes: Mistakes) -> dict[str, Node]:
    """The children by field name. Others are mistakes."""
    options, found = options_of(model), {}
    secrets = secrets_of(model)
    for name, child in cast(dict[str, Node], node.value).items():
        if name in options:
            found[options[name]] = child
        elif name in secrets:
            mistakes.add(child.path, "is a secret, and secrets cannot be options", hint=WHERE_SECRETS_GO)
        elif model is not MachineSpec or name not in NIX_ONLY:
            mistakes.add(child.path, f"there is no such option{nearest(name, all_names(model))}")
    return found


def _reader(model: type[BaseModel], field: str) -> Read:
    if (model, field) in _READERS:
        return _READERS[model, field]
    section = _section_of(model, field)
    return _section(section) if section else _plain


def _section_of(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    annotation = model.model_fields[field].annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _plain(node: Node, _mistakes: Mistakes) -> object:
    return node.plain()


def _section(model: type[BaseModel]) -> Read:
    return lambda node, mistakes: _dump(_read(model, node, mistakes))


def _dump(model: BaseModel | None) -> object:
    return None if model is None else model.model_dump(mode="json", by_alias=True)


def _read_disks(node: Node, mistakes: Mistakes) -> object:
    found = (_read(Disk, child, mistakes, given={"slot": slot}) for slot, child in disk_slots(node, mistakes))
    return [_dump(disk) for disk in found if disk is not None]


def _read_mounts(node: Node, mistakes: Mistakes) -> object:
    found = (_read(MountSpec, child, mistakes, given={"slot": slot}) for slot, child in mount_slots(node, mistakes))
    return [_dump(mount) for mount in found if mount is not None]


def _read_nics(node: Node, mistakes: Mistakes) -> object:
    found = (_read(Nic, child, mistakes, given={"slot": slot}) for slot, child in nic_slots(node, mistakes))
    return [_dump(nic) for nic in found if nic is not None]


def _read_list(model: type[BaseModel], called: str) -> Read:
    def read(node: Node, mistakes: Mistakes) -> object:
        if not isinstance(node.value, tuple):
            mistakes.add(node.path, f"expected a list of {called}, got {show(node.plain())}")
            return None
        return [_dump(one) for one in (_read(model, child, mistakes) for child in node.value) if one is not None]

    return read


_read_rules = _read_list(Rule, "rules")


def _read_ip(family: int) -> Read:
    def read(node: Node, mistakes: Mistakes) -> object:
        ours = with_our_names(IpSpec, node, mistakes) if isinstance(node.value, dict) else node
        ip = _read(IpSpec, spell_out(ours, family=family), mistakes)
        if ip is not None and not mistakes.below(node.path):
            check_ip(ip, node, mistakes, family=family)
        return _dump(ip)

    return read


def _read_size(unit: str, *, divisor: int = 1) -> Read:
    """A size in `divisor` bytes."""

    def read(node: Node, mistakes: Mistakes) -> object:
        try:
            size = parse_size(node.plain(), unit=unit)
            if size % divisor:
                raise ValueError(f"expected a size in whole {unit}iB")
        except ValueError as error:
            mistakes.add(node.path, f"{error}, got {show(node.plain())}")
            return None
        return size // divisor

    return read


def _read_number_as_text(node: Node, _mistakes: Mistakes) -> object:
    value = node.plain()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def takes_numbers(model: type[BaseModel], field: str) -> bool:
    """May this text be written as a number, too?"""
    return _READERS.get((model, field)) is _read_number_as_text


def _read_trunks(node: Node, mistakes: Mistakes) -> object:
    return (
        [_read_number_as_text(child, mistakes) for child in node.value]
        if isinstance(node.value, tuple)
        else node.plain()
    )


def _read_ssh_options(node: Node, _mistakes: Mistakes) -> object:
    """OpenSSH's own words for what Nix has types for."""
    if not isinstance(node.value, dict):
        return node.plain()
    words = {True: "yes", False: "no"}
    plain = {name: child.plain() for name, child in node.value.items()}
    return {
        name: words[value] if isinstance(value, bool) else str(value) if isinstance(value, int) else value
        for name, value in plain.items()
    }


def _rewrite(model: type[BaseModel], node: Node, mistakes: Mistakes) -> Node:
    if model is MachineSpec:
        return rewrite_machine(node, mistakes)
    if model is Disk and isinstance(node.value, dict):  # the bus has become the slot's name
        return Node(node.path, {name: child for name, child in node.value.items() if name != "bus"})
    return node


def _read_as_it_is(node: Node, mistakes: Mistakes) -> object:
    """A path or a package in Nix, which is a text when we see it."""
    del mistakes
    return node.value


_READERS: Mapping[tuple[type[BaseModel], str], Read] = {
    (MachineSpec, "disks"): _read_disks,
    (MachineSpec, "network"): _read_nics,
    (MachineSpec, "memory"): _read_size("M", divisor=UNITS["M"]),
    (MachineSpec, "balloon"): _read_size("M", divisor=UNITS["M"]),
    (MachineSpec, "startup"): _read_number_as_text,
    (Disk, "size"): _read_size("G"),
    (ContainerSpec, "mounts"): _read_mounts,
    (ContainerSpec, "swap"): _read_size("M", divisor=UNITS["M"]),
    (RootSpec, "size"): _read_size("G"),
    (MountSpec, "size"): _read_size("G"),
    (VolumeSpec, "size"): _read_size("G"),
    (Nic, "ipv4"): _read_ip(4),
    (Nic, "ipv6"): _read_ip(6),
    (Nic, "trunks"): _read_trunks,
    (InstallSpec, "template"): _read_number_as_text,
    (InstallSpec, "image"): _read_as_it_is,
    (ContainerSpec, "template"): _read_as_it_is,
    (Unlocking, "tang"): _read_list(Tang, "servers"),
    (Strategy, "batch"): _read_number_as_text,
    (HealthSpec, "http"): _read_list(HttpCheck, "requests"),
    (Rule, "port"): _read_number_as_text,
    (Rule, "source_port"): _read_number_as_text,
    (MachineFirewall, "rules"): _read_rules,
    (SecurityGroup, "rules"): _read_rules,
    (ClusterFirewall, "rules"): _read_rules,
    (TenantSpec, "open"): _read_rules,
    (MappingSpec, "entries"): _read_list(MappingEntry, "entries"),
    (RoutingSpec, "vlans"): _read_list(RouterVlan, "VLANs"),
    (RoutingSpec, "routes"): _read_list(Route, "routes"),
    (RoutingSpec, "dhcp"): _read_list(DhcpNetwork, "networks"),
    (RoutingSpec, "masquerade"): _read_list(Masquerade, "what is hidden"),
    (RoutingSpec, "forwards"): _read_list(PortForward, "forwarded ports"),
    (RoutingSpec, "rules"): _read_list(RouterRule, "rules"),
    (PortForward, "port"): _read_number_as_text,
    (PortForward, "to_port"): _read_number_as_text,
    (RouterRule, "port"): _read_number_as_text,
    (Ssh, "options"): _read_ssh_options,
}

_CHECKS: Mapping[type[BaseModel], Callable[..., None]] = {
    Disk: check.check_disk,
    Nic: check.check_nic,
    InstallSpec: check.check_install,
    Ssh: check.check_ssh,
    Encryption: check_encryption,
    MachineSpec: check.check_machine,
    MacSchemeSpec: check_scheme,
}
