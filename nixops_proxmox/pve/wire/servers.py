"""Where an API is: parsing what users write as the address of a PVE."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import urlsplit

from typing_extensions import override

from nixops_proxmox.errors import ConfigError

DEFAULT_PORT = 8006
_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)


@dataclass(frozen=True, order=True)
class ApiServer:
    """`host` is a name or a literal without brackets. `prefix` is a reverse proxy's path, "" or "/pve"."""

    host: str
    port: int = DEFAULT_PORT
    prefix: str = ""

    @property
    def authority(self) -> str:
        host = self.host.replace("%", "%25")  # RFC 6874: a zone's percent sign
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"https://{self.authority}{self.prefix}"

    @override
    def __str__(self) -> str:
        return self.url


def tell_servers(servers: Sequence[ApiServer]) -> str:
    """The first of them, and how many others there are: for people."""
    more = f" and {len(servers) - 1} more" if len(servers) > 1 else ""
    return f"{servers[0]}{more}"


def parse_server(text: str) -> ApiServer:
    """Accepts pve1, pve1:443, 10.0.0.1, 2001:db8::1, [2001:db8::1]:8006, https://pve1:8006/, …/api2/json.

    Raises ConfigError for anything else, and for plain http: credentials would be readable on the way.
    """
    stripped = text.strip()
    if not stripped or any(c.isspace() or ord(c) < 32 for c in stripped):
        raise _bad(text, "it is empty or has blanks in it")
    scheme, separator, rest = stripped.rpartition("://")
    if separator and scheme.lower() != "https":
        raise _bad(text, "PVE needs https")
    authority, slash, path = rest.partition("/")
    if "?" in rest or "#" in rest:
        raise _bad(text, "an address has no query")
    if "@" in authority:
        raise _bad(text, "do not put credentials into the address")
    host, port = _split_port(text, authority)
    return ApiServer(_checked_host(text, host), port, _prefix(path) if slash else "")


def _split_port(text: str, authority: str) -> tuple[str, int]:
    if authority.startswith("["):
        host, bracket, after = authority[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise _bad(text, "the brackets do not fit")
        return host, _port(text, after[1:]) if after else DEFAULT_PORT
    if authority.count(":") == 1:
        host, _, port = authority.partition(":")
        return host, _port(text, port)
    return authority, DEFAULT_PORT


def _port(text: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 5 or not 0 < int(digits) < 65536:
        raise _bad(text, f"{digits!r} is not a port")
    return int(digits)


def _checked_host(text: str, host: str) -> str:
    if ":" in host:
        address, percent, zone = host.partition("%")
        try:
            IPv6Address(address)
        except AddressValueError as error:
            raise _bad(text, f"{host!r} is not an IPv6 address") from error
        zone = zone.removeprefix("25") if percent else ""
        return f"{address.lower()}%{zone}" if zone else address.lower()
    if not _NAME.fullmatch(host):
        raise _bad(text, f"{host!r} is not a host name")
    return host.lower()


def _prefix(path: str) -> str:
    trimmed = re.sub(r"/?(api2(/[a-z]*)?)?/*\Z", "", "/" + path)
    try:
        urlsplit("https://h" + trimmed)
    except ValueError:
        return ""
    return trimmed.rstrip("/")


def _bad(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"{text!r} is not the address of a PVE API: {why}", hint="write it like https://pve1.example.org:8006"
    )


def normalized_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as 64 lower-case hex digits, from any usual spelling. Raises ConfigError otherwise."""
    digits = re.sub(r"^(sha-?256[:=/ ])", "", text.strip().lower()).replace(":", "").replace(" ", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ConfigError(
            f"{text!r} is not a SHA-256 fingerprint",
            hint="on the node: openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem",
        )
    return digits
