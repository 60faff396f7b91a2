"""The one interface between the lab's cluster state and what runs a VM: simulated guests or QEMU processes.

The cluster (`lab/cluster.py`) owns configuration, locks, tasks, permissions and storage bookkeeping; a `Driver` owns
volumes' bytes and running machines. A `Driver` never sees HTTP, users or PVE's texts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Volume:
    """A volume's bytes. `path` is where the storage would keep it; the driver decides what the file is."""

    volid: str  # local-lvm:vm-101-disk-0
    path: Path
    size: int  # bytes
    format: str  # raw, qcow2


@dataclass(frozen=True)
class DiskSlot:
    key: str  # scsi0, efidisk0, tpmstate0, ide2, …
    volume: Volume | None  # None: an empty tray
    cdrom: bool = False
    options: Mapping[str, str] = ()  # type: ignore[assignment]  # the property string's other keys: serial, discard, ssd, cache, …


@dataclass(frozen=True)
class NicSlot:
    key: str  # net0
    model: str
    mac: str  # upper case, as PVE prints it
    bridge: str
    tag: int = 0
    link_down: bool = False
    options: Mapping[str, str] = ()  # type: ignore[assignment]


@dataclass(frozen=True)
class Hardware:
    """A VM's active configuration, parsed once by the cluster."""

    vmid: int
    node: str
    name: str
    uuid: str  # smbios1
    memory: int  # MiB
    cores: int
    sockets: int
    cpu: str
    bios: str  # seabios, ovmf
    machine: str  # pc, q35, …
    agent: bool
    boot: tuple[str, ...]  # keys in boot order
    disks: tuple[DiskSlot, ...]
    nics: tuple[NicSlot, ...]
    names_drives: bool = False  # a SCSI disk tells its slot for an identity, and its serial beside: PVE 9
    serial: bool = False
    vga: str = "std"
    smbios: Mapping[str, str] = ()  # type: ignore[assignment]
    directory: Path = Path()  # the VM's own folder: sockets, logs
    container: bool = False  # LXC: its first disk is the root, the others are mounted where their option `mp` says


class Ended(StrEnum):
    """Why a running machine is no longer running (the driver tells the cluster by the callback)."""

    GUEST_SHUTDOWN = "guest-shutdown"  # powered off from inside
    HOST = "host"  # power_off() or shut_down() was called
    CRASHED = "crashed"  # the process died, or was killed


class AgentTimeout(Exception):
    """No answer from the guest agent within the time given, or no agent listens on the channel."""


class AgentError(Exception):
    """qemu-ga's own error object."""

    def __init__(self, error_class: str, desc: str) -> None:
        super().__init__(desc)
        self.error_class = error_class
        self.desc = desc


class StartFailed(Exception):
    """The machine could not be started; `lines` is what PVE would show in the task log."""

    def __init__(self, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.lines = lines


class Running(Protocol):
    """A machine with its power on."""

    @property
    def pid(self) -> int: ...

    @property
    def started(self) -> float:
        """Epoch seconds of the power-on (uptime counts from here; a guest reboot does not change it)."""
        ...

    async def agent(self, command: str, arguments: Mapping[str, Any], timeout: float) -> Any:
        """One QGA command ("guest-ping", "guest-exec", …) in qemu-ga's own protocol: base64 data and all.
        Raises AgentTimeout, AgentError. Serial: the caller holds the VM's agent lock."""
        ...

    async def shut_down(self, timeout: float) -> bool:
        """Agent `guest-shutdown` if it answers, else the ACPI button; True when off within `timeout`."""
        ...

    async def power_off(self) -> None:
        """Pull the plug; returns when it is off."""
        ...

    async def reset(self) -> None: ...
    async def pause(self) -> None: ...
    async def resume(self) -> None: ...

    async def change(self, old: Hardware, new: Hardware) -> None:
        """Hotplug: what differs between the two (disks, NICs, media); raises StartFailed with PVE's reason."""
        ...

    async def status(self) -> Mapping[str, Any]:
        """qmpstatus ("running", "paused", "prelaunch", …) and what is known of mem, cpu, netin, …"""
        ...

    async def interfaces(self) -> Sequence[Mapping[str, Any]]:
        """What the host sees in the network namespace of a container, as `guest-network-get-interfaces` has it."""
        ...

    async def save_state(self, path: Path) -> None: ...  # RAM, for a snapshot of a running VM


class Driver(Protocol):
    """All machines of one lab."""

    async def open(self) -> None:
        """Get ready (network, images); called once before anything else."""
        ...

    async def close(self) -> None:
        """End everything this driver started: processes, interfaces, mounts, namespaces."""
        ...

    async def power_on(
        self, hardware: Hardware, ended: Callable[[Ended], None], *, state: Path | None = None
    ) -> Running:
        """Start the machine; `ended` is called once, from the event loop, when it stops running for any reason."""
        ...

    # Volumes. Paths are given by the cluster; every call is complete when it returns.
    async def allocate(self, volume: Volume) -> None: ...
    async def free(self, volume: Volume) -> None: ...
    async def resize(self, volume: Volume, size: int) -> None: ...
    async def copy(self, source: Volume, target: Volume) -> None:
        """A full copy (clone, move, import); formats may differ."""
        ...

    async def mirror(self, source: Volume, target: Volume) -> None:
        """A full copy that a running machine goes on with: what it writes from now on is in the target."""
        ...

    async def unpack(self, archive: Path, volume: Volume, files: Mapping[str, tuple[str, int]]) -> None:
        """A container's root from a tar archive, and files (text and mode, by path) beside. StartFailed where this
        driver has no containers."""
        ...

    async def link(self, base: Volume, target: Volume) -> None:
        """A linked clone of a template's volume."""
        ...

    async def burn(self, volume: Volume, label: str, files: Mapping[str, str]) -> None:
        """A CD with these files is on the volume, instead of what was there. A running guest sees it after its next
        boot. Guests that read no CD need none."""
        ...

    async def snapshot(self, volume: Volume, name: str) -> None: ...
    async def rollback(self, volume: Volume, name: str) -> None: ...
    async def drop_snapshot(self, volume: Volume, name: str) -> None: ...

    def screenshot(self, vmid: int) -> Path | None:
        """A PNG of the display, where there is one."""
        ...
