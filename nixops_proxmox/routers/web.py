"""One exchange with a router's HTTP API. TLS is verified as a hypervisor's is; nothing is sent before that."""

import json
from typing import Any
from urllib.parse import urlsplit

import requests

from nixops_proxmox.errors import ConfigError, RouterError, RouterOutcomeUnknown, RouterUnreachable
from nixops_proxmox.pve.wire.tls import build_context, checked_file
from nixops_proxmox.routers.adapter import TrustingAdapter
from nixops_proxmox.routers.profile import RouterProfile
from nixops_proxmox.texts import head

LONG = 180.0  # seconds; a commit of VyOS may take more than a minute


class Web:
    """Calls of one router. `basic`: the secret is a password of `username`."""

    def __init__(self, profile: RouterProfile, *, basic: bool, timeout: float = LONG) -> None:
        if not profile.endpoint:
            raise ConfigError(
                f"{profile.title}: `endpoint` is missing", hint="write it like https://router.example.org"
            )
        if profile.endpoint.startswith("http://") and not _is_loopback(profile.endpoint):
            raise ConfigError(
                f"{profile.title}: {profile.endpoint} is not encrypted",
                hint="use https://, or an SSH tunnel to http://127.0.0.1",
            )
        self.profile, self._timeout = profile, timeout
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies, and no netrc, of the environment
        ca_file = checked_file(profile.ca_file, "the CA file") if profile.ca_file else ""
        context = build_context(ca_file, profile.fingerprint)
        self._session.mount("https://", TrustingAdapter(context, profile.fingerprint))
        if basic and profile.username:
            self._session.auth = (profile.username, profile.get_secret())

    def call(
        self, method: str, path: str, body: object = None, *, form: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status and the JSON of the answer. RouterOutcomeUnknown: it was sent, and no answer came."""
        what = f"{self.profile.title}: {method} {path}"
        try:
            answer = self._session.request(
                method, f"{self.profile.endpoint}{path}", json=body, data=form, timeout=(10, self._timeout)
            )
        except (requests.exceptions.ConnectTimeout, requests.exceptions.SSLError) as error:
            raise RouterUnreachable(f"{what}: {error}", hint="is the endpoint right, and the fingerprint?") from error
        except requests.exceptions.ConnectionError as error:
            unsent = "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error)
            kind = RouterUnreachable if unsent else RouterOutcomeUnknown
            raise kind(f"{what}: {error}") from error
        except requests.exceptions.RequestException as error:
            raise RouterOutcomeUnknown(f"{what}: {error}") from error
        if answer.status_code in (502, 503, 504):
            raise RouterOutcomeUnknown(f"{what}: {answer.status_code} {answer.reason}; it may have done it")
        try:
            return answer.status_code, answer.json() if answer.content else None
        except json.JSONDecodeError as error:
            text = head(answer.text, 200)
            raise RouterError(f"{what}: {answer.status_code} {answer.reason}, and no JSON: {text!r}") from error

    def renew(self, timeout: float = LONG) -> None:
        """The next call makes a connection of its own, and waits so long for its answer."""
        self._session.close()
        self._timeout = timeout

    def close(self) -> None:
        self._session.close()


def _is_loopback(endpoint: str) -> bool:
    return urlsplit(endpoint).hostname in ("127.0.0.1", "::1", "localhost")
