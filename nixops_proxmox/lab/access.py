"""Users, API tokens, tickets and the second factor."""

import base64
import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

import pyotp

from nixops_proxmox.lab.permissions import ROOT, Permissions
from nixops_proxmox.lab.privileges import roles
from nixops_proxmox.lab.refusals import login_failed, unauthorized
from nixops_proxmox.lab.release import Release

TICKET_LIFE = 2 * 3600
CLOCK_GRACE = 300


@dataclass(frozen=True)
class Realm:
    """`type`: pam, pve, ldap, ad or openid."""

    type: str
    comment: str = ""

    @property
    def takes_passwords(self) -> bool:
        """Users of OpenID prove who they are to somebody else, in a browser."""
        return self.type != "openid"


REALMS = {
    "pam": Realm("pam", "Linux PAM standard authentication"),
    "pve": Realm("pve", "Proxmox VE authentication server"),
}


@dataclass
class Token:
    name: str
    secret: str
    privsep: bool = True
    expire: int = 0
    comment: str = ""


@dataclass
class User:
    userid: str
    password: str = ""
    enabled: bool = True
    expire: int = 0
    comment: str = ""
    email: str = ""
    firstname: str = ""
    lastname: str = ""
    keys: str = ""  # what an administrator registered as second factors, in PVE's own form
    totp: str = ""  # base32 secret; the second factor, when set
    tokens: dict[str, Token] = field(default_factory=dict)


@dataclass(frozen=True)
class Auth:
    """Who calls. `who` is what tasks belong to and ACLs name: user@realm or user@realm!token."""

    who: str
    ticket: bool = False

    @property
    def user(self) -> str:
        return self.who.partition("!")[0]

    @property
    def token(self) -> str:
        return self.who.partition("!")[2]

    @property
    def is_root(self) -> bool:
        """root@pam itself: its tokens are refused what only root may do."""
        return self.who == ROOT


class Access:
    """The user database of one cluster."""

    def __init__(self, release: Release, now: Callable[[], float]) -> None:
        self._release = release
        self._now = now
        self._key = secrets.token_bytes(32)
        self.users: dict[str, User] = {ROOT: User(ROOT, secrets.token_urlsafe(12))}
        self.realms = dict(REALMS)
        self.group_comments: dict[str, str] = {}
        self.predefined = roles(release)
        self.permissions = Permissions(dict(self.predefined), separated=self._is_separated)

    def _is_separated(self, who: str) -> bool:
        user, _, name = who.partition("!")
        token = self.users[user].tokens.get(name) if user in self.users else None
        return token is None or token.privsep

    def add_token(self, userid: str, name: str, *, privsep: bool = True, expire: int = 0, comment: str = "") -> str:
        """The secret, which is told only once."""
        secret = str(uuid.uuid4())
        self.users[userid].tokens[name] = Token(name, secret, privsep, expire, comment)
        return secret

    # Logging in.

    def login(self, userid: str, password: str, otp: str | None = None) -> str | dict[str, bool]:
        """The user's id, or the second factors it still has to give."""
        user = self.users.get(userid)
        if user is None or not self._is_live(user):
            raise login_failed()
        if self._is_ticket_of(password, userid):
            return userid
        realm = self.realms.get(userid.rpartition("@")[2])
        if realm is None or not realm.takes_passwords:
            raise login_failed()
        if not user.password or not hmac.compare_digest(user.password.encode(), password.encode()):
            raise login_failed()
        if not user.totp:
            return userid
        if otp is None:
            return {"totp": True}
        self.prove_second_factor(user, otp)
        return userid

    def prove_second_factor(self, user: User, response: str) -> None:
        kind, _, code = response.rpartition(":")
        good = [totp(user.totp, self._now() + drift) for drift in (-30, 0, 30)]
        if kind not in ("totp", "") or code not in good:
            raise login_failed()

    def _is_live(self, user: User) -> bool:
        return user.enabled and not (user.expire and user.expire < self._now())

    def _is_ticket_of(self, text: str, userid: str) -> bool:
        return text.startswith("PVE:") and self.ticket_user(text) in (userid, ROOT)

    # Tickets.

    def _sign(self, text: str, purpose: str) -> str:
        digest = hmac.new(self._key, f"{purpose}:{text}".encode(), hashlib.sha512).digest()
        return base64.b64encode(digest).decode()

    def issue_ticket(self, userid: str) -> str:
        plain = f"PVE:{userid}:{int(self._now()):08X}"
        return f"{plain}::{self._sign(plain, 'ticket')}"

    def issue_challenge(self, userid: str, factors: dict[str, bool]) -> str:
        """A half ticket: it names the factors, and proves that the password was right."""
        listed = json.dumps(factors, separators=(",", ":")).replace(":", "%3A")
        plain = f"PVE:!tfa!{listed}:{int(self._now()):08X}"
        return f"{plain}::{self._sign(plain + userid, 'tfa')}"

    def is_challenge_of(self, challenge: str, userid: str) -> bool:
        plain, _, signature = challenge.partition("::")
        return hmac.compare_digest(signature, self._sign(plain + userid, "tfa")) and self._is_fresh(plain, 600)

    def ticket_user(self, ticket: str) -> str | None:
        """Whose ticket it is, if it is genuine and not too old."""
        plain, separator, signature = ticket.partition("::")
        if not separator or plain.count(":") != 2 or not hmac.compare_digest(signature, self._sign(plain, "ticket")):
            return None
        return plain.split(":")[1] if self._is_fresh(plain, TICKET_LIFE) else None

    def _is_fresh(self, plain: str, life: float) -> bool:
        try:
            age = self._now() - int(plain.rpartition(":")[2], 16)
        except ValueError:
            return False
        return -CLOCK_GRACE < age < life

    def issue_csrf(self, userid: str) -> str:
        stamp = f"{int(self._now()):08X}"
        digest = hmac.new(self._key, f"csrf:{stamp}:{userid}".encode(), hashlib.sha256).digest()
        return f"{stamp}:{base64.b64encode(digest).decode().rstrip('=')}"

    def is_csrf(self, token: str, userid: str) -> bool:
        stamp, _, given = token.partition(":")
        digest = hmac.new(self._key, f"csrf:{stamp}:{userid}".encode(), hashlib.sha256).digest()
        good = base64.b64encode(digest).decode().rstrip("=")
        return hmac.compare_digest(given, good) and self._is_fresh(stamp, TICKET_LIFE)

    # Each request.

    def authenticate(self, header: str | None, cookie: str | None) -> Auth:
        """Who is asking; the cookie wins over the header. Raises 401."""
        if cookie is None and header is not None and header.startswith("PVEAuthCookie="):
            cookie = header.removeprefix("PVEAuthCookie=")
        if cookie is not None:
            return self._by_ticket(unquote(cookie))
        if header is None or not header.startswith("PVEAPIToken"):
            raise unauthorized("No ticket")
        value = header.removeprefix("PVEAPIToken")
        if not value or value[0] not in "= ":
            raise self._failed("no tokenid specified")
        return self._by_token(unquote(value[1:].partition(";")[0]))

    def _by_ticket(self, ticket: str) -> Auth:
        userid = self.ticket_user(ticket)
        if userid is None:
            raise self._failed("permission denied - invalid PVE ticket")
        user = self.users.get(userid)
        if user is None:
            raise self._failed(f"no such user ('{userid}')")
        if not self._is_live(user):
            raise self._failed(f"user '{userid}' is disabled" if not user.enabled else "user is expired")
        return Auth(userid, ticket=True)

    def _by_token(self, value: str) -> Auth:
        who, _, secret = value.partition("=")
        userid, bang, name = who.partition("!")
        if not bang or not secret:
            raise self._failed("no tokenid specified")
        user = self.users.get(userid)
        if user is None:
            raise self._failed(f"no such user ('{userid}')")
        if not self._is_live(user):
            raise self._failed(f"user '{userid}' is disabled")
        token = user.tokens.get(name)
        if token is None:
            raise self._failed(f"no such token '{name}' for user '{userid}'")
        if token.expire and token.expire < self._now():
            raise self._failed(f"token '{who}' access expired")
        if not hmac.compare_digest(token.secret.encode(), secret.encode()):
            raise self._failed("invalid token value!")
        return Auth(who)

    def _failed(self, cause: str) -> Exception:
        return unauthorized("Authentication failed!" if self._release.uniform_refusal else cause)


class _Totp(pyotp.TOTP):
    min_secret_length_bits = 0  # PVE takes short secrets


def totp(secret: str, when: float) -> str:
    """RFC 6238: six digits, 30 seconds, SHA-1."""
    return _Totp(secret).at(int(when))
