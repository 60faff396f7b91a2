"""Which privileges a description needs on which paths, which of them we lack, and the commands that grant them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nixops_proxmox.pve.copies import medium_of
from nixops_proxmox.pve.properties import storage_of
from nixops_proxmox.pve.versions import Release
from nixops_proxmox.spec import MachineSpec, Source

ROLE = "NixOpsProxmox"
Granted = Mapping[str, Mapping[str, bool]]  # {path: {privilege: propagates}}


@dataclass(frozen=True, order=True)
class Need:
    """One of `privileges` on one of `paths` (a VM's rights may come from its pool)."""

    paths: tuple[str, ...]
    privileges: tuple[str, ...]
    purpose: str


def needs_of(spec: MachineSpec, release: Release) -> tuple[Need, ...]:
    return tuple(dict.fromkeys((*_vm_needs(spec, release), *_storage_needs(spec), *_bridge_needs(spec, release))))


def _vm_needs(spec: MachineSpec, release: Release) -> Iterable[Need]:
    vm = f"/vms/{spec.vmid}" if spec.vmid else "/vms"
    paths = (f"/pool/{spec.pool}", vm) if spec.pool else (vm,)
    yield Need(paths, ("VM.Allocate",), "create and destroy VMs")
    yield Need(paths, ("VM.Audit",), "see VMs")
    yield Need(paths, ("VM.PowerMgmt",), "start and stop VMs")
    for name in ("CDROM", "CPU", "Disk", "HWType", "Memory", "Network", "Options"):
        yield Need(paths, (f"VM.Config.{name}",), "set up VMs")
    if spec.agent:
        yield Need(paths, (release.agent_privilege,), "use the guest agent")
    if spec.pool:
        yield Need((f"/pool/{spec.pool}",), ("VM.Allocate", "Pool.Allocate"), "put VMs into the pool")
    if spec.install.source is Source.TEMPLATE:
        template = spec.install.template or ""
        path = f"/vms/{template}" if template.isdecimal() else "/vms"
        yield Need((path,), ("VM.Clone",), f"clone the template {template}")
    if spec.startup is not None:
        yield Need(("/",), ("Sys.Modify",), "set the startup order")


def _storage_needs(spec: MachineSpec) -> Iterable[Need]:
    storages = {disk.storage for disk in spec.disks} | {part.storage for part in (spec.efi, spec.tpm) if part}
    for storage in sorted(storages):
        yield Need((f"/storage/{storage}",), ("Datastore.AllocateSpace",), "make disks")
    image = medium_of(spec)[0] if spec.install.source is Source.IMAGE else ""
    for volume, purpose in ((spec.install.iso or "", "insert the installer ISO"), (image, "import the image")):
        if storage_of(volume):
            read = ("Datastore.Audit", "Datastore.AllocateSpace")
            yield Need((f"/storage/{storage_of(volume)}",), read, purpose)


def _bridge_needs(spec: MachineSpec, release: Release) -> Iterable[Need]:
    if not release.has_sdn_use:
        return
    for nic in spec.network:
        zone = f"/sdn/zones/localnetwork/{nic.bridge}"
        # a vnet lies in its own zone, whose name the description does not say: rights on all zones serve, too
        yield Need((f"{zone}/{nic.tag}" if nic.tag else zone,), ("SDN.Use",), f"use bridge {nic.bridge}")


def missing(needs: Iterable[Need], granted: Granted) -> tuple[Need, ...]:
    return tuple(need for need in needs if not any(_has(granted, path, need.privileges) for path in need.paths))


def _has(granted: Granted, path: str, privileges: tuple[str, ...]) -> bool:
    """By the nearest entry above the path: entries below replace what they inherit."""
    exact = granted.get(path)
    if exact is not None:
        return any(name in exact for name in privileges)
    parent = path
    while parent != "/":
        parent = parent.rpartition("/")[0] or "/"
        above = granted.get(parent)
        if above is not None:
            return any(above.get(name, False) for name in privileges)
    return False


def grant_commands(needs: Iterable[Need], who: str, release: Release) -> tuple[str, ...]:
    """For a root shell on a node: the role as this release knows it, and where it is missing. `who`: user or token.

    A token with privilege separation has what both it and its user have: both are granted.
    """
    paths = sorted({need.paths[0] for need in needs})
    if not paths:
        return ()
    role = f'pveum role add {ROLE} --privs "{" ".join(release.role_privileges)}"'
    user = who.partition("!")[0]
    grants = []
    for path in paths:
        grants.append(f"pveum aclmod {path} --roles {ROLE} --users '{user}'")
        if "!" in who:
            grants.append(f"pveum aclmod {path} --roles {ROLE} --tokens '{who}'")
    return (role, *grants)
