"""One VM of the cluster: its configuration, what is pending, its snapshots, and the machine while it runs."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from nixops_proxmox.lab.config import agent_enabled, digest_of
from nixops_proxmox.lab.ha import HaResource
from nixops_proxmox.lab.machines.base import Running
from nixops_proxmox.lab.refusals import die


@dataclass
class Snapshot:
    config: dict[str, str]  # with snaptime, parent, vmstate …
    description: str = ""
    state: Path | None = None  # RAM


@dataclass
class Vm:
    """`kind`: PVE's word for it. Containers have a class of their own, and the same numbers."""

    kind: ClassVar[str] = "qemu"
    word: ClassVar[str] = "VM"

    vmid: int
    node: str
    directory: Path
    created: float
    config: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    deleted: dict[str, bool] = field(default_factory=dict)  # pending deletions; True: with force
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    running: Running | None = None
    started: dict[str, str] = field(default_factory=dict)  # the configuration the running machine was started with
    told: dict[str, str] = field(default_factory=dict)  # what the cloud-init drive had when it was written last
    paused: bool = False
    suspended: bool = False  # the guest said so itself (S3)
    flock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    agent_busy: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    agent_silent: int = 0  # calls that get no answer (a fault)
    agent_frozen: bool = False  # its file systems are frozen, and most of its commands with them (a fault)
    ha: HaResource | None = None

    @property
    def name(self) -> str:
        return self.config.get("name", f"VM {self.vmid}")

    @property
    def lock_file(self) -> str:
        return f"/var/lock/qemu-server/lock-{self.vmid}.conf"

    @property
    def lock(self) -> str:
        return self.config.get("lock", "")

    @property
    def sid(self) -> str:
        return f"vm:{self.vmid}"

    @property
    def is_managed(self) -> bool:
        """By HA: calls of power and migration become requests."""
        return self.ha is not None and self.ha.managed

    @property
    def is_template(self) -> bool:
        return self.config.get("template") == "1"

    @property
    def status(self) -> str:
        return "running" if self.running else "stopped"

    @property
    def qmpstatus(self) -> str:
        if not self.running:
            return "stopped"
        return "suspended" if self.suspended else "paused" if self.paused else "running"

    @property
    def digest(self) -> str:
        pending = {**self.pending, **{f"delete {key}": str(force) for key, force in self.deleted.items()}}
        snapshots = {
            name: {**snapshot.config, "description": snapshot.description} for name, snapshot in self.snapshots.items()
        }
        return digest_of({"": self.config, "PENDING": pending, **snapshots})

    @property
    def has_agent_device(self) -> bool:
        """The channel appears with a start, not with the option."""
        return agent_enabled(self.started)

    def check_lock(self, *but: str) -> None:
        if self.lock and self.lock not in but:
            die(f"VM is locked ({self.lock})")

    def merged(self) -> dict[str, str]:
        """What GET config shows: pending values over active ones."""
        return {key: value for key, value in {**self.config, **self.pending}.items() if key not in self.deleted}

    def volids(self) -> list[str]:
        """Every volume that the configuration or a snapshot names."""
        from nixops_proxmox.lab.config import UNUSED, is_cdrom, is_disk, parse_disk, volume_of

        found: dict[str, None] = {}
        for config in (self.config, self.pending, *(snapshot.config for snapshot in self.snapshots.values())):
            for key, value in config.items():
                mine = UNUSED.match(key) or (
                    is_disk(key) and (not is_cdrom(parse_disk(key, value)) or "cloudinit" in value)
                )
                if mine and (volid := volume_of(value)):
                    found[volid] = None
        return list(found)
