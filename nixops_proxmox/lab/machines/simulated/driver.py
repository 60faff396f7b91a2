"""All simulated machines of one lab: satisfies `Driver`."""

import asyncio
import itertools
import logging
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.machines.base import Ended, Hardware, Running, StartFailed, Volume
from nixops_proxmox.lab.machines.simulated import volumes
from nixops_proxmox.lab.machines.simulated.addresses import Leases, Nic
from nixops_proxmox.lab.machines.simulated.body import GuestBody
from nixops_proxmox.lab.machines.simulated.front import Front, LoopbackFront, loopback_address, make_stranger
from nixops_proxmox.lab.machines.simulated.machine import SimulatedMachine
from nixops_proxmox.lab.machines.simulated.options import Body, Options
from nixops_proxmox.lab.machines.simulated.sandbox import Boot, Sandbox, nix_binds
from nixops_proxmox.lab.machines.simulated.scripted import ScriptedGuest
from nixops_proxmox.lab.machines.simulated.sshd import Connect
from nixops_proxmox.lab.network import LabNetwork

logger = logging.getLogger(__name__)


class SimulatedDriver:
    """`directory` is the driver's own; `sleep` is the lab's clock. `network`: the lab's, if it already has one."""

    def __init__(
        self,
        directory: Path,
        options: Options | None = None,
        *,
        network: LabNetwork | None = None,
        shelf: Path | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        beside: "SimulatedDriver | None" = None,
        numbers: Mapping[str, int] | None = None,
    ) -> None:
        """`beside`: of another hypervisor in the same network, whose guests have other addresses. `numbers`: of the
        addresses that guests have on the loopback, by MAC."""
        self.options = options or Options()
        self.leases: Leases = Leases() if beside is None else beside.leases
        self.machines: dict[int, SimulatedMachine] = {}
        self._directory = directory
        self.shelf = shelf  # the folder of all disks: those in it are found while a guest runs
        self._sleep = sleep
        self._pids = itertools.count(20_000)
        self._given = network
        self._network = network
        self._front: Front | LoopbackFront | None = None
        self.numbers: dict[str, int] = dict(numbers or {}) if beside is None else beside.numbers
        self._nix: list[list[Any]] = []

    @property
    def network(self) -> LabNetwork:
        if self._network is None:
            raise RuntimeError("the driver is not open")
        return self._network

    @property
    def on_loopback(self) -> bool:
        return self.options.loopback and self.options.body is Body.SCRIPTED

    def loopback_nics(self, nics: Sequence[Nic]) -> list[Nic]:
        """The same interfaces, each with an address of the host's loopback, the same at every boot."""
        numbers = self.numbers
        return [
            replace(nic, addresses=(loopback_address(numbers.setdefault(nic.mac, len(numbers))),))
            for nic in nics
            if nic.bridge
        ]

    @property
    def front(self) -> Front | LoopbackFront:
        if self._front is None:
            raise RuntimeError("the driver is not open")
        return self._front

    async def open(self) -> None:
        """Raises NamespaceError where sandboxes cannot be had; scripted guests make do with loopback addresses."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._network is None and not self.on_loopback:
            self._network = await LabNetwork.start()
        port = self.options.ssh_port
        self._front = Front(self._network, port) if self._network is not None else LoopbackFront(port)
        self._nix = await asyncio.to_thread(find_nix_binds)

    async def close(self) -> None:
        await asyncio.gather(*(machine.power_off() for machine in list(self.machines.values())))
        if self._front is not None:
            await self._front.close()
            self._front = None
        if self._network is not None and self._given is None:
            await self._network.close()
            self._network = None

    async def power_on(
        self, hardware: Hardware, ended: Callable[[Ended], None], *, state: Path | None = None
    ) -> Running:
        """`state` is looked at no further: there is no RAM to restore, the guest boots."""
        del state
        if hardware.vmid in self.machines:
            raise StartFailed(f"VM {hardware.vmid} already running")
        machine = SimulatedMachine(self, hardware, ended)
        self.machines[hardware.vmid] = machine
        machine.boot()
        return machine

    # What machines need of us

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            await self._sleep(seconds)

    def next_pid(self) -> int:
        return next(self._pids)

    def forget(self, vmid: int) -> None:
        self.machines.pop(vmid, None)

    def log(self, vmid: int, text: str) -> None:
        logger.warning("guest %d: %s", vmid, text)

    def stage(self, hardware: Hardware) -> Path:
        return self._directory / "stages" / str(hardware.vmid)

    async def make_body(self, boot: Boot, event: Callable[[str], None]) -> GuestBody:
        if self.options.body is Body.SCRIPTED:
            return ScriptedGuest(boot, self.options, self.sleep, event)
        return await Sandbox.start(boot, self.network, event, self._nix)

    def way_out(self, body: GuestBody) -> Connect | None:
        return body.holder.connect if isinstance(body, Sandbox) else None

    async def add_decoy(self, address: str) -> None:
        """Somebody else's machine answers SSH at `address`, with a host key of its own."""
        await self.front.attach([address], await make_stranger())

    # Volumes

    async def allocate(self, volume: Volume) -> None:
        await asyncio.to_thread(volumes.allocate, volume)

    async def free(self, volume: Volume) -> None:
        await asyncio.to_thread(volumes.free, volume)

    async def resize(self, volume: Volume, size: int) -> None:
        await asyncio.to_thread(volumes.resize, volume, size)
        for machine in self.machines.values():
            await machine.see_size(volume, size)

    async def copy(self, source: Volume, target: Volume) -> None:
        await asyncio.to_thread(volumes.copy, source, target)

    async def mirror(self, source: Volume, target: Volume) -> None:
        await asyncio.to_thread(volumes.mirror, source, target)
        for machine in self.machines.values():
            machine.follow(source, target)

    async def unpack(self, archive: Path, volume: Volume, files: Mapping[str, tuple[str, int]]) -> None:
        await asyncio.to_thread(volumes.unpack, archive, volume, files)

    async def burn(self, volume: Volume, label: str, files: Mapping[str, str]) -> None:
        """No guest here reads it."""

    async def link(self, base: Volume, target: Volume) -> None:
        await asyncio.to_thread(volumes.copy, base, target)

    async def snapshot(self, volume: Volume, name: str) -> None:
        await asyncio.to_thread(volumes.snapshot, volume, name)

    async def rollback(self, volume: Volume, name: str) -> None:
        await asyncio.to_thread(volumes.rollback, volume, name)

    async def drop_snapshot(self, volume: Volume, name: str) -> None:
        await asyncio.to_thread(volumes.drop_snapshot, volume, name)

    def screenshot(self, vmid: int) -> Path | None:
        del vmid
        return None


def find_nix_binds() -> list[list[Any]]:
    program = shutil.which("nix-store")
    resolved = str(Path(program).resolve()) if program else None
    if resolved is None or not resolved.startswith("/nix/store/"):
        return []
    asked = subprocess.run(
        [resolved, "-qR", "/".join(resolved.split("/")[:4])], capture_output=True, text=True, check=True
    )
    return nix_binds(resolved, asked.stdout.split())
