"""Descriptions and VMs that tests start from."""

from collections.abc import Mapping
from typing import Any

from nixops_proxmox.model import Facts, Machine, Phase, Power, Vm
from nixops_proxmox.pve.vm.diff import ConfigUpdate
from nixops_proxmox.pve.vm.identity import identity_of
from nixops_proxmox.pve.vm.requests import create_params
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.spec import Cpu, Disk, Efi, InstallSpec, MachineSpec, Nic, Tpm

UUID = "1f0c2d3e-4a5b-4c6d-8e7f-001122334455"
GIB = 1 << 30
ISO = "local:iso/nixos.iso"


def params_of(update: ConfigUpdate) -> dict[str, Value]:
    """All that is sent, whichever call it goes by."""
    return {key: value for call in update.calls for key, value in call.items()}


def spec(**changes: Any) -> MachineSpec:
    values: dict[str, Any] = {
        "name": "web",
        "disks": (Disk(slot="scsi0", storage="local-lvm", size=8 * GIB),),
        "network": (Nic(slot="net0", bridge="vmbr0"),),
        "memory": 2048,
        "install": InstallSpec.model_validate({"from": "iso", "iso": ISO}),
    }
    return MachineSpec.model_validate(values | changes)


def full_spec(**changes: Any) -> MachineSpec:
    """Everything said."""
    values: dict[str, Any] = {
        "disks": (
            Disk(slot="scsi0", storage="local-lvm", size=8 * GIB, discard=True, ssd=True, iothread=True, backup=True),
            Disk(slot="virtio1", storage="shared", size=4831838208, cache="writeback", aio="threads", serial="DATA-1"),
        ),
        "network": (
            Nic(slot="net0", bridge="vmbr0", tag=20, firewall=True, queues=2, rate=12.5),
            Nic(slot="net1", bridge="vmbr1", model="e1000", trunks=("2", "5-7"), mac="02:00:00:00:00:01"),
        ),
        "cpu": Cpu(type="host", sockets=1, cores=2, limit=1.5, units=200, numa=True),
        "memory": 4096,
        "balloon": 1024,
        "bios": "ovmf",
        "efi": Efi(storage="local-lvm"),
        "tpm": Tpm(storage="local-lvm"),
        "machine": "q35",
        "display": "serial0",
        "tags": ("Web", "prod"),
        "onboot": True,
        "startup": "order=2,up=10",
        "protection": False,
        "hotplug": "network,disk",
        "description": "the web server",
    }
    return spec(**(values | changes))


def machine(**facts: Any) -> Machine:
    values: dict[str, Any] = {
        "uuid": UUID,
        "vmid": 101,
        "node": "pve1",
        "macs": ("bc:24:11:00:00:01", "02:00:00:00:00:01"),
    }
    return Machine("demo", "web", Phase.RESERVED, Facts(**(values | facts)))


def vm_of(described: MachineSpec, config: Mapping[str, str | None] | None = None, power: Power = Power.RUNNING) -> Vm:
    """What PVE would have after creating it: volumes, sizes, its own order. `config`: keys changed, or gone."""
    config = config or {}
    made = {key: _printed(value) for key, value in create_params(described, identity_of(machine())).items()}
    made.pop("vmid")
    made.pop("pool", None)
    number = 0
    for key in sorted(made):
        volume, _, rest = made[key].partition(",")
        storage, colon, size = volume.partition(":")
        if colon and size.replace(".", "").isdigit():
            options = sorted(filter(None, rest.split(",")))
            shown = f"{round(float(size) * 1024)}M" if key[:3] not in ("efi", "tpm") else "4M"
            made[key] = ",".join((f"{storage}:vm-101-disk-{number}", *options, f"size={shown}"))
            number += 1
    made |= {key: value for key, value in config.items() if value is not None}
    made = {key: value for key, value in made.items() if config.get(key, "") is not None}
    return Vm(101, "pve1", UUID, power, made)


def _printed(value: object) -> str:
    return ("1" if value else "0") if isinstance(value, bool) else str(value)
