"""What the values of a machine, and the machines of a network, must agree on."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from nixops_proxmox.spec.addresses import check_source
from nixops_proxmox.spec.cloud_init import is_told, slot_of
from nixops_proxmox.spec.containers import MEANINGLESS, check_container
from nixops_proxmox.spec.encryption import GUARD, SECURE_BOOT, Tpm2
from nixops_proxmox.spec.extra import objection
from nixops_proxmox.spec.images import is_file_here
from nixops_proxmox.spec.machine import (
    HOST_KEY,
    Disk,
    IdentityBy,
    InstallMethod,
    InstallSource,
    InstallSpec,
    MachineSpec,
    Nic,
    Ssh,
)
from nixops_proxmox.spec.names import option_name
from nixops_proxmox.spec.resource import ResourceSpec, place_of
from nixops_proxmox.spec.resources import Models
from nixops_proxmox.spec.tree import Mistakes, nearest
from nixops_proxmox.spec.volume import VolumeSpec, is_volume_serial

T = TypeVar("T")

At = Callable[[str], str]  # the path of a field

# OpenSSH options that are ours: they decide who is believed to be the machine, or have an option of their own.
_SSH_PROOF = (
    "StrictHostKeyChecking", "UserKnownHostsFile", "GlobalKnownHostsFile", "KnownHostsCommand", "HostKeyAlias",
    "NoHostAuthenticationForLocalhost", "VerifyHostKeyDNS", "UpdateHostKeys", "HashKnownHosts", "CheckHostIP",
    "UserKnownHostsFile2", "GlobalKnownHostsFile2", "ProxyCommand", "ProxyUseFdpass", "ControlMaster", "ControlPath",
    "ControlPersist", "CanonicalizeHostname", "CanonicalDomains", "CanonicalizeFallbackLocal", "CanonicalizeMaxDots",
    "CanonicalizePermittedCNAMEs", "Include", "Match", "Host", "IgnoreUnknown",
)  # fmt: skip
OUR_ISO = "/nixops-proxmox-installer"  # how the names of nix/installer-iso.nix begin
_A = {InstallSource.IMAGE: "an image", InstallSource.TEMPLATE: "a template", InstallSource.BACKUP: "a backup"}
_SSH_OWN = {
    "port": "port",
    "user": "user",
    "identityfile": "identityFile",
    "proxyjump": "endpoint.jump",
    "hostname": "endpoint.address",
}
OF_DISKS = ("discard", "ssd")  # what only a volume of VMs has


def check_disk(disk: Disk, at: At, mistakes: Mistakes) -> None:
    bus = disk.slot.rstrip("0123456789")
    if disk.iothread and bus == "sata":
        mistakes.add(at("iothread"), "sata disks have none: expected the bus scsi or virtio")
    if disk.ssd and bus == "virtio":
        mistakes.add(at("ssd"), "virtio disks cannot look like SSDs: expected the bus scsi or sata")
    if disk.serial is not None and is_volume_serial(disk.serial):
        mistakes.add(at("serial"), f"{disk.serial} is how the serial of a volume begins: expected another one")
    if disk.aio == "native" and disk.cache not in (None, "none", "directsync"):
        mistakes.add(at("aio"), f"native needs the cache none or directsync, and it is {disk.cache}")


def check_nic(nic: Nic, at: At, mistakes: Mistakes) -> None:
    if nic.network is None and not nic.bridge:
        mistakes.add(at("bridge"), "must be set, or network: what is the NIC connected to?")
    for field in ("bridge", "tag") if nic.network is not None else ():
        if getattr(nic, field):
            mistakes.add(at(field), f"has no meaning with network: {nic.network} says it")
    if nic.model != "virtio":
        for field in ("mtu", "queues"):
            if getattr(nic, field) is not None:
                mistakes.add(at(field), f"needs the model virtio, and it is {nic.model}")
    for family, ip in ((4, nic.ipv4), (6, nic.ipv6)):
        check_source(ip, nic.pool, at(f"ipv{family}"), mistakes, family=family)
    if nic.ipv4.method == nic.ipv6.method == "none":
        mistakes.warn(at("ipv4"), "the NIC has neither IPv4 nor IPv6: we cannot reach the machine through it")
    if nic.mtu is not None and 1 < nic.mtu < 576:
        mistakes.add(at("mtu"), f"expected 1 (the bridge's) or 576 to 65520, got {nic.mtu}")


def check_install(install: InstallSpec, at: At, mistakes: Mistakes) -> None:
    wanted = {
        InstallSource.IMAGE: install.image,
        InstallSource.TEMPLATE: install.template,
        InstallSource.BACKUP: install.backup,
    }
    for source, value in wanted.items():
        field = source.value
        if install.source is source and value is None:
            mistakes.add(at(field), f"must be set when install.from is {field}")
        if install.source is not source and value is not None:
            mistakes.add(at(field), f'has no meaning unless install.from is "{field}"')
    if install.backup is not None and ":backup/" not in install.backup:
        mistakes.add(at("backup"), f"expected a volume such as local:backup/NAME.vma.zst, got {install.backup!r}")
    if install.identity is not IdentityBy.AGENT and install.source is InstallSource.ISO:
        mistakes.add(at("identity"), "has no meaning for a machine that the installer installs")
    if install.identity_storage is not None and install.identity is not IdentityBy.CLOUD_INIT:
        mistakes.add(at("identity_storage"), 'has no meaning unless install.identity is "cloud-init"')
    if install.image_storage is not None and not is_file_here(install.image):
        mistakes.add(at("image_storage"), "has no meaning unless install.image is a file that we upload")
    if install.full_clone and install.source is not InstallSource.TEMPLATE:
        mistakes.add(at("full_clone"), 'has no meaning unless install.from is "template"')
    if install.layout is not None and install.partition is not None:
        mistakes.add(
            at("layout"), "has no meaning with install.partition (or disko), which lays out the disks: give one"
        )
    if install.layout is not None and install.source is not InstallSource.ISO:
        mistakes.add(at("layout"), f'has no meaning unless install.from is "{InstallSource.ISO}"')
    if install.configuration is not None and install.method is not InstallMethod.CONFIGURATION:
        mistakes.add(at("configuration"), 'has no meaning unless install.method is "configuration"')


def check_ssh(ssh: Ssh, at: At, mistakes: Mistakes) -> None:
    proof = {name.lower(): name for name in _SSH_PROOF}
    for name, value in ssh.options.items():
        path = f"{at('options')}.{name}"
        if not (name.isascii() and name.isalnum()):
            mistakes.add(path, "is not the name of an OpenSSH option")
        elif name.lower() in proof:
            mistakes.add(
                path, "cannot be set: the machine's host key is pinned, always (and endpoint.jump says through whom)"
            )
        elif name.lower() in _SSH_OWN:
            mistakes.add(path, f"is set by the option {_SSH_OWN[name.lower()]}")
        elif any(ord(letter) < 32 for letter in value):
            mistakes.add(path, "expected a value on one line")


def check_machine(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    check_container(spec, at, mistakes)
    _check_placement(spec, at, mistakes)
    _check_snapshot(spec, at, mistakes)
    _check_host_key(spec, at, mistakes)
    if not spec.is_container:
        _check_vm(spec, at, mistakes)


def _check_host_key(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    if spec.ssh.host_key != HOST_KEY and spec.install.identity is IdentityBy.CLOUD_INIT:
        mistakes.add(f"{at('ssh')}.hostKey", f"cloud-init puts the host key at {HOST_KEY} and nowhere else")


def _check_snapshot(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    if not spec.deploy.snapshot:
        return
    if not spec.deploy.probation:
        mistakes.add(f"{at('deploy')}.snapshot", "needs deploy.probation: what confirms the new system takes it away")
    if spec.volumes:
        text = "cannot be with volumes, which outlive the machine: going back would take them back as well"
        mistakes.add(f"{at('deploy')}.snapshot", text)


def _check_vm(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    by_agent = spec.install.source is not InstallSource.ISO and spec.install.identity is IdentityBy.AGENT
    if by_agent and not spec.agent:
        text = f"a machine from {_A[spec.install.source]} gets its identity through the guest agent"
        mistakes.add(at("agent"), f'{text}, unless install.identity is "cloud-init"')
    _check_cloud_init(spec, at, mistakes)
    if spec.balloon is not None and spec.memory is not None and spec.balloon > spec.memory:
        mistakes.add(at("balloon"), f"expected at most the memory, {spec.memory} MiB, got {spec.balloon}")
    if spec.efi is not None and spec.bios == "seabios":
        mistakes.add(at("bios"), "an EFI disk needs ovmf, and this says seabios")
    _check_secure_boot(spec, at, mistakes)
    _check_encryption(spec, at, mistakes)
    _check_extra(spec, at, mistakes)
    _check_enough(spec, at, mistakes)
    for serial, slots in _twice((disk.serial, disk.slot) for disk in spec.disks):
        mistakes.add(at("disks"), f"{' and '.join(slots)} have the same serial, {serial}")


def _check_cloud_init(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    told, place = spec.install.cloud_init, f"{at('install')}.cloudInit"
    if told is None:
        return
    if spec.install.source is InstallSource.ISO:
        mistakes.add(place, "has no meaning for a machine that the installer installs")
    if spec.install.identity is not IdentityBy.AGENT:
        mistakes.add(place, "a system reads one drive of cloud-init, and install.identity is another one: set only one")
    for key in spec.extra:
        if key == slot_of(spec) or is_told(key):
            mistakes.add(f"{at('extra')}.{key}", "is set by install.cloudInit")
    if told.storage is None and not spec.disks:
        mistakes.add(f"{place}.storage", "must be set where no disk is described")
    static = any("static" in (nic.ipv4.method, nic.ipv6.method) for nic in spec.network)
    if static and not (told.nameservers or spec.name_servers):
        text = "no name servers are described, so PVE tells the machine those of the node that it is on"
        mistakes.warn(f"{place}.nameservers", text)


def _check_placement(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    wanted, path = spec.placement, at("placement")
    if spec.node is not None and wanted.nodes and spec.node not in wanted.nodes:
        mistakes.add(
            f"{path}.nodes", f"does not contain {spec.node}, which is the machine's node: set only one of them"
        )
    if wanted.spread is not None and wanted.spread == wanted.together:
        text = f"the machines of the group {wanted.spread} cannot be on different nodes and on the same one"
        mistakes.add(f"{path}.together", text)
    if wanted.strict and wanted.spread is None and wanted.together is None:
        mistakes.add(f"{path}.strict", "has no meaning without placement.spread or placement.together")


def _check_secure_boot(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    """Our own installer is not signed. Only its owner knows whether another one is."""
    iso = spec.install.iso if spec.install.source is InstallSource.ISO else None
    if spec.efi is not None and spec.efi.secure_boot_keys and iso and OUR_ISO in iso:
        text = f"the firmware refuses installers that are not signed, such as {iso}: set install.iso to a signed one"
        mistakes.add(f"{at('efi')}.secureBootKeys", text)


def _check_encryption(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    """We encrypt disks that we lay out ourselves, from a system that is built before."""
    if spec.encryption is None:
        for disk in spec.disks:
            if disk.encrypt:
                mistakes.add(at("disks"), f"{disk.slot} has `encrypt`, which needs `encryption`")
        return
    if spec.install.source is not InstallSource.ISO:
        mistakes.add(at("encryption"), f"needs the installer, and the machine is {_A[spec.install.source]}'s copy")
    elif spec.install.partition is not None:
        mistakes.add(at("encryption"), "needs our own layout of the disks, and install.partition is another one")
    if spec.install.method is InstallMethod.CONFIGURATION:
        mistakes.add(at("encryption"), "needs the system that opens the disks: install.method must be closure")
    if spec.encryption.unlock.tool and not spec.serial_port:
        mistakes.add(at("serial_port"), "encryption.unlock.tool types the key into the serial console")
    if spec.encryption.unlock.tpm2 is not None:
        _check_tpm2(spec, spec.encryption.unlock.tpm2, at, mistakes)


def _check_tpm2(spec: MachineSpec, tpm2: Tpm2, at: At, mistakes: Mistakes) -> None:
    path = f"{at('encryption')}.unlock.tpm2"
    if spec.tpm is None or spec.tpm.version != "v2.0":
        mistakes.add(path, "needs a TPM of the version v2.0", hint='tpm = { storage = "…"; };')
        return
    if spec.efi is not None and spec.efi.secure_boot_keys and SECURE_BOOT in tpm2.pcrs:
        text = f"PCR {SECURE_BOOT} tells who signed what booted, and that was the installer when the key is sealed"
        mistakes.add(f"{path}.pcrs", f"{text}: expected [ {GUARD} ] with efi.secureBootKeys")
    if spec.disks and spec.tpm.storage == spec.disks[0].storage:
        text = f"{spec.tpm.storage} has the first disk, too: who gets that storage has the disk and what opens it"
        mistakes.warn(f"{at('tpm')}.storage", f"{text}; this protects a single disk that is lost, and nothing else")


def _check_extra(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    for key, value in spec.extra.items():
        reason = objection(key)
        if reason:
            mistakes.add(f"{at('extra')}.{key}" if key.isidentifier() else f"{at('extra')}.{key!a}", reason)
        elif isinstance(value, str) and not value.strip():
            mistakes.add(f"{at('extra')}.{key}", "must not be empty: PVE takes that for not set")


def _check_enough(spec: MachineSpec, at: At, mistakes: Mistakes) -> None:
    if spec.install.source is InstallSource.TEMPLATE:
        return
    if not spec.disks and not mistakes.below(at("disks")):
        mistakes.add(at("disks"), "a machine needs at least one disk to be installed on")
    passed_through = any(key.startswith("hostpci") for key in spec.extra)
    reachable = spec.network or passed_through or spec.endpoint.address
    if not reachable and not mistakes.below(at("network")):
        mistakes.add(at("network"), "a machine needs at least one NIC to be reached by")


def check_network(machines: Iterable[MachineSpec], path_of: Callable[[str], str], mistakes: Mistakes) -> None:
    """`path_of` a machine's name."""
    machines = list(machines)
    for mac, owners in _twice((nic.mac, f"{m.name}.{nic.slot}") for m in machines for nic in m.network):
        first, *others = owners
        for other in others:
            mistakes.add(f"{path_of(other.rpartition('.')[0])}.network", f"{other} has the MAC {mac} of {first}")
    for (_, vmid), names in _twice(((m.profile, m.vmid) if m.vmid else None, m.name) for m in machines):
        first, *others = names
        for other in others:
            mistakes.add(f"{path_of(other)}.vmid", f"{vmid} is the VMID of {first} already")


def check_strategies(machines: Iterable[MachineSpec], path_of: Callable[[str], str], mistakes: Mistakes) -> None:
    """The machines of a group are changed in one order, so they say the same of it."""
    first: dict[str | None, MachineSpec] = {}
    for spec in machines:
        other = first.setdefault(spec.deploy.strategy.group, spec)
        for field in ("batch", "max_failures"):
            have, want = getattr(spec.deploy.strategy, field), getattr(other.deploy.strategy, field)
            if have != want:
                path = f"{path_of(spec.name)}.deploy.strategy.{option_name(field)}"
                mistakes.add(path, f"is {_said(have)}, and {_said(want)} on {other.name}, which is of the same group")


def _said(value: object) -> str:
    return "not set" if value is None else str(value)


def check_ways(machines: Iterable[MachineSpec], path_of: Callable[[str], str], mistakes: Mistakes) -> None:
    """Each way leads through a machine that is there, and none leads through itself."""
    gates = {machine.name: machine.endpoint.through for machine in machines}
    for machine in machines:
        through, path = machine.endpoint.through, f"{path_of(machine.name)}.endpoint.through"
        if through is None:
            continue
        if machine.endpoint.jump is not None:
            mistakes.add(path, f"has no meaning with jump: expected one of them ({through} may have a jump of its own)")
        elif through not in gates:
            mistakes.add(path, f"there is no machine {through}{nearest(through, list(gates))}")
        elif machine.name in (circle := _way_of(machine.name, gates)):
            mistakes.add(path, f"the way leads in a circle: {' through '.join([machine.name, *circle])}")


def check_keepers(machines: Iterable[MachineSpec], path_of: Callable[[str], str], mistakes: Mistakes) -> None:
    """Each machine that serves tang for another is there, and opens its own disk without that."""
    keepers = {
        machine.name: [one.machine for one in machine.encryption.unlock.tang if one.machine is not None]
        for machine in machines
        if machine.encryption is not None
    }
    names = [machine.name for machine in machines]
    for name, theirs in keepers.items():
        path = f"{path_of(name)}.encryption.unlock.tang"
        for keeper in theirs:
            if keeper not in names:
                mistakes.add(path, f"there is no machine {keeper}{nearest(keeper, names)}")
            elif keeper == name or keepers.get(keeper):
                mistakes.add(path, f"{keeper} itself waits for another machine when it boots")


def _way_of(name: str, gates: Mapping[str, str | None]) -> list[str]:
    """What leads to the machine, the nearest first; ends where it comes back to one that it has passed."""
    found: list[str] = []
    through = gates.get(name)
    while through is not None and through not in found:
        found.append(through)
        through = gates.get(through)
    return found


def check_resources(
    resources: Sequence[ResourceSpec],
    models: Models,
    machines: Sequence[MachineSpec],
    path_of: Callable[[str], str],
    mistakes: Mistakes,
) -> None:
    """What machines refer to is described, no two describe one thing, and each has no objection of its own."""
    for option, model in models.items():
        known = [spec.name for spec in resources if spec.option == option]
        for machine in machines:
            for where, name in model.references(machine).items():
                if name not in known and not mistakes.below(f"resources.{option}.{name}"):
                    text = f"there is no {name} in resources.{option}{nearest(name, known)}"
                    mistakes.add(f"{path_of(machine.name)}.{where}", text)
    for identity, names in _twice(((spec.option, *spec.identity), spec.name) for spec in resources):
        first, other = names[0], names[1]
        mistakes.add(f"resources.{identity[0]}.{other}", f"it is the same thing as resources.{identity[0]}.{first}")
    for spec in resources:
        for one in spec.objections(machines, resources):
            path = place_of(spec) + (f".{option_name(one.field)}" if one.field else "")
            mistakes.add(path, one.text, hint=one.hint)


def check_volumes(
    volumes: Iterable[VolumeSpec], machines: Iterable[MachineSpec], path_of: Callable[[str], str], mistakes: Mistakes
) -> None:
    """A volume is attached to one machine, on the hypervisor where it is. `path_of` a machine's name."""
    machines, known = list(machines), {volume.name: volume for volume in volumes}
    _check_options(known.values(), mistakes)
    for machine in machines:
        for index, name in enumerate(machine.volumes):
            path = f"{path_of(machine.name)}.volumes[{index}]"
            volume = known.get(name)
            if volume is None and mistakes.below(f"resources.volumes.{name}"):
                continue
            if volume is None:
                text = f"there is no volume {name} in resources.volumes{nearest(name, known)}"
                mistakes.add(path, text, hint=f'resources.volumes.{name} = {{ storage = "…"; size = "10G"; }};')
            elif volume.kind is not machine.kind:
                text = f"{name} is a volume for a {volume.kind}, and the machine is a {machine.kind}"
                hint = f'resources.volumes.{name}.kind = "{machine.kind}" makes it one of its, unless it exists already'
                mistakes.add(path, text, hint=hint)
            elif volume.profile != machine.profile:
                text = f"{name} is on the hypervisor {volume.profile}, and the machine on {machine.profile}"
                mistakes.add(path, text)
            elif None not in (volume.node, machine.node) and volume.node != machine.node:
                mistakes.add(path, f"{name} is on the node {volume.node}, and the machine on {machine.node}")
    for name, owners in _twice((name, machine.name) for machine in machines for name in machine.volumes):
        first, *others = owners
        for other in others:
            mistakes.add(f"{path_of(other)}.volumes", f"{name} is attached to {first} already")


def _check_options(volumes: Iterable[VolumeSpec], mistakes: Mistakes) -> None:
    for volume in volumes:
        for field in OF_DISKS:
            if volume.is_container and getattr(volume, field) is not None:
                mistakes.add(f"resources.volumes.{volume.name}.{field}", MEANINGLESS)


def _twice(pairs: Iterable[tuple[T | None, str]]) -> Iterator[tuple[T, list[str]]]:
    """Each value that more than one has, and who."""
    owners: dict[T, list[str]] = defaultdict(list)
    for value, owner in pairs:
        if value is not None:
            owners[value].append(owner)
    yield from ((value, names) for value, names in owners.items() if len(names) > 1)
