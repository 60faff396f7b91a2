"""What PVE puts into a new container's root: the template's files, keys, and the host keys that it makes itself."""

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from nixops_proxmox.lab.machines.base import Driver
from nixops_proxmox.lab.refusals import die
from nixops_proxmox.lab.storage import Stored
from nixops_proxmox.lab.tasks import Log

HOST_KEYS = {"ssh-rsa": "rsa", "ecdsa-sha2-nistp256": "ecdsa", "ssh-ed25519": "ed25519"}


@dataclass(frozen=True)
class Inside:
    """What is in a template, as far as PVE looks."""

    names: frozenset[str]

    @property
    def has_ssh(self) -> bool:
        return "etc/ssh" in self.names

    @property
    def system(self) -> str:
        """nixos, by its store; else what cannot be told, which PVE refuses."""
        return "nixos" if "nix/store" in self.names else ""


async def look_inside(archive: Path) -> Inside:
    """Raises Refused for what is no archive."""
    process = await asyncio.create_subprocess_exec(
        "tar", "-tf", str(archive), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode:
        first = err.decode(errors="replace").strip().splitlines()[:1]
        die(f"command 'tar xpf - …' failed: exit code {process.returncode} ({' '.join(first)})")
    paths = {line.removeprefix("./").rstrip("/") for line in out.decode(errors="replace").splitlines()}
    folders = {str(parent) for path in paths for parent in Path(path).parents}
    return Inside(frozenset(paths | folders))


async def fill(
    driver: Driver, root: Stored, archive: Path, hostname: str, keys: str, log: Log, *, guess: bool
) -> Inside:
    """Unpack, and let the keys in. `guess`: the call did not tell which system is in it."""
    log.say(f"extracting archive '{archive.name}'")
    inside = await look_inside(archive)
    if guess and not inside.system:
        log.say("unable to detect OS distribution")
    files: dict[str, tuple[str, int]] = {}
    if keys:
        files["root/.ssh/authorized_keys"] = (keys.rstrip("\n") + "\n", 0o600)
    if inside.has_ssh:
        files |= await asyncio.to_thread(_host_keys, hostname, log)
    await driver.unpack(archive, root.volume, files)
    return inside


def _host_keys(hostname: str, log: Log) -> Mapping[str, tuple[str, int]]:
    """As `rewrite_ssh_host_keys` does it: the log tells what they are."""
    files: dict[str, tuple[str, int]] = {}
    comment = f"root@{hostname.partition('.')[0] or 'localhost'}"
    for algorithm, short in HOST_KEYS.items():
        name = f"ssh_host_{short}_key"
        log.say(f"Creating SSH host key '{name}' - this may take some time ...")
        key = asyncssh.generate_private_key(algorithm, comment)
        public = key.export_public_key().decode()
        log.say(f"done: {fingerprint_of(public)} {comment}")
        files[f"etc/ssh/{name}"] = (key.export_private_key().decode(), 0o600)
        files[f"etc/ssh/{name}.pub"] = (public, 0o644)
    return files


def fingerprint_of(public: str) -> str:
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
