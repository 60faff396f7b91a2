"""The lab: a Proxmox VE API over HTTPS on loopback or on given sockets, with its own certificate and control token."""

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from nixops_proxmox.lab.access import User
from nixops_proxmox.lab.certificate import Certificate, get_certificate
from nixops_proxmox.lab.clock import Clock, RealClock
from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.control import Control
from nixops_proxmox.lab.dispatch import Dispatcher
from nixops_proxmox.lab.faults import Faults
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.machines.base import Driver
from nixops_proxmox.lab.permissions import Entry
from nixops_proxmox.lab.ports import listen
from nixops_proxmox.lab.release import get_release
from nixops_proxmox.lab.storage import Storage

IDLE = 5.0  # seconds after which pveproxy closes a connection that says nothing
DEPLOYER, TOKEN = "deploy@pve", "lab"


@dataclass(frozen=True)
class Secrets:
    """What survives a restart, so that a profile stays right."""

    root_password: str
    deploy_password: str
    token: str
    control_token: str

    @classmethod
    def load(cls, path: Path) -> "Secrets":
        if path.exists():
            return cls(**json.loads(path.read_text()))
        made = cls(secrets.token_urlsafe(16), secrets.token_urlsafe(16), _uuid(), secrets.token_urlsafe(24))
        path.touch(mode=0o600)
        path.write_text(json.dumps(made.__dict__))
        return made


def _uuid() -> str:
    raw = secrets.token_hex(16)
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


class Lab:
    """Everything of one lab. `start` and `stop` belong to the event loop that the lab runs on."""

    def __init__(
        self,
        directory: Path,
        driver: Driver,
        *,
        version: str = "8.4",
        clock: Clock | None = None,
        latency: Latency | None = None,
        nodes: Sequence[str] = ("pve1", "pve2", "pve3"),
        storages: Iterable[Storage] | None = None,
        exports: Path | None = None,
    ) -> None:
        """`exports`: what file servers have, if other labs use them, too."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory
        self.driver = driver
        self.cluster = Cluster(
            directory,
            driver,
            get_release(version),
            clock or RealClock(),
            latency or Latency(),
            nodes,
            storages,
            exports,
        )
        self.faults = Faults()
        self.secrets = Secrets.load(directory / "secrets.json")
        self._add_users()
        self._dispatcher = Dispatcher(self.cluster, self.faults)
        self._runner: web.AppRunner | None = None
        self._certificate: Certificate | None = None
        self.urls: dict[str, str] = {}  # node → where its API is

    def _add_users(self) -> None:
        access = self.cluster.access
        access.users["root@pam"].password = self.secrets.root_password
        access.users[DEPLOYER] = User(DEPLOYER, self.secrets.deploy_password)
        access.add_token(DEPLOYER, TOKEN, privsep=False)
        access.users[DEPLOYER].tokens[TOKEN].secret = self.secrets.token
        access.permissions.entries.append(Entry("/", "user", DEPLOYER, "Administrator"))

    # What a client needs.

    @property
    def url(self) -> str:
        """https://host:port, of the first node."""
        return next(iter(self.urls.values()))

    @property
    def token(self) -> str:
        """user@realm!name=secret, with Administrator on /."""
        return f"{DEPLOYER}!{TOKEN}={self.secrets.token}"

    @property
    def root_password(self) -> str:
        return self.secrets.root_password

    @property
    def control_token(self) -> str:
        return self.secrets.control_token

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Every API call so far, in order: n, method, path, status, …"""
        return self._dispatcher.calls

    @property
    def certificate(self) -> Certificate:
        if self._certificate is None:
            raise RuntimeError("the lab has not been started")
        return self._certificate

    @property
    def ca_file(self) -> Path:
        return self.certificate.ca_file

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the server's certificate, with colons."""
        return self.certificate.fingerprint

    # Life.

    async def start(
        self, host: str = "127.0.0.1", port: int = 0, *, sockets: Sequence[socket.socket] = (), every_node: bool = False
    ) -> None:
        """Serve on `host`: the first node's API, or (`every_node`) a port for each; or on bound sockets, one a node."""
        await self.driver.open()
        names = list(self.cluster.nodes)
        listening = list(sockets) or [listen(host, port)]
        if every_node and not sockets:
            listening += [listen(host, 0) for _ in names[1:]]
        hosts = {str(one.getsockname()[0]) for one in listening}
        self._certificate = get_certificate(
            self.directory / "tls", tuple(dict.fromkeys([*names, "localhost", "127.0.0.1", "::1", *sorted(hosts)]))
        )
        self.cluster.fingerprint = self._certificate.fingerprint
        self.cluster.certificate = self._certificate.file.read_text()
        self._runner = web.AppRunner(self._app(), access_log=None, keepalive_timeout=IDLE, handle_signals=False)
        await self._runner.setup()
        for index, one in enumerate(listening):
            await web.SockSite(self._runner, one, ssl_context=self._certificate.context()).start()
            node = names[index % len(names)]
            self.urls[node] = _url(one)
            self._dispatcher.entries[one.getsockname()[1]] = node

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=2**62)
        control = Control(self.cluster, self.faults, self._dispatcher.calls, self.control_token)
        app.router.add_route("*", "/lab/{tail:.*}", control.answer)
        app.router.add_route("*", "/{tail:.*}", self._dispatcher.answer)
        return app

    async def stop(self) -> None:
        """End tasks, machines and connections."""
        self._dispatcher.stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self.cluster.stop_all()
        await self.driver.close()

    def add_file(self, storage: str, content: str, path: Path, name: str = "") -> str:
        """Put a file (an ISO, an image to import) onto a storage of every node, without an upload; its volid."""
        stores = self.cluster.stores
        target = stores.get(storage)
        name = f"{content}/{name or path.name}"
        for node in self.cluster.nodes:
            stored = stores.record(
                target,
                node,
                name,
                size=path.stat().st_size,
                format="iso" if content == "iso" else path.suffix.lstrip("."),
                content=content,
            )
            stored.path.unlink(missing_ok=True)
            with contextlib.suppress(FileExistsError):
                stored.path.symlink_to(path.resolve())
        return f"{storage}:{name}"


def _url(one: socket.socket) -> str:
    host, port = one.getsockname()[:2]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


async def serve_until(lab: Lab, done: asyncio.Event) -> None:
    """Run until told to stop (the command line's server process)."""
    try:
        await done.wait()
    finally:
        await lab.stop()
