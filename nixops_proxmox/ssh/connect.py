"""From an address to a paramiko transport whose host key is proven: sockets, jump hosts, and errors, once for all."""

import getpass
import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import monotonic

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from nixops_proxmox.errors import DeployError, HostKeyChanged, SshRefused, SshUnreachable
from nixops_proxmox.model import Endpoint
from nixops_proxmox.spelling import Verb, command
from nixops_proxmox.ssh.argv import Hop, bracketed, canonical_host
from nixops_proxmox.ssh.identity import LoginKeys, identity_for, keys_of
from nixops_proxmox.ssh.jump import resolve_jump
from nixops_proxmox.ssh.known_hosts import find_trusted
from nixops_proxmox.ssh.login import SshLogin, Stop
from nixops_proxmox.ssh.trust import ALGORITHMS, SIGNATURES, Authority, find_named

RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")  # an ssh-rsa key signs by these
FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}  # AddressFamily
MOST_KEYS = 5  # sshd's default takes six attempts
DEAD_AFTER_MS = 60_000  # unacknowledged data for so long means that the connection is gone (TCP_USER_TIMEOUT)

# What paramiko has to say comes as an exception too, which we translate. Its log would print tracebacks besides.
# For debugging: lower this logger's level.
LOG_CHANNEL = "nixops_proxmox.ssh.paramiko"
logging.getLogger(LOG_CHANNEL).setLevel(logging.CRITICAL)


class _Transport(paramiko.Transport):
    """paramiko's thread wakes up ten times a second to see if it should end. Ours is told by `shut`. A thousand
    connections that wait for an installation cost nothing then."""

    _active_check_timeout = 2.0


@dataclass
class Link:
    """An open transport and those it goes through, to be closed together."""

    transport: paramiko.Transport
    connected: float  # when TCP was there, monotonic
    below: tuple[paramiko.Transport, ...] = ()

    def close(self) -> None:
        for transport in (self.transport, *reversed(self.below)):
            shut(transport.sock)
            transport.close()


def open_link(login: SshLogin, *, stop: Stop | None = None, reached: Callable[[], None] = lambda: None) -> Link:
    """Connect and prove the host key, through the jump hosts if there are any. No login yet. `reached` is called when
    the connection is there, and nothing is proven.

    Raises SshUnreachable, HostKeyChanged, and SshRefused for a jump host that does not let us in.
    """
    if not login.host_keys:
        raise HostKeyChanged(
            f"{describe(login.endpoint)}: we know no host key for it, so we cannot trust any answer there"
        )
    deadline = monotonic() + login.timeout
    below: list[paramiko.Transport] = []
    try:
        for hop in _hops(login):
            below.append(_open_hop(hop, login, below, deadline, stop))
        channel, connected = _reach(login.endpoint.host, login.endpoint.port, below, deadline, stop)
        reached()
        transport = prove(channel, login.host_keys, describe(login.endpoint), connected + login.answer, stop)
    except BaseException:
        for opened in reversed(below):
            opened.close()
        raise
    return Link(transport, connected, tuple(below))


@contextmanager
def start_stream(login: SshLogin, port: int, timeout: float) -> Iterator[socket.socket | paramiko.Channel]:
    """A byte stream to another port of the machine, by the way that a login takes. Raises SshUnreachable."""
    deadline = monotonic() + (login.timeout if login.endpoint.jump else timeout)
    below: list[paramiko.Transport] = []
    stream: socket.socket | paramiko.Channel | None = None
    try:
        for hop in _hops(login):
            below.append(_open_hop(hop, login, below, deadline, None))
        stream, _ = _reach(login.endpoint.host, port, below, deadline, None)
        yield stream
    finally:
        if stream is not None:
            shut(stream)
            stream.close()
        for opened in reversed(below):
            opened.close()


def _hops(login: SshLogin) -> tuple[Hop, ...]:
    jump = login.endpoint.jump
    return resolve_jump(jump, login.jump_config) if login.hops is None else login.hops(jump)


def describe(endpoint: Endpoint) -> str:
    via = f" through {endpoint.jump}" if endpoint.jump else ""
    return f"{bracketed(endpoint.host)}:{endpoint.port}{via}"


def prove(
    sock: socket.socket | paramiko.Channel,
    keys: Sequence[str],
    what: str,
    deadline: float,
    stop: Stop | None = None,
    authority: Authority | None = None,
) -> paramiko.Transport:
    """Exchange keys with the server. It must prove that it has one of `keys`, or what `authority` believes."""
    if stop is not None:
        stop.when_set(lambda: shut(sock))
    with _translated(what):
        transport = _Transport(sock)  # a channel is a socket by shape
    transport.set_log_channel(LOG_CHANNEL)
    try:
        # Only these types: else a server with several keys may show one that we do not have, and be taken for another.
        asked = authority.proposal() if authority else key_algorithms(keys)
        options = transport.get_security_options()
        options.key_types = asked
        # First those that need no MAC: paramiko compares MACs a byte at a time, in Python.
        options.ciphers = tuple(sorted(options.ciphers, key=lambda name: "-gcm@" not in name))
        left = max(0.1, deadline - monotonic())
        transport.banner_timeout = transport.handshake_timeout = left
        with _translated(what):
            transport.start_client(timeout=left)
        check_host_key(transport, keys, what, authority)
    except BaseException:
        shut(sock)
        transport.close()
        raise
    return transport


def key_algorithms(keys: Sequence[str]) -> tuple[str, ...]:
    """The signature algorithms by which these public keys can be proven."""
    types = dict.fromkeys(key.split()[0] for key in keys)
    return tuple(name for kind in types for name in (RSA_SIGNATURES if kind == "ssh-rsa" else (kind,)))


def check_host_key(
    transport: paramiko.Transport, keys: Sequence[str], what: str, authority: Authority | None = None
) -> None:
    if not transport.initial_kex_done:  # start_client says nothing when its time is over
        raise SshUnreachable(f"{what}: connected, but it does not speak SSH in time")
    shown = presented_key(transport)
    if authority is not None:
        _check_believed(transport, authority, what)
        return
    if not find_named(shown, keys):
        raise _another(what, shown, " or ".join(keys))


def _check_believed(transport: paramiko.Transport, authority: Authority, what: str) -> None:
    objection = authority.objection(transport)
    if objection:
        trusted = authority.trusted
        known = [*trusted.keys, *(trusted.bare.keys if trusted.bare is not None else ())]
        wanted = " or ".join(known) or "one that is certified"
        raise _another(what, presented_key(transport), f"{wanted}; {objection}")


def _another(what: str, shown: str, wanted: str) -> HostKeyChanged:
    return HostKeyChanged(
        f"{what}: ANOTHER MACHINE ANSWERS: it shows the host key {shown}, not {wanted}",
        hint="another machine has this address, or somebody is in between; nothing was sent to it",
    )


def presented_key(transport: paramiko.Transport) -> str:
    """The proven host key, "ssh-ed25519 AAAA…"."""
    key = transport.get_remote_server_key()
    return f"{key.get_name()} {key.get_base64()}"


def authenticate(transport: paramiko.Transport, user: str, identity: LoginKeys, what: str, timeout: float) -> None:
    """Log in with the first key that is accepted. SshRefused says what was tried."""
    transport.auth_timeout = timeout
    tried: list[str] = []
    with closing(keys_of(identity)) as keys:
        for offer in keys:
            tried.append(offer.name)
            if offer.key is not None and _lets_in(transport, user, offer.key, what, len(tried)):
                return
            if len(tried) > MOST_KEYS and not transport.is_active():
                break
    offered = ", ".join(tried) or "no key (none was found)"
    raise SshRefused(
        f"{what}: it is the right machine, but it does not let {user} in with {offered}",
        hint=f"the key must be in the machine's authorized keys: {command(Verb.DEPLOY)} puts it there,"
        " or add it on the console",
    )


def _lets_in(transport: paramiko.Transport, user: str, key: paramiko.PKey, what: str, number: int) -> bool:
    try:
        with _translated(what):
            rest = transport.auth_publickey(user, key)
    except SshRefused:
        return False
    except SshUnreachable:
        if number <= MOST_KEYS:  # sshd hangs up after so many refusals (MaxAuthTries)
            raise
        return False
    return not rest and transport.is_authenticated()


def _open_hop(
    hop: Hop, login: SshLogin, below: Sequence[paramiko.Transport], deadline: float, stop: Stop | None
) -> paramiko.Transport:
    what = f"jump host {bracketed(hop.host)}:{hop.port}"
    files = hop.known_hosts or login.jump_known_hosts
    trusted = find_trusted(hop.host, hop.port, files, hop.alias)
    authority = Authority(trusted, hop.alias or hop.host, hop.algorithms or ALGORITHMS, hop.signatures or SIGNATURES)
    if not trusted:
        raise SshRefused(
            f"{what}: its host key is not in {', '.join(map(str, files))}",
            hint="connect to it once with ssh, and check the fingerprint it shows",
        )
    sock, _ = _reach(hop.host, hop.port, below, deadline, stop, FAMILIES[hop.family])
    transport = prove(sock, (), what, deadline, stop, authority)
    try:
        authenticate(
            transport,
            hop.user or _own_name(),
            login.jump_identity or identity_for(hop),
            what,
            max(1.0, deadline - monotonic()),
        )
    except BaseException:
        transport.close()
        raise
    return transport


def _own_name() -> str:
    return getpass.getuser()


def _reach(
    host: str,
    port: int,
    below: Sequence[paramiko.Transport],
    deadline: float,
    stop: Stop | None,
    family: int = socket.AF_UNSPEC,
) -> tuple[socket.socket | paramiko.Channel, float]:
    """A byte stream to host and port: by TCP, or by the last transport below."""
    what = f"{bracketed(host)}:{port}"
    left = max(0.1, deadline - monotonic())
    with _translated(what):
        if not below:
            return connect_tcp(canonical_host(host), port, left, stop, family), monotonic()
        target = (canonical_host(host), port)
        return below[-1].open_channel("direct-tcpip", target, ("127.0.0.1", 0), timeout=left), monotonic()


def connect_tcp(
    host: str, port: int, timeout: float, stop: Stop | None = None, wanted: int = socket.AF_UNSPEC
) -> socket.socket:
    """The first address of the name that accepts. Raises OSError as the last one failed. A stop ends a connect that
    hangs."""
    deadline = monotonic() + timeout
    failure: OSError = OSError(f"no address for {host}")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, wanted, socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        if stop is not None:
            stop.when_set(lambda sock=sock: shut(sock))  # type: ignore[misc]
        try:
            sock.settimeout(max(0.05, deadline - monotonic()))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
            if monotonic() >= deadline or (stop is not None and stop.is_set()):
                break
            continue
        _keep_alive(sock)
        return sock
    raise failure


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_MS)


def shut(sock: object) -> None:
    """End what blocks on the socket, now: only closing it would leave another thread's connect or recv waiting."""
    if isinstance(sock, socket.socket):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # not connected, or closed already: nothing blocks on it
            return
    elif isinstance(sock, paramiko.Channel):
        try:
            sock.close()
        except (EOFError, OSError, paramiko.SSHException):  # the jump host's connection ended before it
            return


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """The one table from foreign exceptions to ours, for everything before a command runs."""
    try:
        yield
    except DeployError:
        raise
    except paramiko.AuthenticationException as error:
        # The same class for a refusal, for a time-out, and for a connection that ended meanwhile.
        kind = SshUnreachable if re.search(r"timeout|transport shut down", str(error)) else SshRefused
        raise kind(f"{what}: {error}") from error
    except IncompatiblePeer as error:
        if "host key" in str(error):
            raise HostKeyChanged(f"{what}: it has no host key of the expected type: {error}") from error
        raise SshUnreachable(f"{what}: {error}") from error
    except paramiko.ChannelException as error:
        raise SshUnreachable(f"{what}: the jump host cannot connect to it ({error.text})") from error
    except TimeoutError as error:
        raise SshUnreachable(f"{what}: no answer (timeout)") from error
    except socket.gaierror as error:
        raise SshUnreachable(f"{what}: the name has no address ({error.strerror})") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise SshUnreachable(f"{what}: {_text(error)}") from error


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or "the connection was closed during the key exchange"
