"""How we say who we are: an API token, or a ticket that is fetched, renewed and kept under a lock."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from nixops_proxmox.errors import ConfigError, NotAuthenticated
from nixops_proxmox.pve.wire.calls import Call, HttpMethod
from nixops_proxmox.secrecy import learn

RENEW_AGE = 3600.0  # seconds; a ticket lives for two hours

Send = Callable[[Call], Any]  # sends one call without credentials, returns its data


class Authentication(Protocol):
    def headers(self, method: HttpMethod) -> Mapping[str, str]:
        """What to send with a request of this method; may log in first."""
        ...

    def renew(self, refused: Mapping[str, str]) -> bool:
        """The server refused these headers with 401: is it worth another try, with other ones?"""
        ...


class TokenLogin:
    """`identity` is user@realm!name. Not in repr, not in any message."""

    def __init__(self, identity: str, secret: str) -> None:
        self._header = {"Authorization": f"PVEAPIToken={identity}={secret}"}

    def headers(self, method: HttpMethod) -> Mapping[str, str]:  # noqa: ARG002  # one signature for all logins
        return self._header

    def renew(self, refused: Mapping[str, str]) -> bool:  # noqa: ARG002
        return False


class TicketLogin:
    """A password, and for TOTP either one code or the secret that makes them.

    One thread logs in. The others wait for its ticket. Renewal uses the ticket as its own password (PVE allows it),
    so a second factor is needed only once.
    """

    def __init__(
        self,
        username: str,
        password: str,
        ask: Send,
        *,
        otp: str = "",
        totp_secret: str = "",
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._username, self._password, self._otp, self._totp_secret = username, password, otp, totp_secret
        self._ask, self._clock, self._wall = ask, clock, wall
        self._lock = threading.Lock()
        self._ticket, self._csrf, self._born = "", "", 0.0

    def headers(self, method: HttpMethod) -> Mapping[str, str]:
        with self._lock:
            if not self._ticket:
                self._log_in()
            elif self._clock() - self._born > RENEW_AGE:
                self._renew_ticket()
            # the server unescapes the cookie, so a percent sign in it must be escaped
            headers = {"Cookie": f"PVEAuthCookie={self._ticket.replace('%', '%25')}"}
            return headers if method == "GET" else headers | {"CSRFPreventionToken": self._csrf}

    def renew(self, refused: Mapping[str, str]) -> bool:
        with self._lock:
            if refused.get("Cookie") == f"PVEAuthCookie={self._ticket.replace('%', '%25')}":
                self._ticket = ""  # not yet replaced by another thread
        return True

    def _renew_ticket(self) -> None:
        try:
            self._keep(self._ask(self._call({"username": self._username, "password": self._ticket})))
        except NotAuthenticated:
            self._log_in()

    def _log_in(self) -> None:
        answer = self._ask(self._call({"username": self._username, "password": self._password}))
        if isinstance(answer, Mapping) and answer.get("NeedTFA"):
            learn(str(answer.get("ticket", "")))
            answer = self._second_factor(str(answer.get("ticket", "")))
        self._keep(answer)

    def _second_factor(self, challenge: str) -> Any:
        factors = offered_factors(challenge)
        if not (self._otp or self._totp_secret):
            raise NotAuthenticated(
                f"{self._username} needs a second factor ({', '.join(factors) or 'unknown'})",
                hint="use an API token, or give the profile `totp_secret`, or PROXMOX_VE_OTP for one run",
            )
        if factors and "totp" not in factors:
            raise NotAuthenticated(
                f"{self._username} has no TOTP, only {', '.join(factors)}", hint="use an API token: it needs none"
            )
        code = totp_code(self._totp_secret, self._wall()) if self._totp_secret else self._otp
        params = {"username": self._username, "password": f"totp:{code}", "tfa-challenge": challenge}
        return self._ask(self._call(params))

    def _call(self, params: Mapping[str, str]) -> Call:
        # PVE 7.4 answers in the two-step form only when asked to.
        return Call("POST", "/access/ticket", params={**params, "new-format": True})

    def _keep(self, answer: Any) -> None:
        ticket = answer.get("ticket") if isinstance(answer, Mapping) else None
        csrf = answer.get("CSRFPreventionToken") if isinstance(answer, Mapping) else None
        if not _is_header(ticket) or not _is_header(csrf) or answer.get("NeedTFA"):
            raise NotAuthenticated(f"{self._username}: the login was answered without a ticket")
        learn(str(ticket), str(csrf))
        self._ticket, self._csrf, self._born = str(ticket), str(csrf), self._clock()


def _is_header(text: Any) -> bool:
    return isinstance(text, str) and 0 < len(text) < 8000 and text.isascii() and text.isprintable() and ";" not in text


def offered_factors(challenge: str) -> tuple[str, ...]:
    """The second factors in a half ticket: `PVE:!tfa!{"totp"%3Atrue}:…`. Empty if it cannot be read."""
    body = unquote(challenge.partition("!tfa!")[2].partition(":")[0])
    try:
        offered = json.loads(body)
    except ValueError:
        return ()
    return tuple(str(name) for name, value in offered.items() if value) if isinstance(offered, dict) else ()


def totp_code(secret: str, now: float, *, digits: int = 6) -> str:
    """PVE's TOTP (RFC 6238, SHA-1, 30 seconds). `secret` in base32, blanks allowed. ConfigError if it is not."""
    from pyotp import TOTP

    class Totp(TOTP):
        min_secret_length_bits = 0  # PVE takes short secrets, so users who have one must be able to log in

    cleaned = secret.replace(" ", "").replace("-", "").upper()
    try:
        return Totp(cleaned, digits=digits).at(int(now))
    except ValueError as error:
        raise ConfigError("`totp_secret` is not base32") from error
