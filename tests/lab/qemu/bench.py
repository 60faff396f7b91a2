"""A lab's worth of parts around one QEMU driver: volumes, hardware, ways to talk to the guest."""

import asyncio
import base64
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nixops_proxmox.lab.image import ImagePaths
from nixops_proxmox.lab.machines.base import AgentTimeout, DiskSlot, Ended, Hardware, NicSlot, Volume
from nixops_proxmox.lab.machines.qemu import QemuDriver
from nixops_proxmox.lab.machines.qemu.accel import Accel
from nixops_proxmox.lab.machines.qemu.machine import QemuMachine
from tests.builds import BUILDER
from tests.pace import patience

GIB = 2**30
MAC = "BC:24:11:00:00:01"
ADDRESS = "fd77:77::be24:11ff:fe00:1"  # by SLAAC, of that MAC
PLAIN = Hardware(
    vmid=101,
    node="pve1",
    name="web",
    uuid="11111111-2222-3333-4444-555555555555",
    memory=512,
    cores=1,
    sockets=1,
    cpu="kvm64",
    bios="seabios",
    machine="pc",
    agent=True,
    boot=("scsi0", "ide2"),
    disks=(),
    nics=(),
)
SYSTEM = """
{ motd, system ? "x86_64-linux" }:
import BUILDER "nixos-system-web-24.11.lab" { inherit system motd; } ''
    mkdir -p $out/bin $out/services
    printf '#!/bin/sh\\necho %s > /etc/motd\\n' "$motd" > $out/activate
    printf '#!/bin/sh\\ncase $1 in switch|test) %s/activate
      ln -sfn %s /run/current-system; lab-services switch %s;; esac\\n' \
      $out $out $out > $out/bin/switch-to-configuration
    printf '#!/bin/sh\\nexec serve-http 8080 /usr/bin/hostname\\n' > $out/services/web
    chmod +x $out/activate $out/bin/switch-to-configuration $out/services/web
    echo 24.11.lab > $out/nixos-version
''
"""
NIX = ("--option", "substituters", "", "--option", "build-users-group", "")


class Bench:
    def __init__(self, folder: Path, image: ImagePaths) -> None:
        self.folder = folder
        self.image = image
        self.driver = QemuDriver(folder / "lab", image.iso.parent, accel=Accel(False, "for this test"))
        self.ended: list[Ended] = []
        self.times: dict[str, float] = {}
        self._since = time.monotonic()

    # Hardware.

    async def disk(self, key: str, size: int = GIB, **options: str) -> DiskSlot:
        volume = Volume(f"local-lvm:vm-101-{key}", self.folder / "storage" / f"vm-101-{key}", size, "raw")
        await self.driver.allocate(volume)
        return DiskSlot(key, volume, options=options)

    def installer(self) -> DiskSlot:
        return DiskSlot("ide2", Volume("local:iso/nixos.iso", self.image.iso, 0, "raw"), cdrom=True)

    def nic(self, key: str = "net0", mac: str = MAC, bridge: str = "vmbr0") -> NicSlot:
        return NicSlot(key, "virtio", mac, bridge)

    async def start(self, hardware: Hardware, state: Path | None = None) -> QemuMachine:
        return await self.driver.power_on(hardware, self.ended.append, state=state)

    def stamp(self, phase: str) -> None:
        now = time.monotonic()
        self.times[phase] = round(now - self._since, 1)
        self._since = now

    async def wait_for_end(self, timeout: float = 20) -> Ended:
        async with asyncio.timeout(patience(timeout)):
            while not self.ended:
                await asyncio.sleep(0.02)
        return self.ended.pop()

    # Through the agent.

    async def wait_for_agent(self, machine: QemuMachine, timeout: float = 90) -> None:
        async with asyncio.timeout(patience(timeout)):
            while True:
                try:
                    await machine.agent("guest-ping", {}, patience(timeout))
                except AgentTimeout:  # the socket is gone for a moment while the machine reboots
                    await asyncio.sleep(0.05)
                else:
                    return

    async def execute(self, machine: QemuMachine, script: str, timeout: float = 60) -> str:
        """Output of a script; AssertionError if it failed."""
        asked = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
        pid = (await machine.agent("guest-exec", asked, patience(10)))["pid"]
        async with asyncio.timeout(patience(timeout)):
            while not (seen := await machine.agent("guest-exec-status", {"pid": pid}, patience(10)))["exited"]:
                await asyncio.sleep(0.05)
        text = base64.b64decode(seen.get("out-data", "")).decode()
        assert seen.get("exitcode") == 0, (script, text, base64.b64decode(seen.get("err-data", "")))
        return text

    async def wait_for(self, machine: QemuMachine, script: str, timeout: float = 30) -> str:
        """The output of a script once it succeeds."""
        async with asyncio.timeout(patience(timeout)):
            while True:
                try:
                    return await self.execute(machine, script)
                except AssertionError:
                    await asyncio.sleep(0.1)

    # Through SSH.

    def make_key(self, name: str) -> tuple[str, str]:
        """(private, public)"""
        file = self.folder / name
        if not file.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True)
        return file.read_text(), file.with_suffix(".pub").read_text()

    def trust(self, host_key: str) -> None:
        """From now on this, and no other, is the machine's host key."""
        (self.folder / "known_hosts").write_text(f"{ADDRESS} {host_key.strip()}\n")

    def ssh_options(self) -> list[str]:
        options = {
            "UserKnownHostsFile": self.folder / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": f"{patience(5):.0f}",
            "ServerAliveInterval": f"{patience(5):.0f}",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["-F", "none", "-i", str(self.folder / "client"), *words]

    async def run(self, argv: Sequence[str], timeout: float = 90, **environment: str) -> tuple[int, str, str]:
        """A command on the operator's side of the lab's network."""
        process = await asyncio.create_subprocess_exec(
            *self.driver.network.enter_argv(list(argv)),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), patience(timeout))
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def ssh(self, script: str, timeout: float = 90) -> str:
        status, out, err = await self.run(["ssh", *self.ssh_options(), f"root@{ADDRESS}", script], timeout)
        assert status == 0, (script, status, out, err)
        return out

    async def wait_for_ssh(self, timeout: float = 60) -> None:
        async with asyncio.timeout(patience(timeout)):
            while (await self.run(["ssh", *self.ssh_options(), f"root@{ADDRESS}", "true"]))[0] != 0:
                await asyncio.sleep(0.2)

    # Through Nix.

    async def build(self, motd: str) -> str:
        """A plain system's store path."""
        file = self.folder / "system.nix"
        file.write_text(SYSTEM.replace("BUILDER", str(BUILDER)))
        status, out, err = await self.run(["nix-build", str(file), "--no-out-link", "--argstr", "motd", motd, *NIX])
        assert status == 0, err
        return out.strip()

    async def copy(self, path: str, *, into_target: bool) -> None:
        store = f"ssh://root@[{ADDRESS}]" + ("?remote-store=local%3Froot=/mnt" if into_target else "")
        argv = ["nix", "--extra-experimental-features", "nix-command", "copy", "--to", store, path, *NIX]
        status, _, err = await self.run(argv, NIX_SSHOPTS=" ".join(self.ssh_options()))
        assert status == 0, err


def with_disks(hardware: Hardware, *disks: DiskSlot) -> Hardware:
    return replace(hardware, disks=disks)
