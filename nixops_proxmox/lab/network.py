"""The lab's own network: a namespace with bridges and made-up prefixes, and the way into it.

Nothing in it has a way out. A namespace is kept by a holder process (`guestfs/holder.py`) which ends with the lab, and
hands sockets made inside to us: a socket stays in the namespace that it was made in.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

HOLDER = Path(__file__).with_name("guestfs") / "holder.py"
MESSAGE = 1 << 18  # as in the holder
HELLO_SECONDS = 60.0  # for one that hangs: one that ends is seen at once
REPLY_SECONDS = 60.0
PING_GROUPS = "/proc/sys/net/ipv4/ping_group_range"


class Privilege(StrEnum):
    """How namespaces can be had here."""

    ROOT = "root"
    USER = "user"  # in a user namespace
    NONE = "none"


@dataclass(frozen=True)
class Subnet:
    """One segment. None: the family does not exist there. `isolated`: the operator's side has no address. `silent`:
    there is no DHCP server, unless you start one."""

    v4: ipaddress.IPv4Network | None
    v6: tuple[ipaddress.IPv6Network, ...]
    isolated: bool = False
    silent: bool = False


class NamespaceError(Exception):
    """The namespace, or something in it, could not be had; the text is the kernel's or the tool's."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.errno = number


# 3ffe::/16 (returned 6bone space) and 192.88.99.0/24 (withdrawn 6to4 anycast) look public to every classifier, and
# are not assigned: documentation prefixes do not look public.
_PLAN: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "vmbr0": ("10.77.0.0/24", ("fd77:77::/64", "3ffe:77::/64"), False),
    "vmbr1": ("10.77.1.0/24", ("fd77:77:1::/64",), True),
    "vmbr2": ("192.88.99.0/24", ("3ffe:77:2::/64",), False),
    "vmbr3": ("", ("fd77:77:3::/64", "3ffe:77:3::/64"), False),
    "vmbr4": ("", ("fd77:77:4::/64",), True),
    "vmbr5": ("10.77.5.0/24", ("fd77:77:5::/64",), False),
}
SILENT = ("vmbr5",)


def subnet(bridge: str, tag: int = 0) -> Subnet:
    """The prefixes of a bridge's untagged segment, or of one of its VLANs."""
    v6: tuple[str, ...]
    if tag:
        v4, v6, isolated = f"10.78.{tag % 256}.0/24", (f"fd77:78:{tag}::/64",), False
    elif bridge in _PLAN:
        v4, v6, isolated = _PLAN[bridge]
    else:
        number = int("".join(c for c in bridge if c.isdigit()) or "200") % 256
        v4, v6, isolated = f"10.77.{number}.0/24", (f"fd77:77:{number}::/64", f"3ffe:77:{number}::/64"), False
    silent = not tag and bridge in SILENT
    return Subnet(ipaddress.IPv4Network(v4) if v4 else None, tuple(map(ipaddress.IPv6Network, v6)), isolated, silent)


def segment(bridge: str, tag: int = 0) -> str:
    """The name of the Linux bridge that is this segment (at most 15 characters)."""
    return f"{bridge}v{tag}"[:15] if tag else bridge[:15]


def bridge_lines(bridge: str, tag: int = 0) -> list[str]:
    """`ip -batch` lines that make a segment, with the operator's addresses on it."""
    name, net = segment(bridge, tag), subnet(bridge, tag)
    # A bridge without an address of its own takes its lowest port's, and changes it as guests come and go. A client of
    # the operator then talks to a station that is gone, until the neighbour cache gives up after 25 s.
    mac = "02:" + hashlib.sha256(name.encode()).digest()[:5].hex(":")
    lines = [f"link add {name} address {mac} type bridge forward_delay 0 mcast_snooping 0", f"link set {name} up"]
    if net.isolated:
        return lines
    if net.v4:
        lines.append(f"address add {net.v4[1]}/{net.v4.prefixlen} dev {name}")
    return lines + [f"address add {prefix[1]}/{prefix.prefixlen} dev {name} nodad" for prefix in net.v6]


def find_privilege() -> Privilege:
    """Tries it: a kernel or a container may forbid either way."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None or find_ip() is None:
        return Privilege.NONE
    for privilege, flags in ((Privilege.ROOT, ["-mnp"]), (Privilege.USER, ["-Urmnp"])):
        if privilege is Privilege.ROOT and os.geteuid() != 0:
            continue
        tried = subprocess.run(["unshare", *flags, "-f", "true"], capture_output=True, check=False, timeout=10)
        if tried.returncode == 0:
            return privilege
    return Privilege.NONE


def find_ip() -> str | None:
    return shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def nsenter_argv(pid: int, argv: Sequence[str], *, user: bool, guest: bool = False) -> list[str]:
    """Run `argv` in the network of `pid`; `guest`: also with its files and processes."""
    flags = (["-U", "--preserve-credentials"] if user else []) + ["-n"] + (["-m", "-p", "-u", "-i"] if guest else [])
    return [shutil.which("nsenter") or "nsenter", "-t", str(pid), *flags, "--", *argv]


def as_oneself(argv: Sequence[str]) -> list[str]:
    """Run `argv` in the user namespace of an unprivileged lab as who one is outside, not as root: Nix and ssh believe
    the name, and root's rights are not there."""
    unshare = shutil.which("unshare") or "unshare"
    return [unshare, "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}", "--", *argv]


class Holder:
    """A process that holds namespaces, and our channel to it. Made by `Holder.start`."""

    def __init__(
        self, process: asyncio.subprocess.Process, channel: socket.socket, event: Callable[[str], None]
    ) -> None:
        self._process = process
        self._channel = channel
        self._event = event
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._numbers = itertools.count(1)
        self._turn = asyncio.Semaphore(16)  # the kernel queues few messages for a socket
        self._hello: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.pid = 0

    @classmethod
    async def start(cls, prefix: Sequence[str], python: str, event: Callable[[str], None]) -> Self:
        """`prefix`: the argv that makes or enters namespaces. `event` is told "reboot", "poweroff", and "gone"."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE)
            ours.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                *prefix, python, "-I", "-S", str(HOLDER), str(theirs.fileno()),
                pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        holder = cls(process, ours, event)
        asyncio.get_running_loop().add_reader(ours, holder._receive)
        try:
            holder.pid = await asyncio.wait_for(asyncio.shield(holder._hello), HELLO_SECONDS)
        except (TimeoutError, NamespaceError) as error:
            await holder.close()
            raise NamespaceError(f"{prefix[0]} did not come up: {str(error) or 'no answer'}") from error
        return holder

    def _receive(self) -> None:
        """One message; the credentials beside it carry the holder's process id as we see it."""
        try:
            data, ancillary, _, _ = self._channel.recvmsg(MESSAGE, socket.CMSG_SPACE(12) + socket.CMSG_SPACE(16))
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self._lost()
            return
        descriptors, pid = _beside(ancillary)
        message = json.loads(data)
        if message.get("event") == "hello":
            self._hello.set_result(pid)
        elif "event" in message:
            self._event(message["event"])
        elif (waiting := self._waiting.pop(message["id"], None)) is not None and not waiting.done():
            waiting.set_result((message, descriptors))
        else:
            for descriptor in descriptors:
                os.close(descriptor)

    def _lost(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel)
        waiting, self._waiting = list(self._waiting.values()), {}
        for future in waiting:
            if not future.done():
                future.set_exception(NamespaceError("the guest is gone"))
        if not self._hello.done():
            self._hello.set_exception(NamespaceError("it ended at once"))
            return
        self._event("gone")

    async def ask(self, do: str, **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        """One request; raises NamespaceError with the errno of what failed."""
        async with self._turn:
            return await self._ask(do, arguments)

    async def _ask(self, do: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        number = next(self._numbers)
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._channel.send(json.dumps({"id": number, "do": do, **arguments}).encode())
            reply, descriptors = await asyncio.wait_for(future, REPLY_SECONDS)
        except OSError as error:  # TimeoutError is one
            raise NamespaceError(f"{do}: {str(error) or 'no answer'}") from error
        finally:
            self._waiting.pop(number, None)
        if "error" in reply:
            raise NamespaceError(f"{do}: {reply['error']}", reply["errno"])
        return reply, descriptors

    async def new_socket(
        self, family: socket.AddressFamily, kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> socket.socket:
        """A fresh socket of the namespace: connect it from here."""
        _, [descriptor] = await self.ask("socket", family=int(family), kind=int(kind))
        return socket.socket(fileno=descriptor)

    async def listen(self, host: str, port: int) -> socket.socket:
        """A listener in the namespace; host "" means all addresses of both families."""
        _, [descriptor] = await self.ask("listen", host=host, port=port)
        return socket.socket(fileno=descriptor)

    async def connect(self, host: str, port: int, timeout: float = 5.0) -> socket.socket:
        """A TCP connection from inside the namespace; raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = await self.new_socket(family)
        made.setblocking(False)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(made, (host, port)), timeout)
        except OSError:
            made.close()
            raise
        return made

    async def open(self, path: str, flags: int) -> int:
        """A descriptor of a file as the guest sees it; NamespaceError carries the errno."""
        _, [descriptor] = await self.ask("open", path=path, flags=flags)
        return descriptor

    async def ip(self, lines: Iterable[str], *, force: bool = False) -> None:
        """`ip -batch` in the namespace; `force`: a line that fails is no error."""
        text = "\n".join(lines)
        argv = ["ip", *(["-force"] if force else []), "-batch", "-"]
        reply, _ = await self.ask("run", argv=argv, input=text + "\n")
        if reply["status"] != 0 and not force:
            raise NamespaceError(f"ip: {reply['err'].strip()}\n{text}")

    async def close(self) -> None:
        """Kill the holder, and with it all that the namespace has."""
        with contextlib.suppress(ValueError, OSError):
            asyncio.get_running_loop().remove_reader(self._channel)
        for pid in {self.pid, self._process.pid} - {0}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        await self._process.wait()
        self._channel.close()
        if self._hello.done():
            self._hello.exception()  # seen: our caller has the error


def _beside(ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[list[int], int]:
    """The descriptors and the sender's process id out of a message's ancillary data."""
    descriptors: list[int] = []
    pid = 0
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid = struct.unpack("3i", data)[0]
    return descriptors, pid


class LabNetwork:
    """The lab's network namespace: segments, the operator's addresses, listeners."""

    def __init__(self, holder: Holder, privilege: Privilege) -> None:
        self.holder = holder
        self.privilege = privilege
        self._segments: set[str] = set()

    @classmethod
    async def start(cls, privilege: Privilege | None = None) -> Self:
        """Make the namespace; raises NamespaceError where there is none to be had."""
        privilege = find_privilege() if privilege is None else privilege
        if privilege is Privilege.NONE:
            raise NamespaceError(
                "this machine allows us no network namespace (neither as root nor in a user namespace)"
            )
        flags = ["-n"] if privilege is Privilege.ROOT else ["-Urn"]
        unshare = shutil.which("unshare") or "unshare"
        holder = await Holder.start([unshare, *flags], sys.executable, lambda _: None)
        await holder.ip(["link set lo up"])
        if privilege is Privilege.USER:  # whose ping in there has no rights; a container may forbid the change
            await holder.ask("run", argv=["sh", "-c", f"echo 0 0 >{PING_GROUPS}"], input="")
        network = cls(holder, privilege)
        for bridge in SILENT:  # a server of yours can listen there before the first machine comes
            await network.ensure_segment(bridge)
        return network

    @property
    def pid(self) -> int:
        return self.holder.pid

    def enter_argv(self, argv: Sequence[str]) -> list[str]:
        """Run `argv` on the operator's side of the lab's network."""
        return nsenter_argv(self.pid, argv, user=self.privilege is Privilege.USER)

    async def ensure_segment(self, bridge: str, tag: int = 0) -> str:
        """The name of the Linux bridge for it; made when it is first asked for."""
        name = segment(bridge, tag)
        if name not in self._segments:
            self._segments.add(name)
            await self.holder.ip(bridge_lines(bridge, tag))
        return name

    async def close(self) -> None:
        await self.holder.close()
