"""One SSH listener for many hosts: it tells by the address that was called which of them answers.

For scripted guests (a listener each would be thousands of sockets) and for decoys.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path

import asyncssh

from nixops_proxmox.lab.machines.simulated.body import About, GuestDisk, NoSuchProgram, OpenFile, Output, Pipes
from nixops_proxmox.lab.machines.simulated.sshd import SshServer, make_host_key
from nixops_proxmox.lab.network import LabNetwork

BATCH = 1000  # lines for one `ip`


class Front:
    """On all addresses of the operator's side of the lab's network."""

    def __init__(self, network: LabNetwork, port: int) -> None:
        self._network = network
        self._port = port
        self._servers: dict[str, SshServer] = {}
        self._serving: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._changing = asyncio.Lock()
        self._coming: list[str] = []
        self._going: list[str] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def attach(self, addresses: list[str], server: SshServer) -> None:
        """From now on these addresses exist and `server` answers there."""
        async with self._starting:
            if self._serving is None:
                listener = await self._network.holder.listen("", self._port)
                listener.setblocking(False)
                self._serving = asyncio.create_task(self._serve(listener), name="ssh front")
        self._servers |= dict.fromkeys(addresses, server)
        await self._change(self._coming, [address_line("replace", address) for address in addresses])

    async def detach(self, addresses: list[str]) -> None:
        for address in addresses:
            self._servers.pop(address, None)
        await self._change(self._going, [address_line("delete", address) for address in addresses])

    async def _change(self, waiting: list[str], lines: list[str]) -> None:
        """The thread with the lock takes along what has gathered meanwhile: one `ip` for many guests."""
        waiting += lines
        async with self._changing:
            while waiting:
                batch = waiting[:BATCH]
                del waiting[:BATCH]
                await self._network.holder.ip(batch, force=waiting is self._going)

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                connection, _ = await loop.sock_accept(listener)
                server = self._servers.get(plain(connection.getsockname()[0]))
                if server is None:
                    connection.close()
                    continue
                task = asyncio.create_task(self._handle(server, connection))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)

    async def _handle(self, server: SshServer, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            await server.serve(connection)

    async def close(self) -> None:
        tasks = [*self._connections, *([self._serving] if self._serving else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        self._serving = None


class LoopbackFront:
    """Where no namespace is to be had: scripted guests on the host's own 127.77.0.0/16, at a port of the lab's.

    An attached address has a listener of its own; a host's sshd on all addresses of port 22 is in the way of it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._servers: dict[str, SshServer] = {}

    async def attach(self, addresses: list[str], server: SshServer) -> None:
        for address in addresses:
            listener = socket.create_server((address, self._port))
            self._servers[address] = server
            await server.listen(listener)

    async def detach(self, addresses: list[str]) -> None:
        for server in {self._servers.pop(address) for address in addresses if address in self._servers}:
            await server.close()

    async def close(self) -> None:
        await self.detach(list(self._servers))


def loopback_address(number: int) -> ipaddress.IPv4Interface:
    return ipaddress.IPv4Interface(f"127.77.{number // 250}.{number % 250 + 1}/8")


def plain(address: str) -> str:
    """An IPv4 address out of its IPv6-mapped form."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def address_line(verb: str, address: str) -> str:
    """For `ip -batch`."""
    if ":" not in address:
        return f"address {verb} {address}/32 dev lo"
    return f"address {verb} {address}/128 dev lo" + (" nodad" if verb == "replace" else "")


class Stranger:
    """Somebody else's machine: it has a host key of its own and refuses every login. Satisfies `GuestBody`."""

    def __init__(self) -> None:
        self.about = About(installer=False, hostname="stranger", boot_id="", uuid="")
        self.disks: tuple[GuestDisk, ...] = ()

    async def start_program(
        self, argv: Sequence[str], environment: Mapping[str, str], given: bytes
    ) -> tuple[int, Awaitable[Output]]:
        del environment, given
        raise NoSuchProgram(argv[0])

    async def run_session(self, command: str, pipes: Pipes, user: str = "root") -> Output:
        del command, pipes, user
        return Output(255)

    async def open_file(self, path: str, mode: str) -> OpenFile:
        raise FileNotFoundError(2, mode, path)

    async def read_text(self, path: str) -> str | None:
        del path
        return None

    async def see_sizes(self, sizes: Mapping[str, int]) -> None: ...

    def follow(self, paths: Mapping[str, Path]) -> None: ...

    async def plug(self, disks: tuple[GuestDisk, ...]) -> None:
        self.disks = disks

    async def stop(self) -> None:
        return None


async def make_stranger() -> SshServer:
    server = SshServer(Stranger())
    await server.prepare(make_host_key("root@stranger").private)
    return server
