"""As whom: a token that an administrator's password makes, or one that PVE has already. Then what it sees there."""

import argparse
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, replace

from nixops_proxmox.cli.profile import add_to_profile, log_in, read_secret
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.starter import offer_lines
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.operations.beginning import (
    USUAL_BRIDGE,
    USUAL_STORAGES,
    ClusterOffer,
    FirstChoice,
    choose,
    find_offer,
    first_machine,
)
from nixops_proxmox.operations.doctor import Wanted
from nixops_proxmox.operations.granting import Granter
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.cluster.doctor import examine
from nixops_proxmox.pve.wire import profiles

ROOT = "root@pam"


@dataclass(frozen=True)
class SetUp:
    """What was found with the token, what was chosen of it, and whether a deploy could begin."""

    offer: ClusterOffer
    choice: FirstChoice
    findings: tuple[Finding, ...]


def ensure_account(args: argparse.Namespace, screen: Screen, name: str) -> SetUp:
    table = profiles.load_table(name)
    chosen: FirstChoice | None = None
    if args.admin or (profiles.lacks_secret(table) and not _take_secret(args, screen, name)):
        chosen = _make(args, screen, name)
    profile = profiles.load_profile(name)
    with screen.busy(f"looking at {name}"), closing(connect(profile)) as client:
        offer = find_offer(client)
        findings = [] if chosen else _find_lacking(client, profile, offer)
    if chosen is None:
        chosen = settle(args, screen, offer, findings)
    with screen.busy(f"testing {name}"), closing(connect(profile)) as client:
        findings = examine(client, profile, [] if args.read_only else [first_machine(chosen, name)])
    return SetUp(offer, chosen, tuple(findings))


def _find_lacking(client: PveClient, profile: profiles.Profile, offer: ClusterOffer) -> list[Finding]:
    """Why we may see too little to choose of: which rights a usual machine would need."""
    usual = choose(offer)
    if usual.storage and usual.bridge:
        return []
    guess = replace(usual, storage=usual.storage or USUAL_STORAGES[0], bridge=usual.bridge or USUAL_BRIDGE)
    found = examine(client, profile, [first_machine(guess, profile.name)])
    return [one for one in found if one.subject == "permissions" and one.level is not Level.OK]


def _take_secret(args: argparse.Namespace, screen: Screen, name: str) -> bool:
    """Keep the secret of a token that PVE has. False: an administrator makes the token."""
    who, file = profiles.named_in(profiles.load_table(name)), profiles.profiles_file()
    if args.secret_command:
        add_to_profile(file, name, "token_command", args.secret_command)
        return True
    if not args.token_id:
        if not screen.can_ask:
            raise ConfigError(
                f"there is no secret yet for the token {who}",
                hint=f"--admin {ROOT} makes the token, with the password on standard input; or give one that you have:"
                " --token-id, with its secret on standard input, or --secret-command",
            )
        if not screen.ask(f"does PVE have the token {who} already, and do you know its secret?", yes=False):
            return False
    _keep(screen, name, read_secret(f"secret of {who}: "))
    return True


def _keep(screen: Screen, name: str, secret: str) -> None:
    file = profiles.profiles_file()
    add_to_profile(file, name, "token_secret", secret)
    screen.say(f"profile {name}: the token's secret is in {file}")


def _make(args: argparse.Namespace, screen: Screen, name: str) -> FirstChoice:
    """The token and its rights, by an administrator's password, which is kept nowhere."""
    who = profiles.named_in(profiles.load_table(name))
    with log_in(name, args.admin or screen.answer("an administrator's name", ROOT)) as client:
        with screen.busy(f"looking at {name}"):
            offer = find_offer(client)
        choice = settle(args, screen, offer)
        _grant(args, screen, name, client, who, Wanted([first_machine(choice, name)]))
    return choice


def _grant(
    args: argparse.Namespace,
    screen: Screen,
    name: str,
    client: PveClient,
    who: str,
    wanted: Wanted,
) -> None:
    granter = Granter(client)
    lacks_secret = profiles.lacks_secret(profiles.load_table(name))
    if args.read_only:
        lacks = granter.find_lacks_to_look(who, lacks_secret=lacks_secret)
    else:
        lacks = granter.find_lacks(who, wanted, lacks_secret=lacks_secret)
    if not lacks:
        screen.say(f"{who} has all that is needed")
        return
    for line in lacks.told():
        screen.say(f"to do: {line}")
    if not screen.ask(f"do this on {name}?", yes=args.yes):
        raise ConfigError(
            "nothing was changed on the cluster",
            hint="an administrator can type this on a node, as root:\n" + "\n".join(lacks.commands()),
        )
    granter.supply(lacks, lambda secret: _keep(screen, name, secret))


def settle(
    args: argparse.Namespace, screen: Screen, offer: ClusterOffer, findings: "list[Finding] | None" = None
) -> FirstChoice:
    """Say what there is, and choose of it: as told, as answered, or as most would. `findings`: what may be the reason
    that there is little. Raises ConfigError if a machine can have no disk, or no network."""
    for line in offer_lines(offer):
        screen.say(line)
    usual = choose(offer)
    asks = screen.can_ask and not (args.lab or args.read_only)
    disks = offer.storages_for("images")
    storage = _pick(screen, "storage for disks", args.storage, usual.storage, disks, asks=asks)
    bridge = _pick(screen, "bridge", args.bridge, usual.bridge, offer.bridges, asks=asks)
    iso = args.iso or usual.iso
    lacks = "\n".join(f"{one.text}\n{one.hint}".strip() for one in findings or ())
    sees_all = not lacks
    if not storage:
        raise ConfigError(
            "we see no storage that takes disks",
            hint="in PVE, give one the content `Disk image`: Datacenter, Storage" if sees_all else lacks,
        )
    if not bridge:
        raise ConfigError(
            "we see no bridge",
            hint="in PVE, make one: the node, Network, Create, Linux Bridge" if sees_all else lacks,
        )
    return FirstChoice(storage, bridge, iso, iso in offer.isos)


def _pick(screen: Screen, what: str, told: str, usual: str, there: Collection[str], *, asks: bool) -> str:
    if told and told not in there:
        raise ConfigError(f"there is no {what} {told!r}", hint=f"there are: {', '.join(there) or 'none that we see'}")
    if told or len(there) < 2 or not asks:
        return told or usual
    answer = screen.answer(f"{what}: {', '.join(there)}", usual)
    while answer not in there:
        screen.say(f"there is no {answer!r}")
        answer = screen.answer(f"{what}: {', '.join(there)}", usual)
    return answer
