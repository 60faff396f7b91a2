"""Which server it is, and why it can be trusted: the first half of a profile, without any secret."""

import argparse
import re
from typing import Any

from nixops_proxmox.cli.profile import write_profile
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.pve.wire.first_contact import FirstSight, look_first
from nixops_proxmox.pve.wire.profiles import list_profiles, load_table, profiles_file, servers_in
from nixops_proxmox.pve.wire.servers import ApiServer, normalized_fingerprint, parse_server, tell_servers

TOKEN = "nixops@pve!deploy"  # noqa: S105 -- its name
ON_THE_NODE = "openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem"


def ensure_profile(args: argparse.Namespace, screen: Screen, name: str) -> None:
    """One that is there stays as it is. A new one names its token before that is made: none is forgotten."""
    if name in list_profiles():
        _keep_profile(args, screen, name)
        return
    server = parse_server(
        args.url or screen.answer("the API's address, such as https://pve1.example.org:8006", flag="--url")
    )
    with screen.busy(f"looking at {server}"):
        seen = look_first(server)
    screen.say(f"a Proxmox VE answers at {server}")
    values: dict[str, Any] = {"url": server.url}
    if agree_to_trust(args, screen, server, seen):
        values["fingerprint"] = colons(seen.fingerprint)
    values["token_id"] = args.token_id or TOKEN
    _check_token_id(values["token_id"])
    write_profile(profiles_file(), name, values)
    screen.say(f"profile {name}: written to {profiles_file()}, which only you may read")


def _keep_profile(args: argparse.Namespace, screen: Screen, name: str) -> None:
    servers = servers_in(name, load_table(name))
    if args.url and parse_server(args.url) not in servers:
        raise ConfigError(
            f"the profile {name!r} is of {', '.join(map(str, servers))}, and stays as it is",
            hint=f"give another --profile NAME, or change `url` in {profiles_file()}",
        )
    screen.say(f"profile {name}: there already, with {tell_servers(servers)}")


def agree_to_trust(args: argparse.Namespace, screen: Screen, server: ApiServer, seen: FirstSight) -> bool:
    """Is the certificate to be pinned? Raises ConfigError for one that is not to be trusted."""
    shown = colons(seen.fingerprint)
    if args.fingerprint:
        if normalized_fingerprint(args.fingerprint) != seen.fingerprint:
            raise ConfigError(
                f"{server} shows another certificate than --fingerprint says: {shown}; we sent nothing",
                hint=f"look at it on the node: {ON_THE_NODE}",
            )
        return True
    if seen.trusted:
        screen.say("this computer trusts its certificate")
        return False
    screen.say(f"its certificate has the SHA-256 fingerprint\n  {shown}")
    screen.say(f"compare it on the node: `{ON_THE_NODE}`")
    if not screen.can_ask:
        raise ConfigError(
            f"this computer does not trust the certificate of {server}; we sent nothing",
            hint=f"after comparing it on the node, add --fingerprint {shown}",
        )
    if not screen.ask("is it the same there?", yes=False):
        raise ConfigError("the certificate is not trusted; we sent nothing, and wrote nothing")
    return True


def colons(fingerprint: str) -> str:
    """As PVE and openssl write it: AB:CD:…"""
    return ":".join(re.findall("..", fingerprint.upper()))


def _check_token_id(token: str) -> None:
    if not re.fullmatch(r"[^\s:/!=]+@[A-Za-z0-9._-]+![A-Za-z0-9._-]+", token):
        raise ConfigError(f"{token!r} is no token's name", hint=f"write it as user@realm!name, such as {TOKEN}")
