"""What is wanted: a network and its machines, parsed once, frozen. None means "leave alone"."""

from nixops_proxmox.spec.encryption import Encryption, Sink, Tang, Unlocking
from nixops_proxmox.spec.machine import (
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
from nixops_proxmox.spec.macs import MacPoolSpec, MacSchemeSpec
from nixops_proxmox.spec.parse import parse_machine, parse_network, parse_part, parse_volume
from nixops_proxmox.spec.volume import VolumeSpec

__all__ = [
    "Bus",
    "Cpu",
    "Disk",
    "Efi",
    "Encryption",
    "EndpointPolicy",
    "IdentityBy",
    "InstallMethod",
    "InstallSource",
    "InstallSpec",
    "IpSpec",
    "MacPoolSpec",
    "MacSchemeSpec",
    "MachineSpec",
    "NetworkSpec",
    "Nic",
    "Placement",
    "Sink",
    "Ssh",
    "Tang",
    "Tpm",
    "Unlocking",
    "VolumeSpec",
    "parse_machine",
    "parse_network",
    "parse_part",
    "parse_volume",
]
