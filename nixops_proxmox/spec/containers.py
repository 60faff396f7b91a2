"""What a description may say of a container, and what has a meaning for VMs alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec.machine import Cpu, InstallSpec, MachineSpec
from nixops_proxmox.spec.resource import ResourceSpec, place_of
from nixops_proxmox.spec.tree import Mistakes
from nixops_proxmox.spec.volume import PLACE

OF_VMS = (
    "disks", "encryption", "balloon", "bios", "efi", "tpm", "machine", "arch", "scsi_controller", "display",
    "hotplug", "expert_args", "extra",
)  # fmt: skip
OF_VM_RESOURCES = ("replications",)  # what we do not do for containers
OCI = ".tar"  # how the name of an archive from a registry ends, since 9.1; before that, no template ends so
MEANINGLESS = "has no meaning for a container"


def check_container(spec: MachineSpec, at: Callable[[str], str], mistakes: Mistakes) -> None:
    """A VM has none of this, and a container nothing that makes a VM. `at`: the path of a field."""
    if not spec.is_container:
        if spec.container is not None:
            mistakes.add(at("container"), 'has no meaning unless kind is "container"')
        return
    if spec.container is None and not mistakes.below(at("container")):
        text = "must be set: its template, and where its root is"
        hint = 'container = { template = "local:vztmpl/…"; root = { storage = "local-lvm"; size = "8G"; }; };'
        mistakes.add(at("container"), text, hint=hint)
    if spec.container is not None and spec.container.template.lower().endswith(OCI):
        text = "it is an OCI image: it has no SSH server, and Proxmox VE tells no host key of it"
        hint = "name a template of NixOS, which ends with .tar.xz, .tar.gz or .tar.zst"
        mistakes.add(f"{at('container')}.template", text, hint=hint)
    for field in _set_for_vms(spec):
        mistakes.add(at(field), MEANINGLESS)
    for nic in spec.network:
        if nic.queues is not None:
            mistakes.add(at("network"), f"{nic.slot}: queues {MEANINGLESS}")
    _check_mounts(spec, at, mistakes)
    if not (spec.network or spec.endpoint.address) and not mistakes.below(at("network")):
        mistakes.add(at("network"), "a container needs at least one NIC to be reached by")


def _set_for_vms(spec: MachineSpec) -> Iterator[str]:
    plain = MachineSpec(name=spec.name)
    yield from (field for field in OF_VMS if getattr(spec, field) != getattr(plain, field))
    if spec.cpu.model_copy(update={"cores": None, "limit": None, "units": None}) != Cpu():
        yield "cpu"
    if spec.install.model_copy(update={"asked": 0}) != InstallSpec():
        yield "install"


def _check_mounts(spec: MachineSpec, at: Callable[[str], str], mistakes: Mistakes) -> None:
    paths = [mount.path.rstrip("/") for mount in spec.container.mounts] if spec.container is not None else []
    for path in paths:
        if f"{path}/".startswith(PLACE):
            mistakes.add(f"{at('container')}.mounts", f"{path}: {PLACE} is for volumes alone")
    for path in sorted({path for path in paths if paths.count(path) > 1}):
        mistakes.add(f"{at('container')}.mounts", f"two of them are at {path}")


def refuse_container(spec: MachineSpec) -> None:
    """SpecError, for NixOps 2, whose machines get their systems by ways that we do not try with containers."""
    if spec.is_container:
        raise SpecError(
            "NixOps 2 makes no containers: expected vm here",
            path=f"{spec.name}.deployment.proxmox.kind",
            hint="deploy the network with the command line, which reads it as it is",
        )


def check_containers(resources: Sequence[ResourceSpec], machines: Iterable[MachineSpec], mistakes: Mistakes) -> None:
    """What names a container and works for VMs alone."""
    containers = {machine.name for machine in machines if machine.is_container}
    for spec in resources:
        name = getattr(spec, "machine", None) or spec.name
        if spec.option in OF_VM_RESOURCES and name in containers:
            mistakes.add(place_of(spec), f"{name} is a container, and we do this for VMs alone")
