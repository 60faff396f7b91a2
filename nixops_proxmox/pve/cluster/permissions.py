"""Which privileges a description needs on which paths, which of them we lack, and the commands that grant them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nixops_proxmox.pve.api.versions import Release
from nixops_proxmox.pve.vm.copies import medium_of
from nixops_proxmox.pve.wire.properties import parse_nic, parse_properties, storage_of
from nixops_proxmox.spec import ContainerSpec, IdentityBy, InstallSource, MachineSpec
from nixops_proxmox.spec.images import ON_NODE, is_file_here

ROLE = "NixOpsProxmox"
LOCAL = "localnetwork"  # the zone of bridges that are no vnets
ZONES = "/sdn/zones"  # for a bridge that may be a vnet of a zone that we do not know
Granted = Mapping[str, Mapping[str, bool]]  # {path: {privilege: propagates}}


@dataclass(frozen=True, order=True)
class Need:
    """One of `privileges` on one of `paths` (a VM's rights may come from its pool).

    `grant_on`: where to grant it, if not on the first path. Without `must`, a deploy works without it and some other
    verb does not.
    """

    paths: tuple[str, ...]
    privileges: tuple[str, ...]
    purpose: str
    grant_on: str = ""
    must: bool = True

    @property
    def where(self) -> str:
        return self.grant_on or self.paths[0]


@dataclass(frozen=True)
class Template:
    """What a clone is made of, as far as we may see it."""

    vmid: int
    pool: str = ""
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """What the cluster tells about what descriptions name: templates by what the description calls them, and the SDN
    zones that a bridge may lie in (one, if PVE shows it; a bridge that PVE does not show us is left out)."""

    templates: Mapping[str, tuple[Template, ...]] = field(default_factory=dict)
    zones: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_CONFIG_OF_VMS = ("CDROM", "CPU", "Disk", "HWType", "Memory", "Network", "Options")
_CONFIG_OF_CONTAINERS = ("CPU", "Disk", "Memory", "Network", "Options")


def needs_of(spec: MachineSpec, release: Release, scene: Scene | None = None) -> tuple[Need, ...]:
    scene = scene or Scene()
    found = (
        *_vm_needs(spec, release),
        *_template_needs(spec, release, scene),
        *_storage_needs(spec),
        *_bridge_needs(((nic.bridge, nic.tag, nic.trunks) for nic in spec.network), release, scene),
        *_device_needs({key: str(value) for key, value in spec.extra.items()}, release),
        *_other_needs(spec),
    )
    return tuple(dict.fromkeys(found))


def _vm_paths(spec: MachineSpec) -> tuple[str, ...]:
    vm = f"/vms/{spec.vmid}" if spec.vmid else "/vms"
    return (f"/pool/{spec.pool}", vm) if spec.pool else (vm,)


def _vm_needs(spec: MachineSpec, release: Release) -> Iterator[Need]:
    paths = _vm_paths(spec)
    yield Need(paths, ("VM.Allocate",), "create and destroy VMs")
    yield Need(paths, ("VM.Audit",), "see VMs")
    yield Need(paths, ("VM.PowerMgmt",), "start and stop VMs")
    for name in _CONFIG_OF_CONTAINERS if spec.is_container else _CONFIG_OF_VMS:
        yield Need(paths, (f"VM.Config.{name}",), "set up VMs")
    if any(":cloudinit" in str(value) for value in spec.extra.values()):
        yield Need(paths, ("VM.Config.Cloudinit",), "set up a cloud-init drive")
    if spec.agent and not spec.is_container:
        yield Need(paths, (release.agent_privilege,), "use the guest agent")
    if spec.startup is not None:
        yield Need(("/",), ("Sys.Modify",), "set the startup order")
    if (spec.cpu.type or "").startswith("custom-"):
        model = (spec.cpu.type or "").partition(",")[0].removeprefix("custom-")
        by_mapping = Need((f"/mapping/cpu/{model}",), ("Mapping.Use",), "use a CPU model of the cluster's own")
        by_audit = Need(("/nodes",), ("Sys.Audit",), "use a CPU model of the cluster's own")
        yield by_mapping if release >= Release(9, 2) else by_audit


def _other_needs(spec: MachineSpec) -> Iterator[Need]:
    """What other verbs than deploy need, and what only improves choices."""
    paths = _vm_paths(spec)
    yield Need(paths, ("VM.Console",), "the verb console", must=False)
    for_deploy = "take a snapshot before a new system (deploy.snapshot)"
    for_verbs = "the verbs snapshot and rollback"
    must = spec.deploy.snapshot
    yield Need(paths, ("VM.Snapshot",), for_deploy if must else for_verbs, must=must)
    yield Need(paths, ("VM.Migrate",), "the verb migrate", must=False)
    yield Need(paths, ("VM.Backup",), "the verbs backup, restore and move", must=False)
    yield Need(("/nodes",), ("Sys.Audit",), "see how much memory is free on nodes", must=False)
    if spec.pool:
        yield Need((f"/pool/{spec.pool}",), ("Pool.Audit",), "see the pool", must=False)
    if spec.install.source is InstallSource.ISO and spec.install.iso:
        path = f"/storage/{storage_of(spec.install.iso)}"
        yield Need((path,), ("Datastore.AllocateTemplate",), "the verb iso upload", must=False)


def _template_needs(spec: MachineSpec, release: Release, scene: Scene) -> Iterator[Need]:
    """PVE asks for rights on the template, and on what a copy of it comes with."""
    if spec.install.source is not InstallSource.TEMPLATE or spec.install.described:
        return  # what is described says itself what it needs
    for template in scene.templates.get(spec.install.template or "", (None,)):
        yield from _needs_of_template(spec.install.template or "", template, release, scene)


def _needs_of_template(name: str, template: Template | None, release: Release, scene: Scene) -> Iterator[Need]:
    vmid = str(template.vmid) if template else name
    path = f"/vms/{vmid}" if vmid.isdecimal() else "/vms"
    paths = (path, f"/pool/{template.pool}") if template and template.pool else (path,)
    yield Need(paths, ("VM.Clone",), f"clone the template {name}")
    yield Need(paths, ("VM.Audit",), f"see the template {name}")
    if template:
        nics = [parse_nic(value) for key, value in template.config.items() if key.rstrip("0123456789") == "net"]
        parts = ((nic.get("bridge", ""), int(nic.get("tag") or 0), nic.get("trunks", "").split(";")) for nic in nics)
        yield from _bridge_needs(parts, release, scene)
        yield from _device_needs(template.config, release)


def _storage_needs(spec: MachineSpec) -> Iterator[Need]:
    """Datastore.Audit too: without it PVE's list does not show the storage, and no place is found."""
    storages = {disk.storage for disk in spec.disks} | {part.storage for part in (spec.efi, spec.tpm) if part}
    for storage in sorted(storages):
        yield Need((f"/storage/{storage}",), ("Datastore.AllocateSpace",), "make disks")
        yield Need((f"/storage/{storage}",), ("Datastore.Audit",), "see the storage of the disks")
    if spec.container is not None:
        yield from _needs_of_container(spec.container)
    if spec.install.cloud_init is not None and (drive := spec.install.cloud_init.storage):
        yield Need((f"/storage/{drive}",), ("Datastore.AllocateSpace",), "make the cloud-init drive")
    image = medium_of(spec)[0] if spec.install.source is InstallSource.IMAGE else ""
    if spec.install.identity is IdentityBy.CLOUD_INIT:
        known = spec.install.identity_storage is not None  # else one is chosen among those that the token may use
        path = (f"/storage/{spec.install.identity_storage}" if known else "/storage",)
        why = "put the CD there that says who the machine is"
        yield Need(path, ("Datastore.AllocateTemplate",), why, must=known)
        yield Need(path, ("Datastore.Audit",), "insert that CD", must=known)
        yield Need(path, ("Datastore.Allocate",), "delete that CD; without it, an empty file stays", must=False)
    yield from _needs_of_upload(spec)
    yield from _needs_of_backup(spec)
    for volume, purpose in ((spec.install.iso or "", "insert the installer ISO"), (image, "import the image")):
        if storage_of(volume):
            yield Need((f"/storage/{storage_of(volume)}",), ("Datastore.Audit",), purpose)


def _needs_of_backup(spec: MachineSpec) -> Iterator[Need]:
    """PVE asks for less where it knows whose backup it is."""
    backup = spec.install.backup or ""
    if spec.install.source is not InstallSource.BACKUP:
        return
    path, owner = f"/storage/{storage_of(backup)}", re.search(r":backup/(?:vzdump-qemu-|vm/)(\d+)[-/]", backup)
    yield Need((path,), ("Datastore.Audit",), "see the backup")
    if owner is None:
        yield Need((path,), ("Datastore.Allocate",), "restore a backup that belongs to no VMID")
        return
    yield Need((path,), ("Datastore.AllocateSpace",), "restore the backup")
    yield Need((f"/vms/{owner[1]}",), ("VM.Backup",), "restore the backup of another VM")


def _needs_of_upload(spec: MachineSpec) -> Iterator[Need]:
    """An image that is a file of ours is uploaded, and deleted when nothing needs it."""
    if spec.install.source is not InstallSource.IMAGE or not is_file_here(spec.install.image):
        return
    named = spec.install.image_storage
    path = f"/storage/{named}" if named else "/storage"
    yield Need((path,), ("Datastore.AllocateTemplate",), "upload the image")
    yield Need((path,), ("Datastore.Audit",), "see which images are there")
    yield Need((path,), ("Datastore.Allocate",), "delete an image that nothing needs any more", must=False)


def _needs_of_container(container: ContainerSpec) -> Iterator[Need]:
    for storage in sorted({volume.storage for volume in container.volumes}):
        yield Need((f"/storage/{storage}",), ("Datastore.AllocateSpace",), "make the volumes of containers")
        yield Need((f"/storage/{storage}",), ("Datastore.Audit",), "see the storage of the volumes")
    named = storage_of(container.template) if not container.template.startswith(("/", ".", "~")) else ""
    if named:
        yield Need((f"/storage/{named}",), ("Datastore.Audit",), "make containers of the template")
        return
    path = f"/storage/{container.storage}" if container.storage else "/storage"
    yield Need((path,), ("Datastore.AllocateTemplate",), "upload the template")
    yield Need((path,), ("Datastore.Audit",), "see which templates are there")


def _bridge_needs(
    nics: Iterable[tuple[str, int | None, Iterable[str]]], release: Release, scene: Scene
) -> Iterator[Need]:
    """On each VLAN that is named, else on the bridge. A grant for VLANs of a trunk is made on the bridge."""
    if not release.has_sdn_use:
        return
    for bridge, tag, trunks in nics:
        if not bridge:
            continue
        bases = [f"/sdn/zones/{zone}/{bridge}" for zone in scene.zones.get(bridge, (LOCAL,))]
        known = len(bases) == 1 and (bridge in scene.zones or bridge.startswith("vmbr"))
        vlans = [f"/{tag}"] if tag else [f"/{vlan}" for vlan in _vlans(trunks)] or [""]
        for vlan in vlans:
            paths = tuple(base + vlan for base in bases) or (ZONES,)
            where = paths[0] if tag else bases[0] if bases else ""
            yield Need(paths, ("SDN.Use",), f"use bridge {bridge}", where if known else ZONES)


def _vlans(trunks: Iterable[str]) -> Iterator[int]:
    for part in filter(None, trunks):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


_MAPPINGS = {"hostpci": "pci", "usb": "usb", "virtiofs": "dir"}


def _device_needs(config: Mapping[str, str], release: Release) -> Iterator[Need]:
    """Devices of the host that PVE lends by a mapping."""
    for key, value in config.items():
        kind = key.rstrip("0123456789")
        area = _MAPPINGS.get(kind) if key != kind else None
        name = parse_properties(value, "dirid").get("dirid" if area == "dir" else "mapping", "") if area else ""
        if name and release.has_mappings:
            yield Need((f"/mapping/{area}/{name}",), ("Mapping.Use",), f"use the mapped device {name}")


def root_only(spec: MachineSpec, release: Release) -> tuple[str, ...]:
    """The options that PVE takes only from root@pam with a password. No privilege is enough for them."""
    found = [
        option
        for option, value in (("expertArgs", spec.expert_args), ("arch", spec.arch))
        if value not in (None, "x86_64")
    ]
    for key, value in spec.extra.items():
        kind = key.rstrip("0123456789")
        lent = parse_properties(str(value), "host")
        if kind in ("hostpci", "usb") and not ("mapping" in lent and release.has_mappings):
            found += [f"extra.{key}"] if lent.get("host", "").lower() != "spice" else []
        if kind == "serial" and str(value) != "socket":
            found.append(f"extra.{key}")
    if spec.install.source is InstallSource.IMAGE and (spec.install.image or "").startswith(ON_NODE):
        found.append("install.image as the path of a node's file")
    return tuple(found)


def missing(needs: Iterable[Need], granted: Granted) -> tuple[Need, ...]:
    return tuple(need for need in needs if not any(_has(granted, path, need.privileges) for path in need.paths))


def _has(granted: Granted, path: str, privileges: tuple[str, ...]) -> bool:
    """By the nearest entry above the path: entries below replace what they inherit."""
    exact = granted.get(path)
    if exact is not None:
        return any(name in exact for name in privileges)
    for parent in _above(path):
        above = granted.get(parent)
        if above is not None:
            return any(above.get(name, False) for name in privileges)
    return False


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


@dataclass(frozen=True)
class Grants:
    """`roles`: their privileges, by name. `acl`: the roles by path."""

    roles: Mapping[str, tuple[str, ...]]
    acl: Mapping[str, tuple[str, ...]]


def find_grants(needs: Iterable[Need], release: Release, granted: Granted | None = None) -> Grants:
    """What grants what is missing, where it is missing. A grant replaces what its path inherited, so it brings along
    the role that the machines need."""
    roles: dict[str, set[str]] = {}
    for need in needs:
        own = need.privileges[0] in release.role_privileges
        roles.setdefault(need.where, set()).add(ROLE if own else f"{ROLE}-{need.privileges[0]}")
    for path in roles:
        if any((granted or {}).get(path, {}).get(name) for name in release.role_privileges):
            roles[path].add(ROLE)
    used = sorted({role for names in roles.values() for role in names})
    return Grants(
        {role: release.role_privileges if role == ROLE else (role.removeprefix(f"{ROLE}-"),) for role in used},
        {path: tuple(sorted(roles[path])) for path in sorted(roles)},
    )


def grant_commands(
    needs: Iterable[Need], who: str, release: Release, granted: Granted | None = None
) -> tuple[str, ...]:
    """Commands for a root shell on a node that grant what is missing, where it is missing. `who`: user or token.

    A token with privilege separation has what both it and its user have: both are granted.
    """
    return commands_of(find_grants(needs, release, granted), who)


def commands_of(grants: Grants, who: str) -> tuple[str, ...]:
    return (*_role_commands(grants), *(_acl(path, roles, who) for path, roles in grants.acl.items()))


def _role_commands(grants: Grants) -> Iterator[str]:
    for role, privileges in grants.roles.items():
        privs = " ".join(privileges)
        yield f"pveum role add {role} 2>/dev/null; pveum role modify {role} --privs '{privs}'"


def role_line(release: Release) -> str:
    return " ".join(release.role_privileges)


def _acl(path: str, roles: Iterable[str], who: str) -> str:
    user = who.partition("!")[0]
    token = f" --tokens '{who}'" if "!" in who else ""
    return f"pveum acl modify {path} --roles {','.join(sorted(roles))} --users '{user}'{token}"
