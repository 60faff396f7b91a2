"""The first look at an address: does a PVE answer there, and which certificate does it show? Nothing secret is sent."""

import hashlib
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from typing import Any

from nixops_proxmox.errors import ConfigError, DeployError
from nixops_proxmox.pve.wire.lost import explain_connection
from nixops_proxmox.pve.wire.servers import ApiServer

SECONDS = 10.0  # for each wait
LONGEST = 65_536  # bytes of an answer that are read
REALMS = "/api2/json/access/domains"  # what PVE tells everybody: the realms that a login may choose
ON_THE_PORT = "PVE's API is https on port 8006: look at the address with which you open PVE's interface"


@dataclass(frozen=True)
class FirstSight:
    """What the server showed. `fingerprint`: the SHA-256 of its certificate. `trusted`: this computer trusts it, so no
    pin is needed."""

    fingerprint: str
    trusted: bool


def look_first(server: ApiServer, *, seconds: float = SECONDS) -> FirstSight:
    """Raises PveUnreachable or ConfigError, which says what is there instead."""
    shown, status, body = _ask(server, seconds)
    problem = find_stranger(status, body)
    if problem:
        raise ConfigError(f"{server.url} is no PVE: {problem}", hint=ON_THE_PORT)
    return FirstSight(shown, _is_trusted(server, seconds))


def _ask(server: ApiServer, seconds: float) -> tuple[str, int, bytes]:
    """The certificate's fingerprint, and the answer to a question that needs no login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # we only look at who it is
    with _in_words(server), _open(server, context, seconds) as connection:
        secured: Any = connection.sock
        shown = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
        connection.request("GET", server.prefix + REALMS)
        answer = connection.getresponse()
        return shown, answer.status, answer.read(LONGEST)


@contextmanager
def _open(server: ApiServer, context: ssl.SSLContext, seconds: float) -> Iterator[HTTPSConnection]:
    connection = HTTPSConnection(server.host, server.port, timeout=seconds, context=context)
    try:
        connection.connect()
        yield connection
    finally:
        connection.close()


@contextmanager
def _in_words(server: ApiServer) -> Iterator[None]:
    try:
        yield
    except HTTPException as error:
        raise ConfigError(
            f"{server.url} is no PVE: it answers with something that is no HTTP ({type(error).__name__})",
            hint=ON_THE_PORT,
        ) from error
    except OSError as error:
        raise _unreachable(server, error) from error


def _unreachable(server: ApiServer, error: OSError) -> DeployError:
    return explain_connection([error], str(server)) or ConfigError(
        f"{server} cannot be asked: {error}", hint=ON_THE_PORT
    )


def _is_trusted(server: ApiServer, seconds: float) -> bool:
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as for calls: PVE's own CAs have no keyUsage
    try:
        with (
            socket.create_connection((server.host, server.port), seconds) as plain,
            context.wrap_socket(plain, server_hostname=server.host),
        ):
            return True
    except OSError:
        return False


def find_stranger(status: int, body: bytes) -> str:
    """Who answers, if it is no PVE. Empty: it is one."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    data = said.get("data") if isinstance(said, dict) else None
    realms = {str(one.get("realm")) for one in data if isinstance(one, dict)} if isinstance(data, list) else set()
    if status == 200 and "pve" in realms:
        return ""
    if realms & {"pbs", "pdm", "pmg"}:
        names = {
            "pbs": "a Proxmox Backup Server",
            "pdm": "a Proxmox Datacenter Manager",
            "pmg": "a Proxmox Mail Gateway",
        }
        return f"{names[min(realms & set(names))]} answers there"
    return f"some other web server answers there, with status {status}"
