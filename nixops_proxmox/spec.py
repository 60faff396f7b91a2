"""What is wanted: a network and its machines, parsed once, frozen. None means "leave alone"."""

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Bus(StrEnum):
    SCSI = "scsi"
    VIRTIO = "virtio"
    SATA = "sata"


class Disk(_Frozen):
    slot: str  # PVE's key: scsi0, virtio1, …
    storage: str
    size: int  # bytes
    cache: str | None = None
    aio: str | None = None
    discard: bool | None = None
    ssd: bool | None = None
    iothread: bool | None = None
    serial: str | None = None
    backup: bool | None = None
    keep: bool = False  # reinstall never writes it


class Ip(_Frozen):
    """One family on one NIC."""

    method: Literal["dhcp", "auto", "static", "none"]
    address: IPv4Address | IPv6Address | None = None
    prefix: int | None = None
    gateway: IPv4Address | IPv6Address | None = None


class Nic(_Frozen):
    slot: str  # net0, net1, …
    model: str = "virtio"
    bridge: str
    tag: int | None = None
    trunks: tuple[str, ...] = ()
    mac: str | None = None
    mtu: int | None = None
    queues: int | None = None
    rate: float | None = None
    firewall: bool | None = None
    ipv4: Ip = Ip(method="dhcp")
    ipv6: Ip = Ip(method="auto")


class Cpu(_Frozen):
    type: str | None = None
    sockets: int | None = None
    cores: int | None = None
    limit: float | None = None
    units: int | None = None
    numa: bool | None = None


class Efi(_Frozen):
    storage: str
    type: Literal["2m", "4m"] = "4m"
    secure_boot_keys: bool = False


class Tpm(_Frozen):
    storage: str
    version: Literal["v1.2", "v2.0"] = "v2.0"


class Source(StrEnum):
    ISO = "iso"
    IMAGE = "image"
    TEMPLATE = "template"


class Method(StrEnum):
    CLOSURE = "closure"
    CONFIGURATION = "configuration"


class Install(_Frozen):
    source: Source = Field(Source.ISO, alias="from")
    iso: str | None = None  # a volume ID
    image: str | None = None
    template: str | None = None
    full_clone: bool = False
    partition: str | None = None  # a script, run in the installer; must leave the target mounted on /mnt
    method: Method = Method.CLOSURE
    configuration: str | None = None  # for method=configuration: the configuration.nix to install with
    generation: int = 0  # raise it to ask for a reinstall


class EndpointPolicy(_Frozen):
    families: tuple[Literal["ipv4", "ipv6"], ...] = ("ipv6", "ipv4")
    reaches: tuple[Literal["private", "public"], ...] = ("private", "public")
    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    deny: tuple[IPv4Network | IPv6Network, ...] = ()
    deny_interfaces: tuple[str, ...] = ()  # shell patterns
    address: str | None = None  # only this one
    jump: str | None = None  # OpenSSH ProxyJump syntax


class Ssh(_Frozen):
    user: str = "root"
    port: int = 22
    options: Mapping[str, str] = {}
    identity_file: str | None = None
    authorized_keys: tuple[str, ...] = ()


class MachineSpec(_Frozen):
    """One machine; the field names are the option names below `deployment.proxmox`, in snake case."""

    name: str
    profile: str = "default"  # the hypervisor's profile
    node: str | None = None
    vmid: int | None = None
    disks: tuple[Disk, ...] = ()
    network: tuple[Nic, ...] = ()
    cpu: Cpu = Cpu()
    memory: int | None = None  # MiB
    balloon: int | None = None  # MiB
    bios: Literal["seabios", "ovmf"] | None = None
    efi: Efi | None = None
    tpm: Tpm | None = None
    machine: str | None = None
    scsi_controller: str | None = None
    display: str | None = None
    serial_port: bool = True
    agent: bool = True
    tags: tuple[str, ...] = ()
    pool: str | None = None
    onboot: bool | None = None
    startup: str | None = None
    protection: bool | None = None
    hotplug: str | None = None
    description: str | None = None
    extra: Mapping[str, str | int | bool] = {}
    install: Install = Install()
    endpoint: EndpointPolicy = EndpointPolicy()
    ssh: Ssh = Ssh()


class NetworkSpec(_Frozen):
    name: str
    description: str = ""
    machines: tuple[MachineSpec, ...] = ()


def parse_network(name: str, data: Mapping[str, Any]) -> NetworkSpec:
    """Parse what Nix evaluated: {"machines": {name: {"deployment": {"proxmox": {…}}}}, …}."""
    raise NotImplementedError
