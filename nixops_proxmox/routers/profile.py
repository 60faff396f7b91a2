"""Which router, and as whom: `routers.toml` beside the profiles of hypervisors. It is read once, and checked."""

import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.paths import config_dir
from nixops_proxmox.private_files import read_private_toml
from nixops_proxmox.pve.wire.credentials import ask_command
from nixops_proxmox.pve.wire.servers import normalized_fingerprint
from nixops_proxmox.secrecy import learn

_KEYS = {
    "type", "endpoint", "endpoint6", "ca_file", "fingerprint", "username", "secret", "secret_file", "secret_command",
    "service", "direct", "ipv6", "directory", "ssh", "reload", "network", "subnet", "version", "confirm", "restart",
}  # fmt: skip


@dataclass(frozen=True)
class RouterProfile:
    """One router. `settings`: what only its driver reads."""

    name: str
    type: str
    endpoint: str = ""
    ca_file: str = ""
    fingerprint: str = ""
    username: str = ""
    secret: str = field(default="", repr=False)
    secret_command: tuple[str, ...] = field(default=(), repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"the router {self.name}"

    def get_secret(self) -> str:
        """As written, or from the command that knows it. Raises ConfigError."""
        if not self.secret_command:
            learn(self.secret)
            return self.secret
        where = f"{self.title}: secret_command"
        text = ask_command(self.secret_command, where).strip()
        if not text:
            raise ConfigError(f"{where} printed nothing")
        learn(text)
        return text

    def setting(self, name: str, default: str = "") -> str:
        return str(self.settings.get(name, default))


def routers_file() -> Path:
    return config_dir() / "routers.toml"


def load_router(name: str, *, path: Path | None = None) -> RouterProfile:
    """Raises ConfigError, which names the file and the key. A file that others may read is refused, because it may
    hold secrets."""
    file = path or routers_file()
    tables = _read(file)
    if name not in tables:
        known = ", ".join(sorted(tables)) or "none"
        raise ConfigError(
            f"there is no router {name!r} (in {file}: {known})", hint=f'begin with [{name}] and type = "dnsmasq"'
        )
    return parse_router(name, tables[name], file)


def parse_router(name: str, table: Mapping[str, Any], file: Path) -> RouterProfile:
    where = f"{file}: router {name!r}"
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}", hint=f"known are: {', '.join(sorted(_KEYS))}")
    if sum(key in table for key in ("secret", "secret_file", "secret_command")) > 1:
        raise ConfigError(f"{where}: more than one of secret, secret_file and secret_command is given")
    own = ("type", "endpoint", "ca_file", "fingerprint", "username", "secret", "secret_file", "secret_command")
    texts = {key: table.get(key, "") for key in own if key != "secret_command"}
    wrong = next((key for key, value in texts.items() if not isinstance(value, str)), None)
    if wrong is not None or not texts["type"]:
        raise ConfigError(f"{where}: `{wrong or 'type'}` must be text")
    command = table.get("secret_command", [])
    argv = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
        raise ConfigError(f"{where}: `secret_command` must be a command")
    if re.match(r"(?!https?://)\w+://|[^:/]+$", texts["endpoint"]):
        raise ConfigError(f"{where}: `endpoint` must be written like https://router.example.org")
    return RouterProfile(
        name,
        texts["type"],
        texts["endpoint"].rstrip("/"),
        texts["ca_file"],
        normalized_fingerprint(texts["fingerprint"]) if texts["fingerprint"] else "",
        texts["username"],
        _secret_in(texts["secret_file"], where) if texts["secret_file"] else texts["secret"],
        tuple(argv),
        {key: value for key, value in table.items() if key not in own},
    )


def _secret_in(path: str, where: str) -> str:
    file = Path(path).expanduser()
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise ConfigError(f"{where}: {file} may be read by others", hint=f"chmod 600 {file}")
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: secret_file {file} cannot be read: {error}") from error


def _read(file: Path) -> Mapping[str, Mapping[str, Any]]:
    data = read_private_toml(file)
    for name, table in data.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: {name!r} is outside of a router", hint="begin with a line like [lan]")
    return data
