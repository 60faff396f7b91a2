"""Find what is missing for a deploy, here and on the cluster.

Looks at everything that a deploy needs, and says how to supply what is missing. With --apply, an administrator's
password, which is asked for and kept nowhere, makes the profile's user and token, and grants what they lack.
"""

import argparse
from typing import TYPE_CHECKING

from nixops_proxmox.cli.arguments import find_source, found_nothing, open_deployed, state_location
from nixops_proxmox.display.arguments import add_json, add_yes
from nixops_proxmox.display.results import show_findings
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.model import Finding, Level
from nixops_proxmox.namespace import enter

if TYPE_CHECKING:
    from nixops_proxmox.operations.doctor import Diagnosis, Needs, Wanted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("--apply", action="store_true", help="Make the account, and grant what is missing; asks first")
    parser.add_argument(
        "--admin",
        metavar="USER@REALM",
        default="root@pam",
        help="Log in as this user to apply; asks for the password",
    )
    add_yes(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.operations.doctor import diagnose
    from nixops_proxmox.operations.tools import find_all
    from nixops_proxmox.pve.wire.networks import usual_profile

    if args.apply and not apply(args, screen):
        screen.say("nothing was done")
        return 0
    found = diagnose(
        find_all(lambda: state_location(args), {}),
        lambda found: find_needs(args, screen, found),
        lambda: usual_profile(args.profile),
        screen.busy,
    )
    return show_findings(screen, found.findings, found.errors, as_json=args.json)


def find_needs(args: argparse.Namespace, screen: Screen, found: "Diagnosis | None" = None) -> "Needs":
    """What is described. `found` gets what else a look at it shows."""
    from nixops_proxmox.operations.doctor import look_beside, needs_of

    if not find_source(args):
        if found is not None:
            nothing = found_nothing()
            found.findings.append(Finding(Level.WARNING, "network", nothing.message, nothing.hint))
        return {}
    with open_deployed(args, screen) as deployed:
        if found is not None:
            look_beside(deployed, found)
        return needs_of(deployed)


def apply(args: argparse.Namespace, screen: Screen) -> bool:
    """False: the user did not agree."""
    from nixops_proxmox.operations.doctor import Wanted
    from nixops_proxmox.pve.wire.networks import usual_profile

    needs = find_needs(args, screen) or {usual_profile(args.profile): Wanted()}
    return all(apply_to(name, wanted, args.admin, screen, yes=args.yes) for name, wanted in needs.items())


def apply_to(name: str, wanted: "Wanted", admin: str, screen: Screen, *, yes: bool) -> bool:
    from nixops_proxmox.cli.profile import add_to_profile, log_in
    from nixops_proxmox.operations.granting import Granter
    from nixops_proxmox.pve.wire import profiles

    table, file = profiles.load_table(name), profiles.profiles_file()
    if table.get("namespace"):
        enter(str(table["namespace"]))  # a lab's; before anything is asked for, because the process is replaced
    who, lacks_secret = profiles.named_in(table), profiles.lacks_secret(table)
    if not who:
        raise ConfigError(
            f"profile {name!r}: it does not say who is to get the rights",
            hint='let it name a token that is to be made: `token_id = "nixops@pve!deploy"`',
        )

    def keep(secret: str) -> None:
        add_to_profile(file, name, "token_secret", secret)
        screen.say(f"{name}: the token's secret is in {file}")

    with log_in(name, admin) as client:
        granter = Granter(client)
        with screen.busy(f"looking at {name}"):
            lacks = granter.find_lacks(who, wanted, lacks_secret=lacks_secret)
        if not lacks:
            screen.say(f"{name}: {who} has all that is needed")
            return True
        for line in lacks.told():
            screen.say(f"{name}: {line}")
        if not screen.ask(f"do this on {name}, as {admin}?", yes=yes):
            return False
        granter.supply(lacks, keep)
    return True
