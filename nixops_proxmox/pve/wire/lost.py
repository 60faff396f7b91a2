"""What an exchange with PVE that ended without an answer means: was anything sent, and whom can we trust?"""

import errno
import socket
import ssl
from collections.abc import Iterator, Sequence

from urllib3.exceptions import HTTPError, LocationValueError

from nixops_proxmox.errors import ConfigError, DeployError, PveOutcomeUnknown, PveUnreachable
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.refusals import redact
from nixops_proxmox.spelling import Verb, command


def translate_transport(error: HTTPError, call: Call, server: str, *, sent: bool) -> DeployError:
    """Our error for an exchange without an answer. `sent`: some of the request may have left."""
    causes = list(_chain(error))
    text = redact(str(causes[-1]) or type(error).__name__, call)
    if not sent:
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return _untrusted(server, f"its certificate is not trusted: {cause.verify_message}")
            if "ingerprint" in str(cause):
                return _untrusted(server, "its certificate does not have the fingerprint in the profile")
        if isinstance(error, LocationValueError):
            return ConfigError(f"{server} cannot be asked: {text}")
        return explain_connection(causes, server) or PveUnreachable(f"{server} cannot be reached: {text}", hint=_IS_UP)
    return PveOutcomeUnknown(f"{call.shown}: sent to {server}, but we got no answer ({text})")


_IS_UP = "is the address right, and the node up?"
_ROAD = "is the address right, is the node up, and does a firewall or a missing VPN stand between?"
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")  # OpenSSL's words
_NO_ROAD = (errno.ENETUNREACH, errno.EHOSTUNREACH)


def explain_connection(causes: Sequence[BaseException], server: str) -> DeployError | None:
    """Why no connection came about, with what to look at. None: for no reason that we know. Nothing was sent."""
    return next((known for cause in causes if (known := _explain_cause(cause, server)) is not None), None)


def _explain_cause(cause: BaseException, server: str) -> DeployError | None:
    match cause:
        case socket.gaierror():
            return PveUnreachable(
                f"{server} cannot be reached: there is no host of that name",
                hint="is it spelled right? An IP address works, too",
            )
        case ssl.SSLError() if cause.reason in _NO_TLS:
            return PveUnreachable(
                f"{server} cannot be reached: what listens there does not speak TLS",
                hint="PVE's API is https on port 8006",
            )
        case ConnectionRefusedError():
            return PveUnreachable(
                f"{server} cannot be reached: nothing listens on that port",
                hint="PVE's API is on port 8006: is the port right, and the node up?",
            )
        case TimeoutError():
            return PveUnreachable(f"{server} cannot be reached: it did not answer in time", hint=_ROAD)
        case OSError() if cause.errno in _NO_ROAD:
            return PveUnreachable(f"{server} cannot be reached: no way leads to its network", hint=_ROAD)
    return None


def _untrusted(server: str, why: str) -> ConfigError:
    return ConfigError(
        f"{server} could not prove its identity: {why}; we sent nothing",
        hint="set `ca_file` (the cluster's is /etc/pve/pve-root-ca.pem) or the SHA-256 `fingerprint` in the profile,"
        f" after checking it on the node; {command(Verb.INIT)} shows and pins it",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what is behind it; urllib3 hides causes in args and `reason` as well."""
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
