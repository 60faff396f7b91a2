"""Arguments for other programs that go over SSH (ssh, scp, Nix), with addresses written as each one wants them. Pure.

Nothing of the user's or the system's SSH configuration is read, no key but the given one is offered, nothing is ever
asked, and a host key that is not in our own known_hosts is refused. What differs between the programs:

- ssh wants an IPv6 literal bare, scp and URLs want it in brackets, known_hosts wants brackets only with a port.
- Nix gives the port in no URL that all versions understand (2.8 hands `host:22` to ssh), so it is an option. A zone
  stays unescaped in brackets, which 2.8 hands on and current Nix repairs (store-reference.cc).
- Nix 2.8 splits NIX_SSHOPTS at blanks, whatever the quoting: what needs one goes into a configuration file.
- A jump host needs options of its own (its known_hosts, its user's key), and they are only read from a file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Endpoint

DEFAULT_PORT = 22
ANSWER_TIME = 120.0  # seconds for a guest that took the connection to prove itself; the same for all programs


@dataclass(frozen=True)
class Access:
    """One way into one machine for programs that are not ours.

    `alias` is the name under which known_hosts has the machine's key (so that two machines with the same private
    address behind two jump hosts are never taken for each other). Empty: the address itself. Without `identity` the
    SSH agent's keys are offered. `config`, when set, is a file with `config_text` of this access in it.
    """

    endpoint: Endpoint
    known_hosts: Path
    identity: Path | None = None
    alias: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    config: Path | None = None


@dataclass(frozen=True)
class Hop:
    """One jump host. An empty user is the one who runs the tool. The rest comes from the user's SSH configuration, and
    is empty where that says nothing."""

    host: str
    port: int = DEFAULT_PORT
    user: str = ""
    port_given: bool = field(default=False, compare=False)
    alias: str = ""  # HostKeyAlias
    known_hosts: tuple[Path, ...] = ()
    identities: tuple[Path, ...] = ()
    only_identities: bool = False  # and none of the agent's other keys
    family: str = "any"  # AddressFamily
    algorithms: tuple[str, ...] = ()  # HostKeyAlgorithms
    signatures: tuple[str, ...] = ()  # CASignatureAlgorithms
    more: tuple[tuple[str, str], ...] = ()  # what else the programs are told as it stands


def ssh_argv(access: Access, *command: str, options: Sequence[str] = ()) -> list[str]:
    """`command` is one shell command line for the far side, in pieces that ssh joins with blanks."""
    host = canonical_host(access.endpoint.host)
    return ["ssh", *option_args(access), *options, "-l", access.endpoint.user, "--", host, *command]


def scp_argv(access: Access, sources: Sequence[str], target: str) -> list[str]:
    """Paths that start with `:` are on the machine, others here."""
    return ["scp", *option_args(access), "--", *(_scp_path(access.endpoint, path) for path in (*sources, target))]


def _scp_path(endpoint: Endpoint, path: str) -> str:
    if path.startswith(":"):
        return f"{endpoint.user}@{bracketed(endpoint.host)}{path}"
    # A colon before the first slash would be read as a host's name.
    return path if "/" in path.split(":")[0] or ":" not in path else f"./{path}"


def nix_sshopts(access: Access) -> str:
    """The value of NIX_SSHOPTS for a store of this access. Raises ConfigError where only a `config` file would do."""
    words = option_args(access)
    bad = next((word for word in words if re.search(r"""[\s'"\\$`]""", word)), None)
    if bad is not None:
        raise ConfigError(
            f"Nix cannot be given the SSH option {bad!r}: it splits NIX_SSHOPTS at blanks",
            hint="keep state and keys in a folder whose path has no blanks or quotes",
        )
    return " ".join(words)


def store_url(endpoint: Endpoint, *, scheme: str = "ssh", root: str = "", compress: bool = False) -> str:
    """A Nix store on the machine. `root`: the store of the system that is mounted there (`/mnt`). `compress`: what
    goes over the line.

    Of any other user than root Nix would want signatures, so the store's program is started by sudo.
    """
    query = [f"remote-store=local%3Froot%3D{root}"] if root else []
    if endpoint.user != "root":
        program = "nix-daemon" if scheme == "ssh-ng" else "nix-store"
        query.append(f"remote-program=sudo%20-n%20{program}")
    if compress:
        query.append("compress=true")
    return f"{scheme}://{endpoint.user}@{bracketed(endpoint.host)}{'?' if query else ''}{'&'.join(query)}"


def known_hosts_pattern(host: str, port: int = DEFAULT_PORT) -> str:
    """A host as known_hosts has it: brackets only with a port, lower case, IPv6 in its shortest form."""
    plain = canonical_host(host).lower()
    return plain if port == DEFAULT_PORT else f"[{plain}]:{port}"


def bracketed(host: str) -> str:
    """A host as URLs and scp want it."""
    plain = canonical_host(host)
    return f"[{plain}]" if ":" in plain else plain


def canonical_host(host: str) -> str:
    """Without brackets. An IP address in its shortest form, for programs compare addresses as text."""
    plain = host.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(plain))
    except ValueError:  # a name
        return plain


def option_args(access: Access) -> list[str]:
    """The options of ssh and scp alike (no user, no host)."""
    if access.config is not None:
        return ["-F", str(access.config)]
    if access.endpoint.jump:
        raise ConfigError("a jump host needs an SSH configuration file", hint="write config_text() to a file first")
    return ["-F", "none", *(word for name, value in _settings(access) for word in ("-o", f"{name}={value}"))]


def config_text(access: Access, jump_known_hosts: Sequence[Path] = (), jump: Sequence[Hop] | None = None) -> str:
    """The same as a file for `-F`, with the jump hosts: their keys must be in `jump_known_hosts` (default: the user's
    own), and they are offered the user's keys, not ours. `jump`: as the user's configuration means them."""
    hops = parse_jump(access.endpoint.jump) if jump is None else jump
    blocks = [_block(_hop_name(index), _hop_settings(hop, index, jump_known_hosts)) for index, hop in enumerate(hops)]
    last = [("ProxyJump", _hop_name(len(hops) - 1))] if hops else []
    return "\n".join([*blocks, _block(f"* !{_hop_name('*')}", [*_settings(access), *last])])


def parse_jump(text: str) -> tuple[Hop, ...]:
    """OpenSSH's ProxyJump: `[user@]host[:port]` or ssh:// URIs, with commas between. Raises ConfigError."""
    return tuple(_parse_hop(part.strip(), text) for part in text.split(",")) if text and text != "none" else ()


def jump_text(endpoint: Endpoint) -> str:
    """The way to what lies behind the endpoint, as a ProxyJump."""
    last = f"{endpoint.user}@{bracketed(endpoint.host)}:{endpoint.port}"
    return f"{endpoint.jump},{last}" if endpoint.jump else last


def name_hops(jump: str, endpoints: Mapping[str, Endpoint]) -> list[tuple[Hop, str]]:
    """The jump hosts, each with the name of the one whose endpoint it is, by the same way; empty for a stranger. Two
    may have the same private address behind different jump hosts."""
    hops = parse_jump(jump)
    ways = {_way_of(endpoint): name for name, endpoint in endpoints.items()}
    return [(hop, ways.get(tuple(map(_place_of, hops[: index + 1])), "")) for index, hop in enumerate(hops)]


def _way_of(endpoint: Endpoint) -> tuple[tuple[str, int, str], ...]:
    """The places that lead to what lies behind it. A record may have one that no program can be given: no way leads on
    from there."""
    try:
        return tuple(map(_place_of, parse_jump(jump_text(endpoint))))
    except ConfigError:
        return ()


def _place_of(hop: Hop) -> tuple[str, int, str]:
    return canonical_host(hop.host), hop.port, hop.user


_HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<name>[^\s:@/\[\]]+))(?::(?P<port>\d{1,5}))?/?"
)
_BARE_SIX = re.compile(r"(?:(?P<user>[^@\s]+)@)?(?P<six>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?)")


def _parse_hop(part: str, text: str) -> Hop:
    match = _HOP.fullmatch(part) or _BARE_SIX.fullmatch(part)
    groups = match.groupdict() if match else {}
    host = groups.get("six") or groups.get("name") or ""
    port = int(groups.get("port") or DEFAULT_PORT)
    if not host or host.startswith("-") or not 0 < port < 65536:
        raise ConfigError(f"not a jump host: {part!r} (in {text!r})", hint="[user@]host[:port], IPv6 in brackets")
    return Hop(host, port, groups.get("user") or "", port_given=bool(groups.get("port")))


def _settings(access: Access) -> list[tuple[str, str]]:
    """The settings of the machine itself. ssh takes the first of each, so what pins the host key cannot be undone."""
    settings = [
        ("Port", str(access.endpoint.port)),
        ("UserKnownHostsFile", quoted(access.known_hosts)),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("StrictHostKeyChecking", "yes"),
        ("UpdateHostKeys", "no"),
        ("CheckHostIP", "no"),
        ("BatchMode", "yes"),
    ]
    if access.alias:
        settings.append(("HostKeyAlias", access.alias))
    if access.identity is not None:
        settings += [("IdentityFile", quoted(access.identity)), ("IdentitiesOnly", "yes"), ("IdentityAgent", "none")]
    fixed = {name.lower() for name, _ in settings}
    theirs = [(name, value) for name, value in access.options.items() if name.lower() not in fixed]
    return [
        *settings,
        *theirs,
        ("ConnectTimeout", f"{ANSWER_TIME:.0f}"),
        ("ServerAliveInterval", "15"),
        ("ServerAliveCountMax", "4"),
    ]


def _hop_settings(hop: Hop, index: int, known_hosts: Sequence[Path]) -> list[tuple[str, str]]:
    settings = [
        ("HostName", canonical_host(hop.host).replace("%", "%%")),
        ("Port", str(hop.port)),
        ("StrictHostKeyChecking", "yes"),
        ("UpdateHostKeys", "no"),
        ("BatchMode", "yes"),
        ("ConnectTimeout", "15"),
        ("ProxyJump", _hop_name(index - 1) if index else "none"),
    ]
    if hop.user:
        settings.append(("User", hop.user))
    if hop.known_hosts or known_hosts:
        settings.append(("UserKnownHostsFile", " ".join(map(quoted, hop.known_hosts or known_hosts))))
        settings.append(("GlobalKnownHostsFile", "/dev/null"))
    if hop.alias:
        settings.append(("HostKeyAlias", hop.alias))
    settings += [("IdentityFile", quoted(file)) for file in hop.identities]
    if hop.only_identities:
        settings.append(("IdentitiesOnly", "yes"))
    return [*settings, *hop.more]


def _hop_name(index: int | str) -> str:
    return f"nixops-proxmox-jump-{index}"


def _block(host: str, settings: Sequence[tuple[str, str]]) -> str:
    return "".join([f"Host {host}\n", *(f"  {name} {value}\n" for name, value in settings)])


def quoted(path: Path) -> str:
    """As a configuration value: quoted if it must be, `%` doubled (ssh expands tokens in file names)."""
    text = str(path).replace("%", "%%")
    return f'"{text}"' if re.search(r"\s", text) else text
