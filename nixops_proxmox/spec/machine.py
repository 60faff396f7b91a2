"""The description's words as frozen models. Option names are the field names in camel case."""

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from nixops_proxmox.spec import values as v
from nixops_proxmox.spec.cloud_init import CloudInit
from nixops_proxmox.spec.container import ContainerSpec
from nixops_proxmox.spec.deploy import DeploySpec
from nixops_proxmox.spec.encryption import Encryption
from nixops_proxmox.spec.frozen import Frozen
from nixops_proxmox.spec.layouts import LayoutName, refuse_no_layout
from nixops_proxmox.spec.machine_kind import MachineKind
from nixops_proxmox.spec.macs import MacPoolSpec, MacSchemeSpec
from nixops_proxmox.spec.placed_file import PlacedFile
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.sent_key import SentKey
from nixops_proxmox.spec.volume import VolumeSpec


class Bus(StrEnum):
    SCSI = "scsi"
    VIRTIO = "virtio"
    SATA = "sata"


class Disk(Frozen):
    """A disk of the VM. `serial`: None lets the hypervisor's layer derive one, so that the guest can tell it apart."""

    slot: v.DiskSlot  # PVE's key: scsi0, virtio1, …
    storage: v.Storage
    size: Annotated[int, Field(ge=1 << 20, le=1 << 50)]  # bytes
    cache: Literal["none", "writethrough", "writeback", "unsafe", "directsync"] | None = None
    aio: Literal["native", "threads", "io_uring"] | None = None
    discard: bool | None = None
    ssd: bool | None = None
    iothread: bool | None = None
    serial: v.Serial | None = None
    backup: bool | None = None
    keep: bool = False  # reinstall never writes it
    grow: bool | None = None  # when `size` is raised, in the guest too; None: unless it is kept
    encrypt: bool = False  # LUKS2 on the whole disk, if the machine has `encryption`. The first disk has it anyway

    @property
    def grows(self) -> bool:
        return not self.keep if self.grow is None else self.grow


class IpSpec(Frozen):
    """One family on one NIC."""

    method: Literal["dhcp", "auto", "static", "none"]
    address: v.IpAddress | None = None
    prefix: Annotated[int, Field(ge=0, le=128)] | None = None
    gateway: v.IpAddress | None = None


class Nic(Frozen):
    """A network interface of the VM. `mac`: None lets one be minted. `mtu`: 1 takes the bridge's. `rate`: MB/s."""

    slot: v.NicSlot  # net0, net1, …
    model: Literal[
        "virtio", "e1000", "e1000e", "rtl8139", "vmxnet3", "e1000-82540em", "e1000-82544gc", "e1000-82545em",
        "i82551", "i82557b", "i82559er", "ne2k_isa", "ne2k_pci", "pcnet",
    ] = "virtio"  # fmt: skip
    bridge: v.BridgeIfAny = ""  # set in every network that is parsed, by `network` if not by itself
    network: v.DnsName | None = None  # of resources.networks, instead of bridge and tag
    tag: v.Vlan | None = None
    trunks: Annotated[tuple[v.Trunk, ...], v.Unique] = ()
    mac: v.Mac | None = None
    pool: v.DnsName | None = None  # of `resources.macPools`: where the MAC and the addresses come from
    mac_scheme: v.DnsName | None = None  # of `resources.macSchemes`: what derives the MAC
    mac_role: v.Group | None = None
    mac_number: Annotated[int, Field(ge=0, le=(1 << 40) - 1)] | None = None
    mtu: Annotated[int, Field(ge=1, le=65520)] | None = None
    queues: Annotated[int, Field(ge=0, le=64)] | None = None
    rate: Annotated[float, Field(ge=0)] | None = None
    firewall: bool | None = None
    ipv4: IpSpec = IpSpec(method="dhcp")
    ipv6: IpSpec = IpSpec(method="auto")
    dns: Annotated[tuple[v.IpAddress, ...], v.Unique] = ()
    search: Annotated[tuple[v.DnsName, ...], v.Unique] = ()

    @property
    def addresses(self) -> list[IPv4Address | IPv6Address]:
        """Those that the description says."""
        return [ip.address for ip in (self.ipv4, self.ipv6) if ip.address is not None]

    @property
    def is_advertised(self) -> bool:
        """Routers of its network tell it IPv6 addresses or the way out."""
        ip = self.ipv6
        return ip.method in ("auto", "dhcp") or (ip.method == "static" and ip.gateway is None)


class Cpu(Frozen):
    """`limit`: of CPU time, in CPUs. `units`: the weight against other guests."""

    type: v.CpuType | None = None
    sockets: Annotated[int, Field(ge=1, le=256)] | None = None
    cores: Annotated[int, Field(ge=1, le=512)] | None = None
    limit: Annotated[float, Field(ge=0, le=128)] | None = None
    units: Annotated[int, Field(ge=1, le=262144)] | None = None
    numa: bool | None = None


class Efi(Frozen):
    storage: v.Storage
    type: Literal["2m", "4m"] = "4m"
    secure_boot_keys: bool = False


class Tpm(Frozen):
    storage: v.Storage
    version: Literal["v1.2", "v2.0"] = "v2.0"


class InstallSource(StrEnum):
    ISO = "iso"
    IMAGE = "image"
    TEMPLATE = "template"
    BACKUP = "backup"


class InstallMethod(StrEnum):
    CLOSURE = "closure"
    CONFIGURATION = "configuration"


class IdentityBy(StrEnum):
    """How a copied system learns who it is."""

    AGENT = "agent"
    CLOUD_INIT = "cloud-init"


class InstallSpec(Frozen):
    source: InstallSource = Field(default=InstallSource.ISO, validation_alias="from", serialization_alias="from")
    iso: v.VolumeId | None = None  # a volume ID
    image: v.Script | None = None  # a volume ID, a file here, or a file of the node
    image_storage: v.Storage | None = None  # where a file is put; None: one that takes images
    template: v.Script | None = None  # a VMID or a name
    backup: v.VolumeId | None = None  # an archive of vzdump, or one on a Proxmox Backup Server
    described: bool = False  # the template is one of resources.templates
    full_clone: bool = False
    identity: IdentityBy = IdentityBy.AGENT
    identity_storage: v.Storage | None = None  # where the CD for cloud-init goes; None: one that takes ISO files
    cloud_init: CloudInit | None = None  # PVE's own drive
    layout: Annotated[LayoutName, BeforeValidator(refuse_no_layout)] | None = (
        None  # of the first disk; None: `partition`, or the default layout
    )
    partition: v.Script | None = None  # a script, run in the installer; must leave the target mounted on /mnt
    method: InstallMethod = InstallMethod.CLOSURE
    configuration: v.Script | None = None  # for method=configuration: the configuration.nix to install with
    # How many reinstalls the description has asked for. Users know it as `generation`, but that is a word of Nix's.
    asked: int = Field(default=0, ge=0, le=1 << 31, validation_alias="generation", serialization_alias="generation")


class EndpointPolicy(Frozen):
    families: Annotated[tuple[Literal["ipv4", "ipv6"], ...], v.OneOrMore] = ("ipv6", "ipv4")
    reaches: Annotated[tuple[Literal["private", "public"], ...], v.OneOrMore] = ("private", "public")
    allow: tuple[v.Cidr, ...] = ()
    deny: tuple[v.Cidr, ...] = ()
    deny_interfaces: tuple[v.Pattern, ...] = ()  # shell patterns
    address: v.Host | None = None  # only this one
    jump: v.Jump | None = None  # OpenSSH ProxyJump syntax
    through: v.DnsName | None = None  # another machine of the network


HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"  # where systems have it, unless told otherwise


class Ssh(Frozen):
    """`host_key`: where the machine's system has its host key. The public one is beside it (`.pub`)."""

    user: v.UnixUser = "root"
    port: v.Port = 22
    options: Mapping[str, str] = {}
    identity_file: v.KeyFile | None = None
    authorized_keys: tuple[v.PublicKey, ...] = ()
    host_key: v.PathInSystem = HOST_KEY


class Placement(Frozen):
    """Where a new machine may go. `spread`, `together`: names of groups. `strict`: what they say is a condition."""

    nodes: Annotated[tuple[v.NodeName, ...], v.Unique] = ()
    spread: v.Group | None = None
    together: v.Group | None = None
    strict: bool = False


class MachineSpec(Frozen):
    """One machine. The field names are the option names below `deployment.proxmox`, in snake case."""

    name: v.DnsName
    kind: MachineKind = MachineKind.VM
    profile: v.ProfileName = "default"  # the hypervisor's profile
    server_url: v.ServerUrl | None = None  # these three: what the profile must agree with
    username: v.UserName | None = None
    token_name: v.TokenName | None = None
    node: v.NodeName | None = None
    placement: Placement = Placement()
    vmid: v.Vmid | None = None
    disks: tuple[Disk, ...] = ()
    network: tuple[Nic, ...] = ()
    volumes: Annotated[tuple[v.DnsName, ...], v.Unique] = ()  # names in `resources.volumes`
    cpu: Cpu = Cpu()
    memory: Annotated[int, Field(ge=16, le=1 << 24)] | None = None  # MiB
    balloon: Annotated[int, Field(ge=0, le=1 << 24)] | None = None  # MiB; 0: no balloon device
    bios: Literal["seabios", "ovmf"] | None = None
    efi: Efi | None = None
    tpm: Tpm | None = None
    machine: v.MachineType | None = None
    arch: Literal["x86_64", "aarch64"] | None = None  # PVE lets only root@pam say it
    scsi_controller: (
        Literal["lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"] | None
    ) = None
    display: v.Display | None = None
    serial_port: bool = True
    agent: bool = True
    tags: Annotated[tuple[v.Tag, ...], v.Unique] = ()
    pool: v.Pool | None = None
    onboot: bool | None = None
    startup: v.Startup | None = None
    protection: bool | None = None
    hotplug: v.Hotplug | None = None
    description: v.VmNotes | None = None
    expert_args: v.Script | None = None  # QEMU's own arguments; PVE lets only root@pam give them
    extra: Mapping[str, str | int | bool] = {}
    ignore: Annotated[tuple[v.ConfigKey, ...], v.Unique] = ()  # PVE's keys that are left alone once the VM exists
    install: InstallSpec = InstallSpec()
    encryption: Encryption | None = None
    container: ContainerSpec | None = None
    endpoint: EndpointPolicy = EndpointPolicy()
    ssh: Ssh = Ssh()
    deploy: DeploySpec = DeploySpec()

    @property
    def is_container(self) -> bool:
        return self.kind is MachineKind.CONTAINER

    @property
    def name_servers(self) -> list[str]:
        """Those of all NICs, each once."""
        return list(dict.fromkeys(str(server) for nic in self.network for server in nic.dns))

    @property
    def search_domains(self) -> list[str]:
        return list(dict.fromkeys(domain for nic in self.network for domain in nic.search))


class NetworkSpec(Frozen):
    """`warnings`: old option names that were used, and what of them has no effect any more. `foreign`: machines of
    other backends (`deployment.targetEnv`), which are none of ours."""

    name: str
    description: str = ""
    machines: tuple[MachineSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    resources: tuple[ResourceSpec, ...] = ()
    mac_pools: tuple[MacPoolSpec, ...] = ()
    mac_schemes: tuple[MacSchemeSpec, ...] = ()
    foreign: tuple[str, ...] = ()
    sent_keys: Mapping[str, tuple[SentKey, ...]] = {}  # `deployment.keys`, by machine
    placed_files: Mapping[str, tuple[PlacedFile, ...]] = {}  # `deployment.files`, by machine
    warnings: tuple[str, ...] = ()
