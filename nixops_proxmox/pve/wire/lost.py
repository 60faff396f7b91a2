"""What an exchange with PVE that ended without an answer means: was anything sent, and whom can we trust?"""

import ssl
from collections.abc import Iterator

import requests

from nixops_proxmox.errors import ConfigError, DeployError, PveOutcomeUnknown, PveUnreachable
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.refusals import redact


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
        return PveUnreachable(f"{server} cannot be reached: {text}", hint="is the address right, and the node up?")
    return PveOutcomeUnknown(f"{call.shown}: sent to {server}, but we got no answer ({text})")


def _untrusted(server: str, why: str) -> ConfigError:
    return ConfigError(
        f"{server} could not prove its identity: {why}; we sent nothing",
        hint="set `ca_file` (the cluster's is /etc/pve/pve-root-ca.pem) or the SHA-256 `fingerprint` in the profile,"
        " after checking it on the node",
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
