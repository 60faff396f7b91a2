"""One VM with its power on: a QEMU process, restarted whenever the guest reboots, and what belongs to it."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.bridges import Bridges
from nixops_proxmox.lab.machines.base import AgentTimeout, Ended, Hardware, StartFailed, Volume
from nixops_proxmox.lab.machines.qemu import argv, hotplug, usage, volumes
from nixops_proxmox.lab.machines.qemu.accel import Accel
from nixops_proxmox.lab.machines.qemu.agent import AgentChannel
from nixops_proxmox.lab.machines.qemu.monitor import Monitor
from nixops_proxmox.lab.network import NamespaceError
from nixops_proxmox.lab.owned import end_owned, owned_argv, start_owned

RESETS = ("guest-reset", "host-qmp-system-reset")
GUEST_OFF = ("guest-shutdown",)
QUIT_SECONDS = 5.0
PING_SECONDS = 3.0
MIGRATE_SECONDS = 300.0


@dataclass(frozen=True)
class Host:
    """What all machines of a lab share."""

    accel: Accel
    bridges: Bridges
    enter: Callable[[list[str]], list[str]]  # argv, run in the lab's network
    memory_cap: int


def folder_of(hardware: Hardware, default: Path) -> Path:
    return hardware.directory if hardware.directory != Path() else default / str(hardware.vmid)


class QemuMachine:
    """See `base.Running`. Made by `start`."""

    def __init__(self, hardware: Hardware, folder: Path, host: Host, ended: Callable[[Ended], None]) -> None:
        self.hardware = hardware
        self.folder = folder
        self.taps: dict[str, str] = {}
        self.ports: dict[str, str] = {}  # hotplugged PCI devices: which root port each has
        self._host = host
        self._ended = ended
        self._channel = AgentChannel(folder / argv.AGENT)
        self._process: asyncio.subprocess.Process | None = None
        self._tpm: asyncio.subprocess.Process | None = None
        self._monitor: Monitor | None = None
        self._wanted_off = False
        self._off = asyncio.Event()
        self._started = time.time()
        self._watching: asyncio.Task[None] | None = None

    # Starting.

    @classmethod
    async def start(
        cls, hardware: Hardware, folder: Path, host: Host, ended: Callable[[Ended], None], state: Path | None
    ) -> "QemuMachine":
        machine = cls(hardware, folder, host, ended)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / argv.SERIAL_LOG).unlink(missing_ok=True)
        (folder / argv.VARS).unlink(missing_ok=True)
        try:
            for nic in hardware.nics:
                if nic.bridge:
                    machine.taps[nic.key] = await host.bridges.attach(hardware.vmid, nic)
            await machine._spawn(state)
            if state is not None:
                await machine._wait_for_incoming()
        except (NamespaceError, volumes.VolumeFailed, OSError) as error:
            await machine._clean_up()
            raise StartFailed(f"start failed: {error}") from error
        except BaseException:
            await machine._clean_up()
            raise
        machine._watching = asyncio.create_task(machine._watch())
        return machine

    async def _spawn(self, state: Path | None = None) -> None:
        """One QEMU process, up to its monitor answering."""
        (self.folder / argv.QEMU_LOG).unlink(missing_ok=True)
        for path in self.folder.glob("*.sock"):
            path.unlink()
        await self._prepare_firmware()
        media = {disk.key: self.medium(disk.volume.path) for disk in self.hardware.disks if disk.volume}
        self.ports.clear()
        setup = argv.Setup(self._host.accel, media, self.taps, self._host.memory_cap, state)
        process = await self._run(argv.qemu_argv(self.hardware, setup), "qemu", argv.QEMU_LOG)
        self._process = process
        try:
            self._monitor = await Monitor.connect(self.folder / argv.MONITOR, process)
        except StartFailed as error:
            lines = (self.folder / argv.QEMU_LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            raise StartFailed(str(error), tuple(f"kvm: {line.partition(': ')[2] or line}" for line in lines)) from error
        for nic in self.hardware.nics:
            if nic.link_down and nic.key in self.taps:
                await self._monitor.execute("set_link", {"name": nic.key, "up": False})

    async def _run(self, command: list[str], name: str, log: str) -> asyncio.subprocess.Process:
        return await start_owned(
            self._host.enter(owned_argv(command)),
            pid_file=self.folder / f"{name}.pid",
            log=self.folder / log,
            cwd=self.folder,
        )

    @staticmethod
    def medium(path: Path) -> argv.Media:
        return argv.Media(path, volumes.file_format(path))

    async def _prepare_firmware(self) -> None:
        disks = {disk.key: disk.volume for disk in self.hardware.disks if disk.volume}
        if self.hardware.bios == "ovmf":
            if "efidisk0" in disks:
                await volumes.fill_variables(disks["efidisk0"].path, argv.OVMF_VARS, self.folder / "vars.part")
            elif not (self.folder / argv.VARS).exists():
                shutil.copyfile(argv.OVMF_VARS, self.folder / argv.VARS)
        if "tpmstate0" in disks:
            await self._start_tpm(volumes.tpm_directory(disks["tpmstate0"]))

    async def _start_tpm(self, state: Path) -> None:
        """swtpm ends when QEMU does; its state stays beside the volume."""
        if self._tpm is not None:
            await end_owned(self._tpm, self.folder / "swtpm.pid", grace=1.0)
        state.mkdir(parents=True, exist_ok=True)
        self._tpm = await self._run(argv.swtpm_argv(state), "swtpm", "swtpm.log")
        async with asyncio.timeout(QUIT_SECONDS):
            while not (self.folder / argv.TPM).exists() and self._tpm.returncode is None:
                await asyncio.sleep(0.01)

    async def _wait_for_incoming(self) -> None:
        async with asyncio.timeout(MIGRATE_SECONDS):
            while (await self.monitor.execute("query-status"))["status"] == "inmigrate":
                await asyncio.sleep(0.05)
        await self.monitor.execute("cont")

    # Ending.

    async def _watch(self) -> None:
        """Stay with the process; a guest's reboot is a new one, under the same power-on."""
        reason = ""
        try:
            reason = await self._wait_for_end()
            while reason in RESETS and not self._wanted_off:
                await self._spawn()
                reason = await self._wait_for_end()
        except (StartFailed, volumes.VolumeFailed, OSError) as error:
            with (self.folder / argv.QEMU_LOG).open("a", encoding="utf-8") as log:
                log.write(f"after the guest's reboot: {error}\n")
        finally:
            await self._clean_up()
        if self._wanted_off:
            self._ended(Ended.HOST)
        else:
            self._ended(Ended.GUEST_SHUTDOWN if reason in GUEST_OFF else Ended.CRASHED)

    async def _wait_for_end(self) -> str:
        if self._process is None or self._monitor is None:
            return ""
        await self._process.wait()
        self._channel.drop()
        return await self._monitor.close()

    async def _clean_up(self) -> None:
        self._channel.drop()
        for process, name in ((self._process, "qemu"), (self._tpm, "swtpm")):
            if process is not None:
                await end_owned(process, self.folder / f"{name}.pid")
        if self._monitor is not None:
            await self._monitor.close()
        for tap in self.taps.values():
            await self._host.bridges.detach(tap)
        self._off.set()

    # base.Running

    @property
    def monitor(self) -> Monitor:
        if self._monitor is None or self._off.is_set():
            raise StartFailed(f"VM {self.hardware.vmid} is not running")
        return self._monitor

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def started(self) -> float:
        return self._started

    async def agent(self, command: str, arguments: Mapping[str, Any], timeout: float) -> Any:
        if not self.hardware.agent or not (self.folder / argv.AGENT).exists():
            raise AgentTimeout(f"{command}: there is no channel for an agent")
        return await self._channel.call(command, arguments, timeout)

    async def shut_down(self, timeout: float) -> bool:
        deadline = asyncio.get_running_loop().time() + timeout
        self._wanted_off = True
        if not await self._ask_agent_to_shut_down(min(PING_SECONDS, timeout)):
            with contextlib.suppress(StartFailed):
                await self.monitor.execute("system_powerdown")
        try:
            async with asyncio.timeout_at(deadline):
                await self._off.wait()
        except TimeoutError:
            self._wanted_off = False
        return self._off.is_set()

    async def _ask_agent_to_shut_down(self, timeout: float) -> bool:
        if not self.hardware.agent:
            return False
        return await self._channel.send("guest-shutdown", {"mode": "powerdown"}, timeout)

    async def power_off(self) -> None:
        self._wanted_off = True
        with contextlib.suppress(StartFailed):
            await self.monitor.execute("quit", timeout=QUIT_SECONDS)
        if self._process is not None and not self._off.is_set():
            await end_owned(self._process, self.folder / "qemu.pid", grace=QUIT_SECONDS)
        await self._off.wait()
        if self._watching is not None and self._watching is not asyncio.current_task():
            await asyncio.wait([self._watching])

    async def reset(self) -> None:
        await self.monitor.execute("system_reset")

    async def pause(self) -> None:
        await self.monitor.execute("stop")

    async def resume(self) -> None:
        await self.monitor.execute("cont")

    async def change(self, old: Hardware, new: Hardware) -> None:
        await hotplug.change(self, self._host.bridges, old, new)
        self.hardware = new_active(self.hardware, new)

    async def mirror(self, device: str, source: Volume, target: Volume) -> None:
        """The disk goes on with the target, which is allocated. Raises StartFailed."""
        await hotplug.mirror(self, device, target)
        slots = self.hardware.disks
        disks = tuple(replace(slot, volume=target) if slot.volume == source else slot for slot in slots)
        self.hardware = replace(self.hardware, disks=disks)

    async def status(self) -> Mapping[str, Any]:
        try:
            seen = await self.monitor.execute("query-status")
            blocks = await self.monitor.execute("query-blockstats")
        except StartFailed:
            return {"qmpstatus": "stopped"}
        return {
            "qmpstatus": seen["status"],
            **usage.of_process(self.pid, list(self.taps.values())),
            **usage.of_disks(blocks),
        }

    async def interfaces(self) -> Sequence[Mapping[str, Any]]:
        """Only the host of a container sees them."""
        return ()

    async def save_state(self, path: Path) -> None:
        """RAM and devices to `path`; the machine is paused from then on (take the disks' snapshots, then resume)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        await self.monitor.execute("stop")
        await self.monitor.execute("migrate", {"uri": f"exec:cat > '{path}'"})
        async with asyncio.timeout(MIGRATE_SECONDS):
            while (seen := await self._migration()) not in ("completed", "failed", "cancelled"):
                await asyncio.sleep(0.05)
        if seen != "completed":
            raise StartFailed(f"saving the machine's memory {seen}")
        # Saving gives the disks away, as to another host; only running takes them back.
        await self.monitor.execute("cont")
        await self.monitor.execute("stop")

    async def _migration(self) -> str:
        return str((await self.monitor.execute("query-migrate")).get("status", "none"))


def new_active(active: Hardware, changed: Hardware) -> Hardware:
    """After a hotplug: disks and NICs as changed; the rest stays what the machine was started with."""
    return replace(active, disks=changed.disks, nics=changed.nics, name=changed.name)
