"""A driver with machines on it, for tests that look at guests from outside."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncssh

from nixops_proxmox.lab.machines.base import DiskSlot, Ended, Hardware, NicSlot, Volume
from nixops_proxmox.lab.machines.simulated import Options, SimulatedDriver
from nixops_proxmox.lab.machines.simulated.machine import SimulatedMachine
from tests.pace import patience, turns

GIB = 1 << 30
PARTITION = """set -e
disk=/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_root1
wipefs -a "$disk" >/dev/null
sgdisk --zap-all "$disk" >/dev/null
sgdisk -n 1:0:+2M -t 1:ef02 -c 1:bios -n 2:0:0 -t 2:8300 -c 2:root -A 2:set:2 "$disk"
udevadm settle
mkfs.ext4 -q -F -L nixos "$disk-part2"
mkdir -p /mnt
mount "$disk-part2" /mnt
"""


@dataclass
class Answer:
    status: int
    out: str
    err: str


class Bench:
    """One lab directory; `power_on` by VMID."""

    def __init__(self, directory: Path, options: Options | None = None) -> None:
        self.directory = directory
        self.driver = SimulatedDriver(directory / "driver", options, shelf=directory)
        self.ended: list[tuple[int, Ended]] = []
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.public = self.key.export_public_key().decode()
        iso = directory / "nixos.iso"
        iso.write_bytes(b"an image")
        self.cd = DiskSlot("ide2", Volume("local:iso/nixos.iso", iso, 8, "raw"), True)

    async def new_disk(self, key: str, vmid: int, serial: str = "", size: int = 8 * GIB) -> DiskSlot:
        name = f"vm-{vmid}-disk-{key}"
        volume = Volume(f"local-lvm:{name}", self.directory / name, size, "raw")
        await self.driver.allocate(volume)
        return DiskSlot(key, volume, options={"serial": serial} if serial else {})

    async def hardware(self, vmid: int = 101, **changes: Any) -> Hardware:
        disk = await self.new_disk("scsi0", vmid, "root1")
        plain = Hardware(
            vmid=vmid, node="pve1", name=f"vm{vmid}", uuid="6F0A3C52-0000-4000-8000-00000000AB01", memory=512, cores=1,
            sockets=1, cpu="x86-64-v2-AES", bios="seabios", machine="q35", agent=True, boot=("ide2", "scsi0"),
            disks=(disk, self.cd), nics=(NicSlot("net0", "virtio", f"BC:24:11:00:00:{vmid % 256:02X}", "vmbr0"),),
        )  # fmt: skip
        return replace(plain, **changes)

    async def power_on(self, hardware: Hardware) -> SimulatedMachine:
        running = await self.driver.power_on(hardware, lambda why: self.ended.append((hardware.vmid, why)))
        assert isinstance(running, SimulatedMachine)
        await self.wait_for_agent(running)
        return running

    async def wait_for_agent(self, machine: SimulatedMachine) -> None:
        async def answers() -> bool:
            assert not machine.trouble, machine.trouble
            return machine.is_up()

        await until(answers, lambda: "the agent")

    async def run(self, machine: SimulatedMachine, script: str, given: bytes = b"") -> Answer:
        """A shell script, through the agent."""
        asked = {
            "path": "sh",
            "arg": ["-c", script],
            "capture-output": True,
            "input-data": base64.b64encode(given).decode(),
        }
        pid = (await machine.agent("guest-exec", asked, 5))["pid"]
        async with asyncio.timeout(patience(60)):
            while not (told := await machine.agent("guest-exec-status", {"pid": pid}, 5))["exited"]:
                await asyncio.sleep(0.005)
        out, err = (base64.b64decode(told.get(key, "")).decode() for key in ("out-data", "err-data"))
        return Answer(told.get("exitcode", -told.get("signal", 0)), out, err)

    async def must(self, machine: SimulatedMachine, script: str) -> str:
        answer = await self.run(machine, script)
        assert answer.status == 0, (script, answer)
        return answer.out

    async def authorize(self, machine: SimulatedMachine) -> None:
        await self.must(machine, f"mkdir -p /root/.ssh; echo '{self.public.strip()}' >/root/.ssh/authorized_keys")

    def addresses(self, machine: SimulatedMachine) -> list[str]:
        assert machine.body is not None
        return [
            str(a.ip) for nic in machine.body.about.nics for a in nic.addresses if nic.bridge and not a.is_link_local
        ]

    async def ssh(self, machine: SimulatedMachine, address: str | None = None) -> asyncssh.SSHClientConnection:
        sock = await self.driver.network.holder.connect(address or self.addresses(machine)[0], 22)
        return await asyncssh.connect(sock=sock, username="root", client_keys=[self.key], known_hosts=None, config=None)

    async def command(self, argv: Sequence[str], **environment: str) -> Answer:
        """A program on the operator's side."""
        import os

        process = await asyncio.create_subprocess_exec(
            *self.driver.network.enter_argv(argv), stdout=-1, stderr=-1, stdin=-3, env={**os.environ, **environment}
        )
        out, err = await process.communicate()
        return Answer(process.returncode or 0, out.decode(), err.decode())

    def write_key(self) -> Path:
        path = self.directory / "client-key"
        path.touch(mode=0o600)
        path.write_bytes(self.key.export_private_key())
        return path


async def until(check: Callable[[], Awaitable[bool]], what: Callable[[], str], seconds: float = 30) -> None:
    await turns(check, seconds, what())
