"""A guest as a set of namespaces: what is asked of it really runs, in a root of its own on the host's programs."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import struct
import sys
import termios
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from nixops_proxmox.lab.guestfs.tools import TOOLS
from nixops_proxmox.lab.machines.simulated.addresses import Nic
from nixops_proxmox.lab.machines.simulated.body import (
    ENVIRONMENT,
    About,
    GuestDisk,
    NoSuchProgram,
    OpenFile,
    Output,
    Pipes,
    Terminal,
    with_paths,
    with_sizes,
)
from nixops_proxmox.lab.network import Holder, LabNetwork, NamespaceError, Privilege, nsenter_argv, subnet

GUESTFS = Path(__file__).parents[2] / "guestfs"
CHUNK = 1 << 16
TIOCSPTLCK, TIOCGPTPEER = 0x40045431, 0x5441  # ioctl_tty(2): unlock, and open the far end whatever /dev is seen here
LAUNCH = "import sys; sys.path.insert(0, '/opt/lab-python'); from nixops_proxmox.lab.guestfs.tools import main; main()"
FOLDERS = (
    "boot",
    "etc/nix",
    "etc/nixops-proxmox",
    "etc/ssh",
    "home",
    "mnt",
    "nix/store",
    "nix/var/nix/profiles",
    "opt/lab",
    "root",
    "root/.ssh",
    "var/empty",
    "var/log/services",
    "var/tmp",
)
NIX_CONF = """experimental-features = nix-command flakes
sandbox = false
build-users-group =
substituters =
require-sigs = false
trusted-users = root
fsync-metadata = false
"""
# NixOS has a Nix daemon, and NixOps asks for it by name; here root's store is as good.
NIX_ENV = """#!/bin/sh
if [ "${NIX_REMOTE-}" = daemon ] && [ ! -S /nix/var/nix/daemon-socket/socket ]; then unset NIX_REMOTE; fi
exec /usr/bin/nix-env "$@"
"""
SHELF = "/run/lab/shelf"  # in the guest
USERS = "root:x:0:0:System administrator:/root:/bin/sh\nnobody:x:65534:65534:Nobody:/var/empty:/bin/false\n"


@dataclass(frozen=True)
class Boot:
    """One boot of one sandbox. `root`: the file system that becomes `/`, or None for one in memory."""

    vmid: int
    about: About
    stage: Path
    disks: tuple[GuestDisk, ...]
    root: Path | None = None
    root_device: str = ""
    uefi: bool = False
    files: Mapping[str, str] = ()  # type: ignore[assignment]  # private ones: mode 0600
    shelf: Path | None = None  # the folder of all disks of the lab, where one that comes later is taken from
    mounts: tuple[tuple[str, Path], ...] = ()  # of a container: trees of the host, by where they are


def host_links_and_binds(host: Path = Path("/")) -> tuple[list[list[str]], list[list[Any]]]:
    """The host's programs, read-only: links where the host has merged /usr, mounts where not."""
    links, binds = [], []
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = host / name
        if path.is_symlink():
            links.append([f"/{name}", str(path.readlink())])
        elif path.is_dir():
            binds.append([str(path), f"/{name}", True])
    for name in ("usr", "etc/alternatives", "etc/ld.so.cache", "etc/ld.so.conf", "etc/ld.so.conf.d", "etc/ssl"):
        if (host / name).exists():
            binds.append([str(host / name), f"/{name}", True])
    return links, binds


def python_binds(prefix: Path, executable: Path) -> tuple[list[list[Any]], list[list[str]]]:
    """A Python that the stand-ins can start: the distribution's, else ours, made visible in the guest."""
    if executable.is_relative_to("/usr"):
        return [], [["/run/lab/python", str(executable)]]
    inside = Path("/run/lab/python-prefix")
    return [[str(prefix), str(inside), True]], [["/run/lab/python", str(inside / executable.relative_to(prefix))]]


def find_python() -> tuple[Path, Path]:
    """(prefix, executable), resolved."""
    distribution = Path("/usr/bin/python3")
    if distribution.exists():
        return Path("/usr"), distribution
    return Path(sys.base_prefix).resolve(), Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def nix_binds(program: str | None, closure: Sequence[str]) -> list[list[Any]]:
    """On a host whose Nix lives in the Nix store, its closure is shown in the guest's store."""
    if program is None or not program.startswith("/nix/store/"):
        return []
    return [[path, path, True] for path in closure]


def set_up_spec(boot: Boot, nix: list[list[Any]]) -> dict[str, Any]:
    """What the holder is asked to build (`guestfs/holder.py`, `set_up`)."""
    links, binds = host_links_and_binds()
    more_binds, more_links = python_binds(*find_python())
    about = boot.about
    binds += [*more_binds, [str(GUESTFS), "/opt/lab", True], *nix]
    binds.append([str(GUESTFS), "/opt/lab-python/nixops_proxmox/lab/guestfs", True])
    binds += [[str(disk.path), f"/run/lab/disks/{disk.name}", False] for disk in boot.disks if not disk.rom]
    binds += [[str(tree), place, False] for place, tree in boot.mounts]
    if boot.shelf is not None:
        binds.append([str(boot.shelf), SHELF, False])
    links += [*more_links, ["/etc/mtab", "/proc/self/mounts"]]
    links += [[f"/dev/disk/by-id/{disk.by_id}", f"../../{disk.name}"] for disk in boot.disks]
    return {
        "stage": str(boot.stage),
        "root": str(boot.root or ""),
        "folders": list(FOLDERS),
        "links": links,
        "binds": binds,
        "devices": [disk.name for disk in boot.disks],
        "boot_id": about.boot_id,
        "hostname": about.hostname,
        "files": [[path, text, mode] for path, (text, mode) in guest_files(boot).items()],
    }


def described(boot: Boot) -> dict[str, Any]:
    """What the guest's tools read."""
    return {
        "uefi": boot.uefi,
        "installer": boot.about.installer,
        "root_device": boot.root_device,
        "disks": [{**asdict(disk), "path": ""} for disk in boot.disks],
    }


def guest_files(boot: Boot) -> dict[str, tuple[str, int]]:
    about = boot.about
    release = "".join(f'{key}="{value}"\n' for key, value in about.os_release.items())
    files = {
        "/etc/os-release": (release, 0o644),
        "/etc/passwd": (USERS, 0o644),
        "/etc/group": ("root:x:0:\nkeys:x:96:\nnogroup:x:65534:\n", 0o644),
        "/etc/nsswitch.conf": ("passwd: files\ngroup: files\nhosts: files dns\n", 0o644),
        "/etc/hosts": (f"127.0.0.1 localhost\n::1 localhost\n127.0.0.2 {about.hostname}\n", 0o644),
        "/etc/hostname": (about.hostname + "\n", 0o644),
        "/etc/nix/nix.conf": (NIX_CONF, 0o644),
        "/etc/profile": (f"PATH={ENVIRONMENT['PATH']}\nexport PATH\n", 0o644),
        "/run/lab/lab.json": (json.dumps(described(boot)), 0o644),
        "/sys/class/dmi/id/product_uuid": (about.uuid.lower() + "\n", 0o444),
        "/sys/class/dmi/id/sys_vendor": ("QEMU\n", 0o444),
    }
    files |= {f"/sys/class/net/{nic.name}/address": (nic.mac + "\n", 0o444) for nic in about.nics}
    if boot.uefi:
        files["/sys/firmware/efi/fw_platform_size"] = ("64\n", 0o444)
    if about.installer:
        files["/etc/nixops-proxmox-installer"] = ("simulated\n", 0o644)
    for tool in TOOLS:
        files[f"/run/lab/bin/{tool}"] = (f'#!/bin/sh\nexec /run/lab/python -I -S -c "{LAUNCH}" {tool} "$@"\n', 0o755)
    files["/run/lab/bin/lab-services"] = ('#!/bin/sh\nexec /bin/sh /opt/lab/bin/lab-services "$@"\n', 0o755)
    files["/run/lab/bin/nix-env"] = (NIX_ENV, 0o755)
    return files | {path: (text, 0o600) for path, text in dict(boot.files).items()}


def wire_lines(vmid: int, nics: Sequence[Nic], segments: Mapping[str, str], pid: int) -> list[str]:
    """Lab side: a pair of interfaces for each NIC, one end in the guest."""
    lines = []
    for number, nic in enumerate(nic for nic in nics if nic.bridge):
        ours = f"v{vmid}n{number}"
        lines.append(f"link add {ours} type veth peer name {nic.name} address {nic.mac} netns {pid}")
        lines.append(f"link set {ours} master {segments[nic.name]} {'down' if nic.link_down else 'up'}")
    return lines


def address_lines(nics: Sequence[Nic]) -> list[str]:
    """Guest side. The kernel makes link-local addresses by itself."""
    lines = ["link set lo up"]
    for nic in nics:
        if not nic.bridge:
            lines.append(f"link add {nic.name} type bridge")  # there is no `dummy` everywhere
        lines.append(f"link set {nic.name} up")
        for address in nic.addresses:
            if not address.is_link_local:
                lines.append(f"address add {address} dev {nic.name}" + (" nodad" if address.version == 6 else ""))
    return lines


def route_lines(nics: Sequence[Nic]) -> list[str]:
    lines = []
    for nic in (nic for nic in nics if nic.bridge):
        net = subnet(nic.bridge, nic.tag)
        gateways = list(nic.gateways)
        if not gateways and not net.isolated and not net.silent:  # no router announces itself there
            gateways = [str(prefix[1]) for prefix in (net.v4, *net.v6[:1]) if prefix]
        lines += [f"route replace default via {gateway} dev {nic.name} metric 1024" for gateway in gateways]
    return lines


def as_user(user: str) -> list[str]:
    """What becomes another user than root (guestfs/users.py)."""
    return [] if user == "root" else ["/run/lab/bin/lab-user", user, f"/home/{user}"]


class Sandbox:
    """A running guest. Made by `Sandbox.start`; satisfies `GuestBody`."""

    def __init__(self, boot: Boot, holder: Holder, network: LabNetwork) -> None:
        self._boot = boot
        self.holder = holder
        self._network = network
        self._work: set[asyncio.Task[Output]] = set()

    @classmethod
    async def start(cls, boot: Boot, network: LabNetwork, event: Any, nix: list[list[Any]]) -> "Sandbox":
        """Raises NamespaceError. `event` is told "reboot", "poweroff", "sshd" (it restarts) and "gone"."""
        boot.stage.mkdir(parents=True, exist_ok=True)
        unshare = shutil.which("unshare") or "unshare"
        prefix = network.enter_argv([unshare, "-m", "-p", "-n", "-u", "-i", "-f"])
        holder = await Holder.start(prefix, str(find_python()[1]), event)
        sandbox = cls(boot, holder, network)
        try:
            await holder.ask("set_up", spec=set_up_spec(boot, nix))
            await sandbox._wire()
        except NamespaceError:
            await sandbox.stop()
            raise
        return sandbox

    @property
    def about(self) -> About:
        return self._boot.about

    @property
    def disks(self) -> tuple[GuestDisk, ...]:
        return self._boot.disks

    def follow(self, paths: Mapping[str, Path]) -> None:
        self._boot = replace(self._boot, disks=with_paths(self.disks, paths))

    async def plug(self, disks: tuple[GuestDisk, ...]) -> None:
        """It lets go of what is gone, mounted or not, as a kernel does, and finds what has come. What takes the slot of
        another disk, it finds at its next boot."""
        away = [disk for disk in self.disks if (disk.key, disk.path) not in {(one.key, one.path) for one in disks}]
        here = {disk.key for disk in self.disks}
        come = [disk for disk in disks if disk.key not in here and self._is_on_shelf(disk)]
        if not away and not come:
            return
        self._boot = replace(self._boot, disks=(*(disk for disk in self.disks if disk not in away), *come))
        names = [disk.name for disk in away if not disk.rom]  # of a CD, the medium is gone and the drive stays
        lab = json.dumps(described(self._boot))
        await self.holder.ask("drop_disks", spec={"names": names, "lab": lab})
        shelf = self._boot.shelf
        if come and shelf is not None:
            spec = [[f"{SHELF}/{disk.path.relative_to(shelf)}", disk.name, disk.by_id] for disk in come]
            await self.holder.ask("add_disks", spec={"disks": spec})
        _, ending = await self.start_program(["udevadm", "settle"], {}, b"")
        await ending

    def _is_on_shelf(self, disk: GuestDisk) -> bool:
        """A disk that is elsewhere is found at the next boot, and so is a CD."""
        shelf = self._boot.shelf
        return not disk.rom and shelf is not None and disk.path.is_relative_to(shelf)

    async def see_sizes(self, sizes: Mapping[str, int]) -> None:
        self._boot = replace(self._boot, disks=with_sizes(self.disks, sizes))
        await self.holder.ask("drop_disks", spec={"names": [], "lab": json.dumps(described(self._boot))})

    async def _wire(self) -> None:
        nics = self.about.nics
        segments = {nic.name: await self._network.ensure_segment(nic.bridge, nic.tag) for nic in nics if nic.bridge}
        await self._unwire()
        await self._network.holder.ip(wire_lines(self._boot.vmid, nics, segments, self.holder.pid))
        await self.holder.ip(address_lines(nics))
        with contextlib.suppress(NamespaceError):  # a declared gateway may be wrong: the guest comes up all the same
            await self.holder.ip(route_lines(nics))

    async def _unwire(self) -> None:
        """The kernel would do it some time after the guest's end; a quick reboot needs the names now."""
        for number in range(sum(1 for nic in self.about.nics if nic.bridge)):
            with contextlib.suppress(NamespaceError):
                await self._network.holder.ip([f"link delete v{self._boot.vmid}n{number}"])

    async def set_link(self, *, up: bool) -> None:
        """The cables of all NICs."""
        count = sum(1 for nic in self.about.nics if nic.bridge)
        state = "up" if up else "down"
        await self._network.holder.ip([f"link set v{self._boot.vmid}n{number} {state}" for number in range(count)])

    def enter_argv(self, argv: Sequence[str]) -> list[str]:
        return nsenter_argv(self.holder.pid, argv, user=self._network.privilege is Privilege.USER, guest=True)

    async def _spawn(self, argv: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        """In /root, as root. The pipes are ours."""
        inside = ["/bin/sh", "-c", 'cd; exec "$@"', "sh", *argv]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *self.enter_argv(inside),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=dict(environment),
            start_new_session=True,
        )

    async def start_program(
        self, argv: Sequence[str], environment: Mapping[str, str], given: bytes
    ) -> tuple[int, Awaitable[Output]]:
        if not await self._is_program(argv[0]):
            raise NoSuchProgram(f"Failed to execute child process “{argv[0]}” (No such file or directory)")
        process = await self._spawn(argv, {**ENVIRONMENT, **environment})
        return process.pid, self._keep(self._collect(process, given))

    def _keep(self, work: Coroutine[Any, Any, Output]) -> asyncio.Task[Output]:
        """What runs in the guest ends with it: `stop` waits for all of it."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def _is_program(self, name: str) -> bool:
        for place in [""] if "/" in name else ENVIRONMENT["PATH"].split(":"):
            path = f"{place}/{name}" if place else name
            with contextlib.suppress(NamespaceError):
                os.close(await self.holder.open(path, os.O_RDONLY))
                return True
        return False

    async def _collect(self, process: asyncio.subprocess.Process, given: bytes) -> Output:
        out, err = await process.communicate(given)
        return ended(process.returncode, out, err)

    async def run_session(self, command: str, pipes: Pipes, user: str = "root") -> Output:
        if pipes.terminal is not None:
            return await asyncio.shield(self._keep(self._converse_by_terminal(command, pipes, pipes.terminal, user)))
        process = await self._spawn([*as_user(user), "/bin/sh", "-c", command], ENVIRONMENT)
        return await asyncio.shield(self._keep(self._converse(process, pipes)))

    async def _converse_by_terminal(self, command: str, pipes: Pipes, terminal: Terminal, user: str) -> Output:
        """On a terminal of the guest's own; `setsid -c` makes it the command's controlling one."""
        ours = await self._open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(ours, TIOCSPTLCK, struct.pack("i", 0))
        theirs = fcntl.ioctl(ours, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", terminal.rows, terminal.columns, 0, 0))
        argv = self.enter_argv(["/usr/bin/setsid", "-c", "-w", *as_user(user), "/bin/sh", "-c", f"cd; {command}"])
        environment = {**ENVIRONMENT, "TERM": terminal.kind}
        with os.fdopen(theirs, "rb") as far:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=far, stdout=far, stderr=far, env=environment, start_new_session=True
            )
        reading = asyncio.create_task(write_all(ours, pipes))
        try:
            await read_all(ours, pipes)
            return ended(await process.wait(), b"", b"")
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            os.close(ours)

    async def _converse(self, process: asyncio.subprocess.Process, pipes: Pipes) -> Output:
        assert process.stdin and process.stdout and process.stderr
        feeding = asyncio.ensure_future(feed(pipes, process.stdin))
        try:
            await asyncio.gather(drain(process.stdout, pipes.write), drain(process.stderr, pipes.write_err))
            return ended(await process.wait(), b"", b"")
        finally:
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeding

    async def open_file(self, path: str, mode: str) -> OpenFile:
        return DescriptorFile(os.fdopen(await self._open(path, flags_of(mode)), fd_mode(mode)))

    async def _open(self, path: str, flags: int) -> int:
        try:
            return await self.holder.open(path, flags)
        except NamespaceError as error:
            raise OSError(error.errno, os.strerror(error.errno) if error.errno else str(error), path) from error

    async def read_text(self, path: str) -> str | None:
        try:
            reply, _ = await self.holder.ask("read", path=path)
        except NamespaceError:
            return None
        return str(reply["text"])

    async def stop(self) -> None:
        await self.holder.close()
        if self._work:
            await asyncio.wait(self._work, timeout=5)
        await self._unwire()


def ended(returncode: int | None, out: bytes, err: bytes) -> Output:
    code = -signal.SIGKILL if returncode is None else returncode
    return Output(max(code, 0), out, err, max(-code, 0))


async def feed(pipes: Pipes, stdin: asyncio.StreamWriter) -> None:
    """Our side to the command's; a command that does not read to the end is no error."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while data := await pipes.read():
            stdin.write(data)
            await stdin.drain()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.close()
        await stdin.wait_closed()


async def write_all(descriptor: int, pipes: Pipes) -> None:
    """What the client types. What is typed faster than a terminal takes it is lost (EAGAIN)."""
    with contextlib.suppress(OSError):
        while data := await pipes.read():
            os.write(descriptor, data)


async def read_all(descriptor: int, pipes: Pipes) -> None:
    """What is shown, until the far end is closed (EIO)."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    os.set_blocking(descriptor, False)
    loop.add_reader(descriptor, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            try:
                data = os.read(descriptor, CHUNK)
            except BlockingIOError:
                continue
            if not data:
                return
            await pipes.write(data)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    finally:
        loop.remove_reader(descriptor)


async def drain(stream: asyncio.StreamReader, write: Any) -> None:
    while data := await stream.read(CHUNK):
        await write(data)


class DescriptorFile:
    """A file of the guest that the agent holds open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._at_end = False

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self._at_end = len(data) < count
        return data

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def seek(self, offset: int, whence: int) -> int:
        self._at_end = False
        return self._file.seek(offset, whence)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def at_end(self) -> bool:
        return self._at_end


FLAGS = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "r+": os.O_RDWR,
    "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "a+": os.O_RDWR | os.O_CREAT | os.O_APPEND,
}


def flags_of(mode: str) -> int:
    """fopen(3)'s modes; ValueError for another."""
    plain = mode.replace("b", "")
    if plain not in FLAGS:
        raise ValueError(f"invalid file open mode '{mode}'")
    return FLAGS[plain]


def fd_mode(mode: str) -> str:
    plain = mode.replace("b", "")
    return {"r": "rb", "w": "wb", "a": "ab", "r+": "r+b", "w+": "r+b", "a+": "a+b"}[plain]
