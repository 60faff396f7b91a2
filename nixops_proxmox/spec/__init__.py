"""What is wanted: a network and its machines, parsed once, frozen. None means "leave alone"."""

from nixops_proxmox.spec.container import ContainerSpec, MountSpec, RootSpec
from nixops_proxmox.spec.deploy import DeploySpec, HealthSpec, HookSpec, HttpCheck, Strategy
from nixops_proxmox.spec.encryption import Encryption, Sink, Tang, Unlocking
from nixops_proxmox.spec.machine import (
    HOST_KEY,
    Bus,
    Cpu,
    Disk,
    Efi,
    EndpointPolicy,
    IdentityBy,
    InstallMethod,
    InstallSource,
    InstallSpec,
    IpSpec,
    MachineSpec,
    NetworkSpec,
    Nic,
    Placement,
    Ssh,
    Tpm,
)
from nixops_proxmox.spec.machine_kind import MachineKind
from nixops_proxmox.spec.macs import MacPoolSpec, MacSchemeSpec
from nixops_proxmox.spec.parse import parse_machine, parse_network, parse_part, parse_secrets, parse_volume
from nixops_proxmox.spec.volume import VolumeSpec

__all__ = [
    "HOST_KEY",
    "Bus",
    "ContainerSpec",
    "Cpu",
    "DeploySpec",
    "Disk",
    "Efi",
    "Encryption",
    "EndpointPolicy",
    "HealthSpec",
    "HookSpec",
    "HttpCheck",
    "IdentityBy",
    "InstallMethod",
    "InstallSource",
    "InstallSpec",
    "IpSpec",
    "MacPoolSpec",
    "MacSchemeSpec",
    "MachineKind",
    "MachineSpec",
    "MountSpec",
    "NetworkSpec",
    "Nic",
    "Placement",
    "RootSpec",
    "Sink",
    "Ssh",
    "Strategy",
    "Tang",
    "Tpm",
    "Unlocking",
    "VolumeSpec",
    "parse_machine",
    "parse_network",
    "parse_part",
    "parse_secrets",
    "parse_volume",
]
