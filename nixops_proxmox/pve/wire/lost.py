"""What an exchange with PVE that ended without an answer means: was anything sent, and whom can we trust?"""

import errno
import socket
import ssl
from collections.abc import Iterator, Sequence

import requests

from nixops_proxmox.errors import ConfigError, DeployError, PveOutcomeUnknown, PveUnreachable
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.refusals import redact
from nixops_proxmox.spelling import Verb, command


def translate_transport(error: requests.RequestException, call: Call, server: str, *, sent: bool) -> DeployError:
    """Our error for an exchange without an answer. `sent`: some of the request may have left."""
    causes = list(_chain(error))
    text = redact(str(causes[-1]) or type(error).__name__, call)
    if not sent:
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return _untrusted(server, f"its certificate is not trusted: {cause.verify_message}")
            if "ingerprint" in str(cause):
                return _untrusted(server, "its certificate does not have the fingerprint in the profile")
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidHeader):
            return ConfigError(f"{server} cannot be asked: {text}")
        return explain_connection(causes, server) or PveUnreachable(f"{server} cannot be reached: {text}", hint=_IS_UP)
    return PveOutcomeUnknown(f"{call.shown}: sent to {server}, but we got no answer ({text})")


_IS_UP = "is the address right, and the node up?"
_ROAD = "is the address right, is the node up, and does a firewall or a missing VPN stand between?"
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")  # OpenSSL's words for it
_ERRNOS = {
    errno.ECONNREFUSED: (
        "nothing listens on that port",
        "PVE's API is on port 8006: is the port right, and the node up?",
    ),
    errno.ENETUNREACH: ("this computer has no way to its network", _ROAD),
    errno.EHOSTUNREACH: ("no way leads to it", _ROAD),
    errno.ETIMEDOUT: ("it did not answer in time", _ROAD),
}


def explain_connection(causes: Sequence[BaseException], server: str) -> DeployError | None:
    """Why no connection came about, with what to look at. None: for no reason that we know. Nothing was sent."""
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            words, hint = "there is no host of that name", "is it spelled right? An IP address works, too"
        elif isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            words, hint = "what listens there does not speak TLS", "PVE's API is https on port 8006"
        elif isinstance(cause, TimeoutError):
            words, hint = _ERRNOS[errno.ETIMEDOUT]
        elif isinstance(cause, OSError) and cause.errno in _ERRNOS:
            words, hint = _ERRNOS[cause.errno]
        else:
            continue
        return PveUnreachable(f"{server} cannot be reached: {words}", hint=hint)
    return None


def _untrusted(server: str, why: str) -> ConfigError:
    return ConfigError(
        f"{server} could not prove its identity: {why}; we sent nothing",
        hint="set `ca_file` (the cluster's is /etc/pve/pve-root-ca.pem) or the SHA-256 `fingerprint` in the profile,"
        f" after checking it on the node; {command(Verb.INIT)} shows and pins it",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what is behind it; requests and urllib3 hide causes in args and `reason` as well."""
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        current = todo.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        behind = [current.__cause__, getattr(current, "reason", None), *current.args]
        todo.extend(item for item in behind if isinstance(item, BaseException))
