"""What a PVE lacks for a network's machines: found by looking only, each finding with what to do about it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from nixops_proxmox.errors import ConfigError, DeployError, PermissionDenied, PveError, PveRefused
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.pve.api.answers import ClusterResources
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.cluster.agreement import identity_of, refuse_other_profile
from nixops_proxmox.pve.cluster.permissions import (
    LOCAL,
    Granted,
    Need,
    Scene,
    Template,
    grant_commands,
    missing,
    needs_of,
    root_only,
)
from nixops_proxmox.pve.cluster.placement import Placed
from nixops_proxmox.pve.cluster.thin import with_thin
from nixops_proxmox.pve.cluster.verdicts import candidates, is_asked_for
from nixops_proxmox.pve.vm.copies import find_templates, is_stored
from nixops_proxmox.pve.wire.profiles import Profile
from nixops_proxmox.pve.wire.properties import GIB, storage_of
from nixops_proxmox.pve.wire.servers import tell_servers
from nixops_proxmox.spec import InstallSource, MachineSpec
from nixops_proxmox.spelling import Verb, command

Rights = Callable[[Release], Iterable[Need]]
Check = Callable[[PveClient, Profile, Sequence[MachineSpec], Release], Iterator[Finding]]
OLDEST, NEWEST = Release(7, 4), Release(9, 99)


def examine(
    client: PveClient,
    profile: Profile | None = None,
    specs: Sequence[MachineSpec] = (),
    rights: Sequence[Rights] = (),
    pools: Collection[str] = (),
) -> list[Finding]:
    """All checks that make sense. Ends early when PVE cannot be reached or does not know us. Never raises PveError.
    `rights`: what other things than machines need. `pools`: those that a deploy makes."""
    profile = profile or Profile("", ())
    try:
        release = client.get_version()
    except DeployError as error:
        return [Finding(Level.PROBLEM, "connection", error.message, error.hint)]
    findings = [_version(release, profile), *_agreement(profile, specs)]
    checks: dict[str, Check] = {"permissions": partial(_permissions, rights=rights), **CHECKS}
    checks["pools"] = partial(_pools, made=pools)
    for name, check in checks.items():
        try:
            findings.extend(check(client, profile, specs, release))
        except PveError as error:
            findings.append(Finding(Level.PROBLEM, name, error.message, error.hint))
    return findings


def _version(release: Release, profile: Profile) -> Finding:
    found = f"PVE {release}"
    if profile.servers:
        found += f" at {tell_servers(profile.servers)}, as {who_is(profile)}"
    if release < OLDEST:
        return Finding(
            Level.WARNING, "connection", found, "older than 7.4: upgrade it, because this version was never tested"
        )
    if release > NEWEST:
        return Finding(Level.WARNING, "connection", found, "newer than this program knows")
    return Finding(Level.OK, "connection", found)


def _agreement(profile: Profile, specs: Sequence[MachineSpec]) -> Iterator[Finding]:
    for spec in specs:
        try:
            refuse_other_profile(spec, profile)
        except ConfigError as error:
            yield Finding(Level.PROBLEM, "connection", error.message, error.hint)


def who_is(profile: Profile) -> str:
    """user@realm, or user@realm!token, as far as the profile says."""
    return identity_of(profile) or "the command's token"


def _permissions(
    client: PveClient,
    profile: Profile,
    specs: Sequence[MachineSpec],
    release: Release,
    *,
    rights: Sequence[Rights] = (),
) -> Iterator[Finding]:
    granted = client.get_permissions()
    needs = find_needs(client, specs, rights, release, granted)
    lacking = missing(needs, granted)
    for need in lacking:
        yield _lack(need)
    if lacking:
        who = who_is(profile)
        commands = grant_commands(lacking, who if "@" in who else "USER@REALM!TOKEN", release, granted)
        yield Finding(
            Level.WARNING, "permissions", "on a node, as root, this grants what is missing:", "\n".join(commands)
        )
    elif not granted or not any(granted.values()):
        hint = "a token with privilege separation has only the rights of the token itself"
        yield Finding(Level.PROBLEM, "permissions", "we have none at all", hint)
    else:
        yield Finding(Level.OK, "permissions", f"all {len(needs)} that are needed" if needs else "there are some")


def _lack(need: Need) -> Finding:
    names, paths = " or ".join(need.privileges), " or ".join(need.paths)
    level = Level.PROBLEM if need.must else Level.WARNING
    return Finding(level, "permissions", f"{names} is missing on {paths}: {need.purpose}")


def find_needs(
    client: PveClient, specs: Sequence[MachineSpec], rights: Sequence[Rights], release: Release, granted: Granted
) -> tuple[Need, ...]:
    """What the machines and `rights` need there, each once."""
    scene = look_around(client, specs, granted)
    of_machines = (need for spec in specs for need in needs_of(spec, release, scene))
    of_others = (need for found in rights for need in found(release))
    return tuple(dict.fromkeys((*of_machines, *of_others)))


def look_around(client: PveClient, specs: Sequence[MachineSpec], granted: Granted) -> Scene:
    """The templates and bridges that the descriptions name, as far as PVE shows them to us."""
    seen = client.get_resources(0.0)
    templates: dict[str, tuple[Template, ...]] = {}
    for spec in specs:
        if spec.install.source is not InstallSource.TEMPLATE or spec.install.described:
            continue
        try:
            found = find_templates(spec, seen)
            configs = [client.get_config(guest.node, guest.vmid).values for guest in found]
        except PveRefused:  # the check of the places says what is wrong with it
            continue
        templates[spec.install.template or ""] = tuple(
            Template(guest.vmid, guest.pool, config) for guest, config in zip(found, configs, strict=True)
        )
    return Scene(templates, _zones(client, seen, granted))


def _zones(client: PveClient, seen: ClusterResources, granted: Granted) -> dict[str, tuple[str, ...]]:
    """The zones by bridge. PVE may hide the zone of a vnet from us. Then all zones where we have rights count."""
    kinds: dict[str, str] = {}
    for node in seen.nodes:
        if node.online:
            kinds |= client.describe_bridges(node.name)
    if "vnet" not in kinds.values():
        return {bridge: (LOCAL,) for bridge in kinds}
    try:
        told = client.list_vnets()
    except PveRefused:
        told = {}
    ours = tuple(sorted({path.split("/")[3] for path in granted if path.startswith("/sdn/zones/")} - {LOCAL}))
    return {
        bridge: (LOCAL,) if kind != "vnet" else (told[bridge],) if bridge in told else ours
        for bridge, kind in kinds.items()
    }


def _root_only(
    client: PveClient, profile: Profile, specs: Sequence[MachineSpec], release: Release
) -> Iterator[Finding]:
    del client
    if who_is(profile) == "root@pam":
        return
    for spec in specs:
        for option in root_only(spec, release):
            hint = "leave it out, or let the profile log in as root@pam with a password: no privilege is enough"
            yield Finding(Level.PROBLEM, "permissions", f"{spec.name}: PVE takes {option} only from root@pam", hint)


def _pools(
    client: PveClient,
    profile: Profile,
    specs: Sequence[MachineSpec],
    release: Release,
    *,
    made: Collection[str] = (),
) -> Iterator[Finding]:
    del profile, release
    for pool in sorted({spec.pool for spec in specs if spec.pool} - {*made}):
        try:
            client.list_pool_members(pool)
        except PermissionDenied:  # the check of the permissions says so
            continue
        except PveRefused as error:
            hint = f"create it on a node, as root: pveum pool add {pool}"
            yield Finding(Level.PROBLEM, "pools", f"there is no pool {pool}: {error.message}", hint)
        else:
            yield Finding(Level.OK, "pools", f"{pool} is there")


def _nodes(client: PveClient, profile: Profile, specs: Sequence[MachineSpec], release: Release) -> Iterator[Finding]:
    del profile, specs, release
    seen = client.get_resources(0.0)
    if not seen.nodes:
        yield Finding(Level.PROBLEM, "nodes", "we may not see any", "grant Sys.Audit on /nodes")
    for node in seen.nodes:
        if not node.online:
            yield Finding(Level.WARNING, "nodes", f"{node.name} is offline")
        elif node.memory_free is None:
            hint = "grant Sys.Audit on /nodes: without it, machines are only spread by number"
            yield Finding(Level.WARNING, "nodes", f"{node.name} does not show us its memory", hint)
        else:
            yield Finding(Level.OK, "nodes", f"{node.name}: {node.memory_free / GIB:.1f} GiB of memory free")


def _storages(client: PveClient, profile: Profile, specs: Sequence[MachineSpec], release: Release) -> Iterator[Finding]:
    """Check the storages for what the descriptions need. Without descriptions, check what they usually need."""
    del profile, release
    seen = client.get_resources(0.0)
    wanted = {"images": not specs or any(spec.disks for spec in specs)}
    wanted["iso"] = not specs or any(spec.install.iso for spec in specs)
    containers = [spec.container for spec in specs if spec.container is not None]
    wanted["rootdir"] = bool(containers)
    wanted["vztmpl"] = any(not is_stored(one.template) for one in containers)
    purposes = {"images": "disks", "iso": "the installer ISO", "rootdir": "containers", "vztmpl": "container templates"}
    for content, purpose in purposes.items():
        if not wanted[content]:
            continue
        names = sorted({item.storage for item in seen.storages if content in item.content and item.available})
        if names:
            yield Finding(Level.OK, "storages", f"for {purpose}: {', '.join(names)}")
        else:
            hint = f"enable content type {content!r} on a storage; we see only those with Datastore.Audit"
            yield Finding(Level.PROBLEM, "storages", f"none that we see takes {purpose}", hint)


def _places(client: PveClient, profile: Profile, specs: Sequence[MachineSpec], release: Release) -> Iterator[Finding]:
    del release
    seen = with_thin(client.get_resources(0.0), client.get_storage_settings()) if specs else ClusterResources(0.0)
    for spec in specs:
        nodes, refused = candidates(spec, seen, Placed(), reserve=profile.reserve << 20)
        reasons = "\n".join(f"{node}: {why}" for node, why in sorted(refused.items()))
        if nodes:
            yield Finding(Level.OK, f"place for {spec.name}", ", ".join(node.name for node in nodes), reasons)
        else:
            yield Finding(Level.PROBLEM, f"place for {spec.name}", "no node fits", reasons)


def _bridges(client: PveClient, profile: Profile, specs: Sequence[MachineSpec], release: Release) -> Iterator[Finding]:
    """On each node, the bridges of the machines that may come there. A machine must have one node with all of its."""
    del profile, release
    nodes = [node.name for node in client.get_resources(0.0).nodes if node.online]
    there = (
        {node: frozenset(client.list_bridges(node)) for node in nodes} if any(spec.network for spec in specs) else {}
    )
    every = frozenset(name for bridges in there.values() for name in bridges)
    awaited = {nic.bridge for spec in specs for nic in spec.network if nic.network is not None} - every
    for node, bridges in there.items():
        wanted = {nic.bridge for spec in specs for nic in spec.network if is_asked_for(spec, node)} - awaited
        lacking = sorted(wanted - bridges)
        if lacking:
            yield Finding(Level.WARNING, "bridges", f"{node} lacks {', '.join(lacking)}", _we_see(bridges))
        elif wanted:
            yield Finding(Level.OK, "bridges", f"{node} has {', '.join(sorted(wanted))}")
    for spec in specs:
        bridges_wanted = {nic.bridge for nic in spec.network} - awaited
        possible = [node for node in there if is_asked_for(spec, node)]
        if possible and not any(bridges_wanted <= there[node] for node in possible):
            lacking = sorted(bridges_wanted - there[possible[0]]) if len(possible) == 1 else sorted(bridges_wanted)
            where = f"{possible[0]} lacks" if len(possible) == 1 else "no node has all of"
            text = f"{where} {', '.join(lacking)}"
            yield Finding(Level.PROBLEM, f"bridges for {spec.name}", text, _we_see(there[possible[0]]))


def _we_see(bridges: frozenset[str]) -> str:
    shown = ", ".join(sorted(bridges)) or "none"
    return f"we see: {shown}; from 8.0 on, only those with SDN.Use or SDN.Audit"


def _isos(client: PveClient, profile: Profile, specs: Sequence[MachineSpec], release: Release) -> Iterator[Finding]:
    del profile, release
    seen = client.get_resources(0.0)
    for iso in sorted({spec.install.iso for spec in specs if spec.install.iso}):
        storage = storage_of(iso)
        having = []
        for item in seen.storages:
            if item.storage != storage or not item.available:
                continue
            if any(volume.volid == iso for volume in client.list_volumes(item.node, storage, "iso")):
                having.append(item.node)
        if having:
            yield Finding(Level.OK, "installer ISO", f"{iso} on {', '.join(sorted(having))}")
        else:
            hint = f"upload it: in PVE's interface, or with {command(Verb.ISO_UPLOAD)}"
            yield Finding(Level.PROBLEM, "installer ISO", f"{iso} is on no node that we see", hint)


CHECKS: Mapping[str, Check] = {
    "root_only": _root_only,
    "pools": _pools,
    "nodes": _nodes,
    "storages": _storages,
    "places": _places,
    "bridges": _bridges,
    "isos": _isos,
}
