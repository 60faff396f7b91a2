"""One VM with its power on: boots, reboots, and ends."""

import asyncio
import contextlib
import hashlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh

from nixops_proxmox.lab.machines.base import AgentTimeout, Ended, Hardware, StartFailed, Volume
from nixops_proxmox.lab.machines.simulated import addresses, firmware, sight, volumes
from nixops_proxmox.lab.machines.simulated.agent import GuestAgent
from nixops_proxmox.lab.machines.simulated.body import About, GuestBody, GuestDisk
from nixops_proxmox.lab.machines.simulated.sandbox import Boot, Sandbox
from nixops_proxmox.lab.machines.simulated.sshd import HOST_KEY, SshServer, make_host_key
from nixops_proxmox.lab.network import NamespaceError, subnet

if TYPE_CHECKING:
    from nixops_proxmox.lab.machines.simulated.driver import SimulatedDriver

BOOT_SCRIPT = "/opt/lab/bin/lab-boot"


class SimulatedMachine:
    """Satisfies `Running`. Made by `SimulatedDriver.power_on`."""

    def __init__(self, driver: "SimulatedDriver", hardware: Hardware, ended: Callable[[Ended], None]) -> None:
        self._driver = driver
        self._hardware = hardware
        self._ended: Callable[[Ended], None] | None = ended
        self._started = time.time()
        self._pid = driver.next_pid()
        self._body: GuestBody | None = None
        self._agent: GuestAgent | None = None
        self._ssh: SshServer | None = None
        self._booting: asyncio.Task[None] | None = None
        self._power: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._off = asyncio.Event()
        self._awake = asyncio.Event()
        self._awake.set()
        self._agent_awake = asyncio.Event()
        self._agent_awake.set()
        self.boots: list[firmware.Choice] = []
        self.trouble = ""  # why the last boot came to nothing

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def started(self) -> float:
        return self._started

    @property
    def hardware(self) -> Hardware:
        return self._hardware

    @property
    def body(self) -> GuestBody | None:
        return self._body

    def is_up(self) -> bool:
        """Agent and sshd answer."""
        return self._ssh is not None

    def boot(self) -> None:
        """Begin to boot; the power is on at once, agent and sshd come later."""
        self._booting = asyncio.create_task(self._boot(), name=f"boot {self._hardware.vmid}")

    async def _boot(self) -> None:
        choice = firmware.choose(self._hardware, lambda slot: volumes.load(slot.volume) if slot.volume else {})
        self.boots.append(choice)
        if choice.boots is firmware.Boots.NOTHING:
            self.trouble = choice.reason
            return
        installer = choice.boots is firmware.Boots.INSTALLER
        options = self._driver.options
        await self._driver.sleep(options.installer_boot if installer else options.system_boot)
        try:
            await self._come_up(choice, installer=installer)
        except (NamespaceError, OSError, ValueError) as error:
            self.trouble = f"{type(error).__name__}: {error}"
            self._driver.log(self._hardware.vmid, self.trouble)

    async def _come_up(self, choice: firmware.Choice, *, installer: bool) -> None:
        boot = self._plan(choice, installer=installer)
        body = await self._driver.make_body(boot, self._on_event)
        self._body = body
        self._agent = GuestAgent(body, self._on_power)
        server = SshServer(body, self._driver.way_out(body))
        await server.prepare(await self._host_key(boot))
        if isinstance(body, Sandbox):
            await self._run_init(body, ["udevadm", "settle"] if installer else ["/bin/sh", BOOT_SCRIPT])
            await server.listen(await body.holder.listen("", self._driver.options.ssh_port))
        else:
            await self._driver.front.attach(self._shown(body), server)
        self._ssh = server

    @staticmethod
    def _shown(body: GuestBody) -> list[str]:
        """Where the operator's side can reach it."""
        reachable = [
            nic
            for nic in body.about.nics
            if nic.bridge and not nic.link_down and not subnet(nic.bridge, nic.tag).isolated
        ]
        return [str(address.ip) for nic in reachable for address in nic.addresses if not address.is_link_local]

    def _plan(self, choice: firmware.Choice, *, installer: bool) -> Boot:
        hardware, options = self._hardware, self._driver.options
        disks = () if hardware.container else sight.guest_disks(hardware, options)
        root, device = (None, "") if installer else self._root(choice, disks)
        declared: Mapping[str, Any] = sight.declared_network(root) if root else {}
        if hardware.container:  # PVE writes its network's configuration at each start
            declared = addresses.declared_by_host(hardware.nics)
        nics = addresses.plan(
            hardware.nics, self._driver.leases, declared, installer=installer, renew=options.new_addresses,
            decoys=options.decoys,
        )  # fmt: skip
        if self._driver.on_loopback:
            nics = self._driver.loopback_nics(nics)
        hostname = (
            "nixos-installer" if installer else ((root and sight.read_in(root, "/etc/hostname")) or "nixos").strip()
        )
        about = About(
            installer, hostname, str(uuid.uuid4()), hardware.uuid, tuple(nics), os_release(installer=installer)
        )
        files = {}
        if root is None or sight.read_in(root, HOST_KEY) is None:
            key = make_host_key(f"root@{hostname}")
            files = {HOST_KEY: key.private, f"{HOST_KEY}.pub": key.public}
        stage = self._driver.stage(hardware)
        uefi, mounts = hardware.bios == "ovmf", sight.mounted(hardware)
        return Boot(hardware.vmid, about, stage, disks, root, device, uefi, files, self._shelf(), mounts)

    def _shelf(self) -> Path | None:
        shelf = self._driver.shelf
        return shelf if shelf is not None and shelf.is_dir() else None

    def _root(self, choice: firmware.Choice, disks: tuple[GuestDisk, ...]) -> tuple[Path, str]:
        assert choice.slot is not None and choice.slot.volume is not None
        if self._hardware.container:
            return sight.root_of(choice.slot.volume), ""
        name = next(disk.name for disk in disks if disk.key == choice.slot.key)
        number = volumes.load(choice.slot.volume)["boot"]["root"]
        return sight.root_of(choice.slot.volume), name if str(number) == "0" else f"{name}{number}"

    async def _host_key(self, boot: Boot) -> str:
        files: Mapping[str, str] = dict(boot.files)
        if HOST_KEY in files:
            return files[HOST_KEY]
        text = sight.read_in(boot.root, HOST_KEY) if boot.root else None
        return text or make_host_key(boot.about.hostname).private

    async def _run_init(self, body: Sandbox, argv: list[str]) -> None:
        """A failing activation is the guest's own trouble: sshd and agent still come up."""
        _, ending = await body.start_program(argv, {}, b"")
        output = await ending
        if output.status or output.signal:
            self._driver.log(
                self._hardware.vmid, f"boot: status {output.status}: {output.err.decode(errors='replace')[-2000:]}"
            )

    # What comes from inside

    def _on_event(self, event: str) -> None:
        if event == "gone":
            if self._body is not None and self._power is None:
                self._power = asyncio.create_task(self._end(Ended.CRASHED))
            return
        if event == "sshd":
            self._reloading = asyncio.create_task(self._reload_host_key())
            return
        self._on_power("reboot" if event == "reboot" else "powerdown")

    async def _reload_host_key(self) -> None:
        body, server = self._body, self._ssh
        text = await body.read_text(HOST_KEY) if body is not None else None
        if text is not None and server is not None and server is self._ssh:
            try:
                server.take_host_key(text)
            except asyncssh.KeyImportError as error:
                self._driver.log(self._hardware.vmid, f"sshd: {HOST_KEY}: {error}")

    def _on_power(self, mode: str) -> None:
        if self._power is None or self._power.done():
            self._power = asyncio.create_task(self._reboot() if mode == "reboot" else self._end(Ended.GUEST_SHUTDOWN))

    async def _reboot(self) -> None:
        await self._driver.sleep(self._driver.options.shutdown)
        await self._go_down()
        self._power = None
        self.boot()

    async def _go_down(self) -> None:
        """No agent, no sshd, no process of the guest."""
        booting, self._booting = self._booting, None
        if self._reloading is not None:
            self._reloading.cancel()
        if booting is not None and not booting.done():
            booting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await booting
        agent, ssh, body = self._agent, self._ssh, self._body
        self._agent = self._ssh = self._body = None
        if ssh is not None:
            await ssh.close()
            if body is not None and not isinstance(body, Sandbox):
                await self._driver.front.detach(self._shown(body))
        if body is not None:
            await body.stop()
        if agent is not None:
            agent.close()

    async def _end(self, why: Ended) -> None:
        if why is Ended.GUEST_SHUTDOWN:
            await self._driver.sleep(self._driver.options.shutdown)
        ended, self._ended = self._ended, None
        await self._go_down()
        self._off.set()
        if ended is not None:
            self._driver.forget(self._hardware.vmid)
            ended(why)

    # `Running`

    async def agent(self, command: str, arguments: Mapping[str, Any], timeout: float) -> Any:
        try:
            return await asyncio.wait_for(self._ask_agent(command, arguments), timeout)
        except TimeoutError as error:
            raise AgentTimeout(f"no answer to {command} within {timeout:g} s") from error

    async def _ask_agent(self, command: str, arguments: Mapping[str, Any]) -> Any:
        await self._driver.sleep(self._driver.options.agent_latency)
        await self._awake.wait()
        await self._agent_awake.wait()
        if self._agent is None or self._ssh is None or not self._hardware.agent:
            raise TimeoutError
        return await self._agent.call(command, arguments)

    async def shut_down(self, timeout: float) -> bool:
        """A guest that has not come up ignores the ACPI button."""
        if self._body is not None and self._awake.is_set():
            self._on_power("powerdown")
        try:
            await asyncio.wait_for(self._off.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def power_off(self) -> None:
        if self._power is not None and self._ended is not None:
            self._power.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._power
        await self._end(Ended.HOST)

    async def crash(self) -> None:
        """Test hook: the process dies, as if killed."""
        await self._end(Ended.CRASHED)

    async def reset(self) -> None:
        await self._go_down()
        self.boot()

    async def pause(self) -> None:
        self._awake.clear()

    async def resume(self) -> None:
        self._awake.set()

    def pause_agent(self, *, on: bool = True) -> None:
        """Test hook: the agent does not answer while it is on."""
        (self._agent_awake.clear if on else self._agent_awake.set)()

    async def cut_network(self, seconds: float) -> None:
        """Test hook: every cable is out for a while; connections stall, and live on if they are patient."""
        if isinstance(self._body, Sandbox):
            await self._body.set_link(up=False)
            await self._driver.sleep(seconds)
            if isinstance(self._body, Sandbox):
                await self._body.set_link(up=True)
        elif self._body is not None:
            shown, server = self._shown(self._body), self._ssh
            await self._driver.front.detach(shown)
            await self._driver.sleep(seconds)
            if server is not None and server is self._ssh:
                await self._driver.front.attach(shown, server)

    async def change(self, old: Hardware, new: Hardware) -> None:
        """Media, disks and NIC links are taken; another NIC is found at the next boot."""
        if old.cores != new.cores or old.memory != new.memory:
            raise StartFailed("hotplug problem - not supported by a simulated guest")
        self._hardware = new
        if self._body is not None:
            await self._body.plug(sight.plugged(self._body.disks, new, self._driver.options))

    def follow(self, source: Volume, target: Volume) -> None:
        """A disk lies elsewhere from now on; a guest sees nothing of that."""
        slots = self._hardware.disks
        moved = [slot.key for slot in slots if slot.volume is not None and slot.volume.path == source.path]
        disks = tuple(replace(slot, volume=target) if slot.key in moved else slot for slot in slots)
        self._hardware = replace(self._hardware, disks=disks)
        if self._body is not None:
            self._body.follow({key: volumes.now(target) for key in moved})

    async def see_size(self, volume: Volume, size: int) -> None:
        """QEMU tells the guest's driver when a disk has become larger."""
        slots = [slot for slot in self._hardware.disks if slot.volume is not None and slot.volume.path == volume.path]
        if slots and self._body is not None:
            await self._body.see_sizes({slot.key: size for slot in slots})

    async def status(self) -> Mapping[str, Any]:
        running = self._awake.is_set()
        return {
            "qmpstatus": "running" if running else "paused", "mem": self._hardware.memory * 1024 * 1024 // 4,
            "cpu": 0.01, "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0,
        }  # fmt: skip

    async def interfaces(self) -> Sequence[Mapping[str, Any]]:
        return addresses.qga_interfaces(self._body.about.nics if self._body is not None else ())

    async def save_state(self, path: Path) -> None:
        """There is no RAM to save: a restored guest boots. The volume for it is a folder here, as disks are."""
        target = path / "ram" if path.is_dir() else path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(hashlib.sha256(self._hardware.uuid.encode()).digest())


def os_release(*, installer: bool) -> dict[str, str]:
    release = {
        "ID": "nixos",
        "NAME": "NixOS",
        "PRETTY_NAME": "NixOS 24.11 (lab)",
        "VERSION": "24.11 (lab)",
        "VERSION_ID": "24.11",
    }
    return release | ({"VARIANT": "Installer", "VARIANT_ID": "installer"} if installer else {})
