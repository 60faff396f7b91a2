"""All QEMU machines of one lab: their volumes, their network, their processes, and the end of all of them."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from nixops_proxmox.lab.bridges import Bridges
from nixops_proxmox.lab.image import ImagePaths, build_image
from nixops_proxmox.lab.machines.base import Ended, Hardware, StartFailed, Volume
from nixops_proxmox.lab.machines.qemu import argv, volumes
from nixops_proxmox.lab.machines.qemu.accel import Accel, find_accel
from nixops_proxmox.lab.machines.qemu.machine import Host, QemuMachine, folder_of
from nixops_proxmox.lab.machines.qemu.monitor import ask_at_once
from nixops_proxmox.lab.network import LabNetwork, NamespaceError, Privilege
from nixops_proxmox.lab.owned import sweep

MEMORY_CAP = 1024


def check_tun(privilege: Privilege, device: Path = Path("/dev/net/tun")) -> None:
    """Root of a user namespace may make taps only if anybody may. Raises NamespaceError."""
    if not device.exists():
        raise NamespaceError(f"there is no {device}: the kernel has no tap devices (modprobe tun)")
    if privilege is Privilege.USER and not os.access(device, os.R_OK | os.W_OK):
        raise NamespaceError(
            f"{device} may not be used: chmod 0666 {device}, as most systems have it, or run the lab as root"
        )


class QemuDriver:
    """See `base.Driver`.

    `directory`: sockets, logs and pid files. `image_cache`: where the installer image is, or will be built (the first
    `open` takes some seconds then). `network`: the lab's, if it already has one; else the driver makes one of its own.
    `accel`: None finds out by booting. `memory_cap`: MiB that a machine gets at most, whatever the API shows.
    """

    def __init__(
        self,
        directory: Path,
        image_cache: Path,
        *,
        network: LabNetwork | None = None,
        accel: Accel | None = None,
        memory_cap: int = MEMORY_CAP,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.directory = directory
        self._image_cache = image_cache
        self._given = network
        self._network = network
        self._accel = accel
        self._memory_cap = memory_cap
        self._progress = progress
        self._image: ImagePaths | None = None
        self._host: Host | None = None
        self._machines: dict[int, QemuMachine] = {}

    async def open(self) -> None:
        """Image, accelerator, namespace. Raises ImageFailed, NamespaceError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in sweep(self.directory):
            self._progress(f"ended what an earlier lab had left running ({name})")
        self._image = await asyncio.to_thread(build_image, self._image_cache, self._progress)
        if self._accel is None:
            self._accel = await asyncio.to_thread(find_accel, self._image.kernel, self._image.initrd)
        self._progress(f"guests run on {self._accel.name}: {self._accel.reason}")
        if self._network is None:
            self._network = await LabNetwork.start()
        check_tun(self._network.privilege)
        bridges = Bridges(self._network, self.directory / "network")
        enter = self._network.enter_argv
        self._host = Host(self._accel, bridges, enter, self._memory_cap)

    async def close(self) -> None:
        """Power off all machines, end DHCP, and the network if it is ours."""
        machines, self._machines = list(self._machines.values()), {}
        await asyncio.gather(*(machine.power_off() for machine in machines))
        if self._host is not None:
            await self._host.bridges.close()
            self._host = None
        if self._network is not None and self._given is None:
            await self._network.close()
            self._network = None
        sweep(self.directory)

    @property
    def image(self) -> ImagePaths:
        """The installer image: its ISO belongs into a storage. After `open`."""
        if self._image is None:
            raise RuntimeError("the driver is not open")
        return self._image

    @property
    def network(self) -> LabNetwork:
        if self._network is None:
            raise RuntimeError("the driver is not open")
        return self._network

    @property
    def host(self) -> Host:
        if self._host is None:
            raise RuntimeError("the driver is not open")
        return self._host

    @property
    def bridges(self) -> Bridges:
        return self.host.bridges

    def accel(self) -> Accel:
        """How guests run, and why. After `open`."""
        return self.host.accel

    # Machines.

    async def power_on(
        self, hardware: Hardware, ended: Callable[[Ended], None], *, state: Path | None = None
    ) -> QemuMachine:
        if hardware.vmid in self._machines:
            raise StartFailed(f"VM {hardware.vmid} already running")

        def forget(why: Ended) -> None:
            self._machines.pop(hardware.vmid, None)
            ended(why)

        folder = folder_of(hardware, self.directory / "machines")
        machine = await QemuMachine.start(hardware, folder, self.host, forget, state)
        self._machines[hardware.vmid] = machine
        return machine

    def find_machine(self, vmid: int) -> QemuMachine | None:
        return self._machines.get(vmid)

    def screenshot(self, vmid: int) -> Path | None:
        """A PNG of the display, as it is now. The monitor's second line is for this: a caller need not await."""
        machine = self._machines.get(vmid)
        if machine is None:
            return None
        path = machine.folder / "screen.png"
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError, ValueError):
            ask_at_once(machine.folder / argv.MONITOR_TOO, "screendump", {"filename": path.name, "format": "png"})
        return path if path.exists() else None

    def console(self, vmid: int) -> Path | None:
        """The serial port's socket (one client at a time); the log beside it has all that was ever said."""
        machine = self._machines.get(vmid)
        return machine.folder / argv.SERIAL if machine else None

    # Volumes.

    async def allocate(self, volume: Volume) -> None:
        await volumes.create(volume)

    async def free(self, volume: Volume) -> None:
        await volumes.remove(volume)

    async def resize(self, volume: Volume, size: int) -> None:
        user = self._user_of(volume)
        if user is None:
            await volumes.run_image_tool(volumes.resize_argv(volume.path, size))
        else:
            machine, device = user
            await machine.monitor.execute("block_resize", {"device": device, "size": size})

    async def copy(self, source: Volume, target: Volume) -> None:
        await volumes.copy(source, target)

    async def mirror(self, source: Volume, target: Volume) -> None:
        """By the QEMU that has the disk open, so that it goes on with the target."""
        user = self._user_of(source)
        if user is None:
            await self.copy(source, target)
        else:
            machine, device = user
            await machine.mirror(device, source, target)

    async def unpack(self, archive: Path, volume: Volume, files: Mapping[str, tuple[str, int]]) -> None:
        del archive, volume, files
        raise StartFailed("this lab runs VMs; start one with simulated guests for containers")

    async def link(self, base: Volume, target: Volume) -> None:
        await volumes.link(base, target)

    async def burn(self, volume: Volume, label: str, files: Mapping[str, str]) -> None:
        await volumes.burn(volume, label, files)

    async def snapshot(self, volume: Volume, name: str) -> None:
        """Inside the qcow2; of a running machine's disk through its QEMU."""
        await self._snapshot(volume, name, "-c", "blockdev-snapshot-internal-sync")

    async def rollback(self, volume: Volume, name: str) -> None:
        await volumes.run_image_tool(volumes.snapshot_argv(volume.path, "-a", name))

    async def drop_snapshot(self, volume: Volume, name: str) -> None:
        await self._snapshot(volume, name, "-d", "blockdev-snapshot-delete-internal-sync")

    async def _snapshot(self, volume: Volume, name: str, option: str, command: str) -> None:
        user = self._user_of(volume)
        if user is None:
            await volumes.run_image_tool(volumes.snapshot_argv(volume.path, option, name))
        else:
            machine, device = user
            await machine.monitor.execute(command, {"device": device, "name": name})

    def _user_of(self, volume: Volume) -> tuple[QemuMachine, str] | None:
        """The running machine that has the volume, and QEMU's name of the drive."""
        for machine in self._machines.values():
            for disk in machine.hardware.disks:
                if disk.volume and disk.volume.path == volume.path and disk.key != "tpmstate0":
                    return machine, f"drive-{disk.key}"
        return None
