"""Who we talk to: TLS by system trust, CA file or pinned fingerprint, checked before anything is sent."""

import hashlib
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from typing_extensions import override
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.poolmanager import ProxyManager
from urllib3.util.request import make_headers

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.paths import expanded
from nixops_proxmox.pve.wire.servers import ApiServer, normalized_fingerprint

IDLE = 3.5  # seconds; pveproxy closes idle connections after 5, and a POST must not be the one to find out


def connect_tls(host: str, port: int, context: ssl.SSLContext, fingerprint: str, timeout: float) -> ssl.SSLSocket:
    """Connect and verify as for calls, for traffic that is not a call. Raises OSError (ssl.SSLError is one)."""
    plain = socket.create_connection((host, port), timeout)
    try:
        secured = context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
    shown = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
    if fingerprint and shown != normalized_fingerprint(fingerprint):
        secured.close()
        raise ssl.SSLCertVerificationError(f"the certificate's fingerprint is {shown}, not the one in the profile")
    return secured


def always() -> None:
    """Nothing stands against it."""


class _Sending(threading.local):
    begun = False
    deadline = math.inf
    may: Callable[[], None] = staticmethod(always)  # asked before the first byte; what it raises ends the exchange


sending = _Sending()  # per thread: has the current exchange put anything on the wire, and when must it be over?


class _TimedSocket(ssl.SSLSocket):
    """Keeps the exchange's deadline. A socket's own timeout is for each wait, so a server that sends a byte now and
    then would never reach it."""

    @override
    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self._shorten()
        return super().recv_into(*args, **kwargs)

    @override
    def send(self, *args: Any, **kwargs: Any) -> int:
        self._shorten()
        return super().send(*args, **kwargs)

    def _shorten(self) -> None:
        left = sending.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the whole exchange took too long")
        timeout = self.gettimeout()
        if math.isfinite(left) and (timeout is None or timeout > left):
            self.settimeout(left)


class _Connection(HTTPSConnection):
    """Remembers that a request was begun: until then, nothing was sent (urllib3 connects and verifies first)."""

    @override
    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        """With this, the first bytes leave."""
        sending.may()
        sending.begun = True
        super().endheaders(*args, **kwargs)

    @override
    def _tunnel(self) -> None:
        """Connect through a proxy. It answers before there is TLS, so this is cut off if it takes too long as a
        whole."""
        plain, left = self.sock, sending.deadline - time.monotonic()
        watch = threading.Timer(max(0.0, min(left, threading.TIMEOUT_MAX)), _cut, [plain])
        watch.daemon = True
        watch.start()
        try:
            super()._tunnel()
        finally:
            watch.cancel()


def _cut(plain: Any) -> None:
    with suppress(OSError):  # it is closed already
        plain.shutdown(socket.SHUT_RDWR)


class FreshPool(HTTPSConnectionPool):
    """Never reuses a connection that the server may be about to close."""

    ConnectionCls = _Connection

    def __init__(self, *args: Any, idle: float, **kwargs: Any) -> None:
        """`idle`: seconds without a call after which a connection is not used again."""
        self._idle = idle
        super().__init__(*args, **kwargs)

    @override
    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout)
        idle_since = getattr(conn, "idle_since", None)
        if idle_since is not None and time.monotonic() - idle_since > self._idle:
            conn.close()
        return conn

    @override
    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class Connections:
    """The connections to the servers of one cluster, with our own idea of trust. One for all threads."""

    def __init__(self, context: ssl.SSLContext, fingerprint: str, *, most: int = 64, idle: float = IDLE) -> None:
        """`most`: how many are kept for each server."""
        self._context, self._fingerprint, self._most, self._idle = context, fingerprint, most, idle
        self._lock = threading.Lock()  # guards the pools
        self._pools: dict[tuple[ApiServer, str], HTTPSConnectionPool] = {}

    def to(self, server: ApiServer, proxy: str = "") -> HTTPSConnectionPool:
        """`proxy`: an HTTP proxy's URL."""
        with self._lock:
            pool = self._pools.get((server, proxy))
            if pool is None:
                pool = self._pools[server, proxy] = self._open(server, proxy)
            return pool

    def _open(self, server: ApiServer, proxy: str) -> HTTPSConnectionPool:
        tls = trust(self._context, self._fingerprint)
        if not proxy:
            return FreshPool(server.host, server.port, maxsize=self._most, idle=self._idle, **tls)
        manager = ProxyManager(proxy, maxsize=self._most, proxy_headers=_proxy_headers(proxy), **tls)
        manager.pool_classes_by_scheme = fresh_pools(self._idle)
        pool = manager.connection_from_host(server.host, server.port, "https")
        assert isinstance(pool, HTTPSConnectionPool), pool
        return pool

    def connect(self, host: str, port: int, timeout: float) -> ssl.SSLSocket:
        """A connection of our own, outside of the pools."""
        return connect_tls(host, port, self._context, self._fingerprint, timeout)

    def close(self) -> None:
        """Now: urllib3 leaves it to the garbage collector, which an exception's traceback can hold up."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()


def trust(context: ssl.SSLContext, fingerprint: str) -> dict[str, Any]:
    """As urllib3 takes it."""
    pinned = {"assert_fingerprint": fingerprint} if fingerprint else {}
    return {"ssl_context": context, **pinned}


def fresh_pools(idle: float) -> Any:
    """By scheme."""
    return {"https": partial(FreshPool, idle=idle)}


def _proxy_headers(proxy: str) -> dict[str, str]:
    """Who we are to the proxy, if its URL says so."""
    told = urlsplit(proxy)
    if not told.username:
        return {}
    return make_headers(proxy_basic_auth=f"{unquote(told.username)}:{unquote(told.password or '')}")


def build_context(ca_file: str, fingerprint: str) -> ssl.SSLContext:
    """The system's trust store, or only the CA file. With only a fingerprint, we check that."""
    only_pinned = bool(fingerprint) and not ca_file
    try:
        if only_pinned:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's trust, which takes a while to read
        else:
            context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the CA file {ca_file} cannot be used: {error}",
            hint="it must be readable and hold certificates in PEM; a cluster's is /etc/pve/pve-root-ca.pem",
        ) from error
    context.sslsocket_class = _TimedSocket
    # PVE's own CAs (made before March 2026) have no keyUsage, which Python >= 3.13 minds by default.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if only_pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def checked_file(path: str, what: str) -> str:
    """The path with ~ expanded. Raises ConfigError if there is no such file."""
    file = expanded(path)
    if not file.is_file():
        raise ConfigError(f"{what} {path} does not exist")
    return str(file)
