"""Which PVE, and as whom: profiles from a TOML file and from the environment, read once and checked."""

import difflib
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.paths import config_dir
from nixops_proxmox.private_files import read_private_toml
from nixops_proxmox.pve.wire.servers import ApiServer, normalized_fingerprint, parse_server
from nixops_proxmox.pve.wire.windows import FORM, Window, parse_window
from nixops_proxmox.spelling import Verb, command

DEFAULT = "default"
DEFAULT_VMIDS = (100, 999_999)  # PVE's own default range


@dataclass(frozen=True)
class Profile:
    """One PVE API and our credentials for it; secrets are not in its repr. A command is argv, run when first needed."""

    name: str
    servers: tuple[ApiServer, ...]
    token: str = field(default="", repr=False)  # user@realm!name=secret
    token_id: str = ""  # user@realm!name, for a token_command that prints only the secret
    token_command: tuple[str, ...] = ()
    username: str = ""  # user@realm
    password: str = field(default="", repr=False)
    password_command: tuple[str, ...] = ()
    otp: str = field(default="", repr=False)  # one code, good for one login
    totp_secret: str = field(default="", repr=False)  # base32
    ca_file: str = ""
    fingerprint: str = ""  # SHA-256, 64 hex digits
    proxy: str = field(default="", repr=False)  # an HTTP proxy's URL; the environment's is not used
    vmids: tuple[int, int] = DEFAULT_VMIDS  # where VMIDs are chosen, inclusive
    reserve: int = 0  # MiB of a node's memory that placement does not use
    parallel: int = 32  # allocating calls at once for each node and storage, at most
    confirm: bool = False  # each change of a machine there needs a word
    windows: tuple[Window, ...] = ()  # when machines there may be changed; none: always
    namespace: str = ""  # a network namespace through which a lab's guests are reached

    @property
    def is_token(self) -> bool:
        return bool(self.token or self.token_command)


def profiles_file() -> Path:
    return config_dir() / "profiles.toml"


def load_profile(name: str = DEFAULT, *, path: Path | None = None, environ: Mapping[str, str] | None = None) -> Profile:
    """The profile of that name; PROXMOX_VE_* variables count for the one that PROXMOX_VE_PROFILE names (`default`).

    Raises ConfigError, which names the file, the key, and the nearest known one.
    """
    return parse_profile(name, load_table(name, path=path, environ=environ))


def load_table(name: str, *, path: Path | None = None, environ: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """The profile's values as they are written. Raises as `load_profile` does for a profile that is not there."""
    environment = os.environ if environ is None else environ
    path = path or profiles_file()
    table = dict(read_profiles(path).get(name, {}))
    if name == environment.get("PROXMOX_VE_PROFILE", DEFAULT):
        table = _with_environment(table, environment)
    if not table:
        known = ", ".join(sorted(read_profiles(path))) or "none"
        raise ConfigError(
            f"there is no profile {name!r} (in {path}: {known})",
            hint=f"{command(Verb.INIT)} writes one; or set PROXMOX_VE_ENDPOINT and PROXMOX_VE_API_TOKEN",
        )
    return table


def named_in(table: Mapping[str, Any]) -> str:
    """Whose credentials the table is about: user@realm!token or user@realm, without a look at any secret. Empty: it
    does not say."""
    token = str(table.get("token") or table.get("api_token") or "").removeprefix("PVEAPIToken=").partition("=")[0]
    user = str(table.get("username") or table.get("user") or "")
    named = f"{user}!{table['token_name']}" if user and table.get("token_name") else ""
    return (token or str(table.get("token_id") or "") or named or user).strip()


def lacks_secret(table: Mapping[str, Any]) -> bool:
    """It names a token, and has no secret for it."""
    return "!" in named_in(table) and not table.keys() & {"api_token", *_SECRETS}


def servers_in(name: str, table: Mapping[str, Any]) -> tuple[ApiServer, ...]:
    """Where the table's hypervisor is, without a look at its credentials."""
    return _Reader(name, {_ALIASES.get(key, key): value for key, value in table.items()}).servers()


def as_administrator(name: str, table: Mapping[str, Any], username: str, password: str, otp: str = "") -> Profile:
    """The profile's hypervisor, with another's credentials."""
    kept = {key: value for key, value in table.items() if _ALIASES.get(key, key) not in _CREDENTIALS | {"username"}}
    given = {"username": username, "password": password} | ({"otp": otp} if otp else {})
    return parse_profile(name, kept | given)


def list_profiles(*, path: Path | None = None, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Names, those of the environment included."""
    environment = os.environ if environ is None else environ
    names = set(read_profiles(path or profiles_file()))
    if environment.get("PROXMOX_VE_ENDPOINT"):
        names.add(environment.get("PROXMOX_VE_PROFILE", DEFAULT))
    return tuple(sorted(names))


def read_profiles(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The tables of the file by name: `[profiles.NAME]` or `[NAME]`. Nothing if there is no file.

    Refuses a file that others may read: it may hold credentials.
    """
    data = read_private_toml(path)
    nested = data.pop("profiles", {})
    tables = {**data, **nested} if isinstance(nested, dict) else {**data, "profiles": nested}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name!r} is outside of a profile", hint="begin with a line like [default]")
    return tables


_ALIASES = {
    "api_token": "token",
    "endpoint": "endpoints",
    "host": "endpoints",
    "url": "endpoints",
    "server_url": "endpoints",
    "serverUrl": "endpoints",
    "user": "username",
    "ca": "ca_file",
    "verify_ssl": "insecure",
    "verifySSL": "insecure",
}
_TEXTS = ("username", "password", "otp", "totp_secret", "ca_file", "namespace", "proxy")
_KNOWN = frozenset(
    {*_TEXTS, "endpoints", "token", "token_id", "token_name", "token_secret", "token_value", "token_command"}
    | {"password_command", "fingerprint", "vmids", "reserve", "parallel", "confirm", "windows"}
)


def parse_profile(name: str, table: Mapping[str, Any]) -> Profile:
    """A checked profile from a table of the file (or of the environment)."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        known = _ALIASES.get(key, key)
        if known == "insecure":
            raise ConfigError(
                f"profile {name!r}: `{key}`: TLS is never switched off",
                hint="set `ca_file` or `fingerprint`: both work with PVE's self-signed certificates",
            )
        if known not in _KNOWN:
            raise ConfigError(f"profile {name!r}: unknown key {key!r}", hint=_nearest(key))
        if known in values:
            raise ConfigError(f"profile {name!r}: {key!r} says `{known}` a second time")
        values[known] = value
    reader = _Reader(name, values)
    profile = Profile(
        name,
        reader.servers(),
        token=reader.token(),
        token_id=reader.text("token_id"),
        token_command=reader.command("token_command"),
        password_command=reader.command("password_command"),
        fingerprint=normalized_fingerprint(reader.text("fingerprint")) if reader.text("fingerprint") else "",
        vmids=reader.vmids(),
        reserve=reader.number("reserve", 0, 0),
        parallel=reader.number("parallel", 32, 1),
        confirm=reader.truth("confirm"),
        windows=reader.windows(),
        **{key: reader.text(key) for key in _TEXTS},
    )
    _check_credentials(profile)
    return profile


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, sorted(_KNOWN | {"endpoint"}), 1, 0.5)
    return f"did you mean `{near[0]}`?" if near else f"known are: {', '.join(sorted(_KNOWN))}"


@dataclass(frozen=True)
class _Reader:
    """Typed access to a table's values, with errors that name profile and key (never a value: it may be secret)."""

    profile: str
    values: Mapping[str, Any]

    def wrong(self, key: str, must: str) -> ConfigError:
        return ConfigError(f"profile {self.profile!r}: `{key}` must be {must}")

    def text(self, key: str) -> str:
        value = self.values.get(key, "")
        if key == "otp" and isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:06d}"
        if not isinstance(value, str) or any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise self.wrong(key, "text on one line")
        return value.strip()

    def number(self, key: str, default: int, least: int) -> int:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.wrong(key, f"a whole number of at least {least}")
        return value

    def truth(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def windows(self) -> tuple[Window, ...]:
        value = self.values.get("windows", [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.wrong("windows", f"a list of windows, such as {FORM}")
        try:
            return tuple(map(parse_window, texts))
        except ValueError as error:
            raise ConfigError(f"profile {self.profile!r}: `windows`: {error}") from error

    def command(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, [])
        if isinstance(value, str):
            try:
                value = ["/bin/sh", "-c", value] if re.search(r"[|&;<>$`]", value) else shlex.split(value)
            except ValueError as error:
                raise self.wrong(key, f"a command ({error})") from error
        texts = isinstance(value, list) and all(isinstance(part, str) and "\0" not in part for part in value)
        if not texts or (key in self.values and not value):
            raise self.wrong(key, "a command: a list of arguments, or text for the shell")
        return tuple(value)

    def servers(self) -> tuple[ApiServer, ...]:
        value = self.values.get("endpoints", [])
        items = re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.wrong("endpoints", "an address or a list of addresses")
        servers = tuple(dict.fromkeys(parse_server(item) for item in items if item))
        if not servers:
            raise ConfigError(
                f"profile {self.profile!r}: `endpoint` is missing", hint="write it like https://pve1.example.org:8006"
            )
        return servers

    def token(self) -> str:
        """From `token`, or from `token_id` (or username and `token_name`) and `token_secret`."""
        identity = self.text("token_id") or self._named_token()
        secret = self.text("token_secret") or self.text("token_value")
        whole = self.text("token").removeprefix("PVEAPIToken=").strip()
        if whole and "=" not in whole and secret:
            identity, whole = whole, ""
        token = whole or (f"{identity}={secret}" if identity and secret else "")
        if token:
            check_token(token, f"profile {self.profile!r}")
        elif secret or (identity and "token_command" not in self.values):
            raise ConfigError(
                f"profile {self.profile!r}: a token needs its name and its secret",
                hint="" if secret else f"{command(Verb.DOCTOR, '--apply')} makes the token that it names",
            )
        return token

    def _named_token(self) -> str:
        name = self.text("token_name")
        return f"{self.text('username')}!{name}" if name else ""

    def vmids(self) -> tuple[int, int]:
        value = self.values.get("vmids", list(DEFAULT_VMIDS))
        if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*", value)):
            value = [int(match[1]), int(match[2])]
        fits = isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value)
        if not fits or not 100 <= value[0] <= value[1] <= 999_999_999:
            raise self.wrong("vmids", "two numbers of 100 to 999999999, the smaller first")
        return value[0], value[1]


_TOKEN = re.compile(r"[^\s:/!=]+@[A-Za-z0-9._-]+![A-Za-z0-9._-]+=[!-~]+")


def check_token(token: str, where: str) -> None:
    """ConfigError unless it is user@realm!name=secret. Its text is never shown."""
    if not _TOKEN.fullmatch(token) or ";" in token:
        raise ConfigError(f"{where}: the token is not of the form user@realm!name=secret")


def _check_credentials(profile: Profile) -> None:
    where = f"profile {profile.name!r}"
    if bool(profile.token) + bool(profile.token_command) + bool(profile.password) + bool(profile.password_command) > 1:
        raise ConfigError(f"{where}: more than one of token, token_command, password, password_command is given")
    if not (profile.is_token or profile.password or profile.password_command):
        raise ConfigError(
            f"{where}: there are no credentials",
            hint='give `token = "user@realm!name=secret"` or `token_command`; a password with `username` works too',
        )
    if not profile.is_token and not re.fullmatch(r"[^\s:/]{1,60}@[A-Za-z0-9._-]+", profile.username):
        raise ConfigError(f"{where}: a password needs `username` in the form user@realm, such as root@pam")


_VARIABLES = {
    "PROXMOX_VE_ENDPOINT": "endpoints",
    "PROXMOX_VE_HOST": "endpoints",
    "PROXMOX_VE_API_TOKEN": "token",
    "PROXMOX_VE_TOKEN_COMMAND": "token_command",
    "PROXMOX_VE_USERNAME": "username",
    "PROXMOX_VE_PASSWORD": "password",
    "PROXMOX_VE_PASSWORD_COMMAND": "password_command",
    "PROXMOX_VE_OTP": "otp",
    "PROXMOX_VE_TOTP_SECRET": "totp_secret",
    "PROXMOX_VE_CA_FILE": "ca_file",
    "PROXMOX_VE_FINGERPRINT": "fingerprint",
    "PROXMOX_VE_NAMESPACE": "namespace",
}
_SECRETS = frozenset({"token", "token_secret", "token_value", "token_command", "password", "password_command"})
_CREDENTIALS = frozenset(
    {"token", "token_id", "token_name", "token_secret", "token_value", "token_command", "password", "password_command"}
    | {"otp", "totp_secret"}
)


def _with_environment(table: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The table with the variables laid over it; credentials are replaced as a whole, never mixed."""
    given: dict[str, Any] = {}
    for variable, key in _VARIABLES.items():
        if environ.get(variable):
            given.setdefault(key, environ[variable])
    if given.keys() & {"token", "token_command"}:
        given.pop("password", None)  # the token needs neither, and both together would be refused
        given.pop("password_command", None)
    table = {_ALIASES.get(key, key): value for key, value in table.items()}
    if given.keys() & {"token", "token_command", "password", "password_command"}:
        table = {key: value for key, value in table.items() if key not in _CREDENTIALS}
    merged = table | given
    if _truthy(environ.get("PROXMOX_VE_INSECURE", "")) and not (merged.get("ca_file") or merged.get("fingerprint")):
        raise ConfigError(
            "PROXMOX_VE_INSECURE is set, but TLS is never switched off",
            hint="unset it, and set PROXMOX_VE_FINGERPRINT (SHA-256) or PROXMOX_VE_CA_FILE",
        )
    return merged if given or table else {}


def _truthy(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "false", "no", "off")


def without_secrets(profile: Profile) -> Profile:
    """The profile as we may show it."""
    return replace(profile, token="", password="", otp="", totp_secret="", proxy="")
