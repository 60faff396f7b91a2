"""What a PVE lacks for a network's machines: found by looking only, each finding with what to do about it."""

from collections.abc import Iterator, Sequence

from nixops_proxmox.errors import DeployError, PveError
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.pve.answers import Resources
from nixops_proxmox.pve.client import PveClient
from nixops_proxmox.pve.permissions import grant_commands, missing, needs_of
from nixops_proxmox.pve.placement import Placed, candidates
from nixops_proxmox.pve.profiles import Profile
from nixops_proxmox.pve.properties import GIB, storage_of
from nixops_proxmox.pve.versions import Release
from nixops_proxmox.spec import MachineSpec

OLDEST, NEWEST = Release(7, 4), Release(9, 99)


def examine(client: PveClient, profile: Profile | None = None, specs: Sequence[MachineSpec] = ()) -> list[Finding]:
    """All checks that make sense; ends early when PVE cannot be reached or does not know us. Never raises PveError."""
    profile = profile or Profile("", ())
    try:
        release = client.get_version()
    except DeployError as error:
        return [Finding(Level.PROBLEM, "connection", error.message, error.hint)]
    findings = [_version(release, profile)]
    for check in (_permissions, _nodes, _places, _bridges, _isos):
        try:
            findings.extend(check(client, profile, specs, release))
        except PveError as error:
            findings.append(Finding(Level.PROBLEM, check.__name__.strip("_"), error.message, error.hint))
    return findings


def _version(release: Release, profile: Profile) -> Finding:
    endpoints = ", ".join(str(endpoint) for endpoint in profile.endpoints)
    found = f"PVE {release}" + (f" at {endpoints}, as {who_is(profile)}" if endpoints else "")
    if release < OLDEST:
        return Finding(Level.WARNING, "connection", found, "older than 7.4: upgrade it, nobody has tried this")
    if release > NEWEST:
        return Finding(Level.WARNING, "connection", found, "newer than this program knows")
    return Finding(Level.OK, "connection", found)


def who_is(profile: Profile) -> str:
    """user@realm, or user@realm!token, as far as the profile says."""
    return profile.token.partition("=")[0] or profile.token_id or profile.username or "the command's token"


def _permissions(
    client: PveClient, profile: Profile, specs: Sequence[MachineSpec], release: Release
) -> Iterator[Finding]:
    granted = client.get_permissions()
    needs = tuple(dict.fromkeys(need for spec in specs for need in needs_of(spec, release)))
    lacking = missing(needs, granted)
    for need in lacking:
        names = " or ".join(need.privileges)
        yield Finding(Level.PROBLEM, "permissions", f"{names} is missing on {' or '.join(need.paths)}: {need.purpose}")
    if lacking:
        commands = grant_commands(lacking, who_is(profile), release)
        yield Finding(
            Level.WARNING, "permissions", "on a node, as root, this grants what is missing:", "\n".join(commands)
        )
    elif not granted or not any(granted.values()):
        hint = "a token with privilege separation has only what is granted to the token itself"
        yield Finding(Level.PROBLEM, "permissions", "we have none at all", hint)
    else:
        yield Finding(Level.OK, "permissions", f"all {len(needs)} that are needed" if needs else "there are some")


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
    yield from _storages(seen)


def _storages(seen: Resources) -> Iterator[Finding]:
    for content, purpose in (("images", "disks"), ("iso", "the installer ISO")):
        names = sorted({item.storage for item in seen.storages if content in item.content and item.available})
        if names:
            yield Finding(Level.OK, "storages", f"for {purpose}: {', '.join(names)}")
        else:
            hint = f"enable content type {content!r} on a storage; we see only those with Datastore.Audit"
            yield Finding(Level.PROBLEM, "storages", f"none that we see takes {purpose}", hint)


def _places(client: PveClient, profile: Profile, specs: Sequence[MachineSpec], release: Release) -> Iterator[Finding]:
    del release
    seen = client.get_resources(0.0)
    for spec in specs:
        nodes, refused = candidates(spec, seen, Placed(), reserve=profile.reserve << 20)
        reasons = "\n".join(f"{node}: {why}" for node, why in sorted(refused.items()))
        if nodes:
            yield Finding(Level.OK, f"place for {spec.name}", ", ".join(node.name for node in nodes), reasons)
        else:
            yield Finding(Level.PROBLEM, f"place for {spec.name}", "no node fits", reasons)


def _bridges(client: PveClient, profile: Profile, specs: Sequence[MachineSpec], release: Release) -> Iterator[Finding]:
    del profile, release
    wanted = {nic.bridge for spec in specs for nic in spec.network}
    if not wanted:
        return
    for node in client.get_resources(0.0).nodes:
        if not node.online or any(spec.node not in (None, node.name) for spec in specs):
            continue
        there = set(client.list_bridges(node.name))
        lacking = sorted(wanted - there)
        if lacking:
            hint = f"we see: {', '.join(sorted(there)) or 'none'}; from 8.0 on, only those with SDN.Use or SDN.Audit"
            yield Finding(Level.WARNING, "bridges", f"{node.name} lacks {', '.join(lacking)}", hint)
        else:
            yield Finding(Level.OK, "bridges", f"{node.name} has {', '.join(sorted(wanted))}")


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
            hint = "upload it: in PVE's interface, or with `nixops-proxmox iso upload`"
            yield Finding(Level.PROBLEM, "installer ISO", f"{iso} is on no node that we see", hint)
