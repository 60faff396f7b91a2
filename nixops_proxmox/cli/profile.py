"""List, show, add and remove the hypervisors that you use.

Never prints a secret.
"""

import argparse
import getpass
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nixops_proxmox.cli.arguments import complete
from nixops_proxmox.display.arguments import add_json, add_yes
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.shapes.setup import ProfileJson, ProfilesJson
from nixops_proxmox.secrecy import learn
from nixops_proxmox.ssh import files

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

    from nixops_proxmox.pve.api.client import PveClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    add_json(actions.add_parser("list", help="List all profiles"))
    show = actions.add_parser("show", help="Show a profile without its secrets")
    show.add_argument("name", metavar="NAME")
    add_json(show)
    add = actions.add_parser("add", help="Add a profile; asks for the secret, or reads it from stdin")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--url", required=True, help="Set the API's address; separate several nodes by commas")
    who = add.add_mutually_exclusive_group(required=True)
    who.add_argument("--token-id", metavar="USER@REALM!NAME", help="Log in with this API token")
    who.add_argument("--username", metavar="USER@REALM", help="Log in as this user, with a password")
    add.add_argument(
        "--secret-command", metavar="COMMAND", help="Run this command to get the secret, instead of storing it"
    )
    trust = add.add_mutually_exclusive_group()
    trust.add_argument("--fingerprint", metavar="SHA256", help="Trust the certificate with this fingerprint")
    complete(trust.add_argument("--ca-file", metavar="FILE", help="Trust certificates signed by this CA"), "file")
    add_yes(add)
    remove = actions.add_parser("remove", help="Remove a profile from the file")
    remove.add_argument("name", metavar="NAME")


def run(args: argparse.Namespace, screen: Screen) -> int:
    actions: dict[str, Callable[[argparse.Namespace, Screen], int]] = {
        "list": run_list,
        "show": run_show,
        "add": run_add,
        "remove": run_remove,
    }
    return actions[args.action](args, screen)


def run_list(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.pve.wire.profiles import list_profiles, profiles_file

    shown = [describe(name) for name in list_profiles()]
    if args.json:
        screen.json(ProfilesJson(file=str(profiles_file()), profiles=shown))
    elif shown:
        rows = [[one["name"], " ".join(one["endpoints"]), one["identity"] or "-", one["trust"]] for one in shown]
        screen.table(("name", "endpoints", "identity", "trust"), rows)
    else:
        screen.say(f"there is none yet in {profiles_file()}; `nixops-proxmox profile add` writes one")
    return 0


def run_show(args: argparse.Namespace, screen: Screen) -> int:
    shown = describe(args.name)
    if args.json:
        screen.json(shown)
    else:
        width = max(len(key) for key in shown)
        for key, value in shown.items():
            text = " ".join(value) if isinstance(value, list) else str(value)
            screen.result(f"{key.ljust(width)}  {text or '-'}")
    return 0


def describe(name: str) -> ProfileJson:
    """A profile without its secrets."""
    from nixops_proxmox.pve.wire.profiles import load_profile

    profile = load_profile(name)
    pinned = f"fingerprint {profile.fingerprint}" if profile.fingerprint else ""
    return {
        "name": name,
        "endpoints": [server.url for server in profile.servers],
        "identity": profile.token.partition("=")[0] if profile.token else profile.username,
        "secret": "by a command" if profile.token_command or profile.password_command else "kept",
        "trust": pinned or (f"CA {profile.ca_file}" if profile.ca_file else "the system's"),
        "vmids": f"{profile.vmids[0]}-{profile.vmids[1]}",
        "namespace": profile.namespace,
    }


def run_add(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.pve.wire.profiles import parse_profile, profiles_file, read_profiles

    file = profiles_file()
    if args.name in read_profiles(file) and not screen.ask(f"replace the profile {args.name!r}?", yes=args.yes):
        screen.say("nothing was done")
        return 0
    values: dict[str, Any] = {"url": args.url}
    if args.token_id:
        values["token_id"] = args.token_id
    else:
        values["username"] = args.username
    kind = "token" if args.token_id else "password"
    if args.secret_command:
        values[f"{kind}_command"] = args.secret_command
    else:
        values["token_secret" if args.token_id else "password"] = read_secret(
            f"{kind} of {args.token_id or args.username}: "
        )
    values |= {key: value for key in ("fingerprint", "ca_file") if (value := getattr(args, key))}
    parse_profile(args.name, values)  # what is wrong with it is said before it is written
    write_profile(file, args.name, values)
    screen.say(f"written to {file}; `nixops-proxmox doctor --profile {args.name}` tries it")
    return 0


def run_remove(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.pve.wire.profiles import profiles_file, read_profiles

    file = profiles_file()
    if args.name not in read_profiles(file):
        raise ConfigError(f"there is no profile {args.name!r} in {file}")
    remove_profile(file, args.name)
    screen.say(f"removed from {file}")
    return 0


def read_secret(prompt: str) -> str:
    """Ask for it without an echo on a terminal, or read the first line of standard input. It is never an argument."""
    secret = getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not secret:
        raise ConfigError("no secret was given", hint="type it, or give --secret-command")
    learn(secret)
    return secret


def read_code(who: str) -> str:
    """A second factor's code, where a terminal can ask for one. Empty: there is none."""
    code = getpass.getpass(f"one-time code of {who}, if it needs one: ") if sys.stdin.isatty() else ""
    learn(code)
    return code.strip()


@contextmanager
def log_in(name: str, admin: str) -> Iterator["PveClient"]:
    """The profile's hypervisor, as an administrator, whose password is asked for and kept nowhere."""
    from nixops_proxmox.pve.api.connection import connect
    from nixops_proxmox.pve.wire import profiles

    password = read_secret(f"password of {admin} on {name}: ")
    administrator = profiles.as_administrator(name, profiles.load_table(name), admin, password, read_code(admin))
    with closing(connect(administrator)) as client:
        yield client


def add_to_profile(file: Path, name: str, key: str, value: str) -> None:
    """One more value of a profile that is there. All else stays as it is."""
    import tomlkit

    document = read_document(file)
    find_parent(document, name)[name][key] = value
    replace_file(file, tomlkit.dumps(document))


def write_profile(file: Path, name: str, values: Mapping[str, str | list[str]]) -> None:
    """Add or replace one profile and leave the rest of the file as it is, with its comments. The file has mode 0600,
    and is replaced as a whole."""
    import tomlkit

    document = read_document(file)
    table = tomlkit.table()
    table.update(values)
    parent = find_parent(document, name)
    parent[name] = table
    replace_file(file, tomlkit.dumps(document))


def remove_profile(file: Path, name: str) -> None:
    import tomlkit

    document = read_document(file)
    parent = find_parent(document, name)
    del parent[name]
    if not parent and parent is not document:
        del document["profiles"]
    replace_file(file, tomlkit.dumps(document))


def find_parent(document: "TOMLDocument", name: str) -> MutableMapping[str, Any]:
    """Profiles are the file's own tables, or stand in its table `profiles`."""
    nested = document.get("profiles", {})
    return nested if name in nested else document


def read_document(file: Path) -> "TOMLDocument":
    """Raises ConfigError for text that is not TOML."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(read_text(file))
    except TOMLKitError as error:
        raise ConfigError(f"{file} is not TOML: {error}", hint="correct it, and run the same command again") from error


def read_text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def replace_file(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace_file(file, text)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
