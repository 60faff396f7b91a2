"""The command line: the parser, and errors as exit statuses. One file for each verb."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any, NoReturn

from typing_extensions import override

from nixops_proxmox import __version__
from nixops_proxmox.cli import (
    adopt,
    backup,
    check,
    completion,
    console,
    deploy,
    destroy,
    doctor,
    export,
    history,
    iso,
    lab,
    lifecycle,
    macs,
    migrate,
    move,
    plan,
    profile,
    reboot,
    recover,
    reinstall,
    rescue,
    reservations,
    restore,
    rollback,
    scp,
    snapshot,
    ssh,
    start,
    status,
    stop,
    volume,
)
from nixops_proxmox.cli.arguments import add_common
from nixops_proxmox.cli.spelling import spelled
from nixops_proxmox.display.program import USAGE_STATUS, told_in_words
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.spelling import PROGRAM
from nixops_proxmox.texts import shown

VERBS: dict[str, ModuleType] = {
    "deploy": deploy,
    "plan": plan,
    "status": status,
    "history": history,
    "ssh": ssh,
    "scp": scp,
    "start": start,
    "stop": stop,
    "reboot": reboot,
    "rescue": rescue,
    "migrate": migrate,
    "move": move,
    "reinstall": reinstall,
    "destroy": destroy,
    "check": check,
    "recover": recover,
    "adopt": adopt,
    "rollback": rollback,
    "snapshot": snapshot,
    "backup": backup,
    "restore": restore,
    "console": console,
    "export": export,
    "doctor": doctor,
    "iso": iso,
    "volume": volume,
    "macs": macs,
    "reservations": reservations,
    "profile": profile,
    "lifecycle": lifecycle,
    "lab": lab,
    "completion": completion,
}
COMMON: dict[str, Any] = {"verbose": 0, "state": "", "deployment": "", "file": "", "flake": "", "profile": ""}
EPILOG = """\
exit status:
  0    everything succeeded
  1    errors of several families
  2    the description, a profile or an argument is wrong
  3    the recorded state does not allow it
  4    Proxmox VE refused, failed or did not answer
  5    the guest failed or did not answer
  6    SSH failed
  7    Nix failed
  8    a router or a DHCP server refused, failed or did not answer
  70   this program has a defect
  130  interrupted by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP
"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that knows what a wrong word may have been meant to be."""

    @override
    def error(self, message: str) -> NoReturn:
        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            choices = [choice.strip(" '") for choice in found[2].split(",")]
            near = get_close_matches(found[1], choices, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(choices)}"
            message = f"{message.partition('invalid choice')[0]}there is no {found[1]!r}\nhint: {hint}"
        self.exit(USAGE_STATUS, f"error: {shown(message)}\n`{self.prog} --help` shows the usage\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        description="Install, run and change NixOS machines on Proxmox VE, described in Nix.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    add_common(parser)
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for name, module in VERBS.items():
        about = (module.__doc__ or "").strip()
        first = about.splitlines()[0]
        verb = verbs.add_parser(
            name,
            help=first.rstrip("."),
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(verb)
        add_common(verb)
    return parser


def main(argv: Sequence[str] | None = None, *, open_deployment: Callable[..., Any] | None = None) -> int:
    """Run one command. Returns the exit status. `open_deployment` is that of `operations`, unless another is given."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = parse(words)
    except SystemExit as end:  # argparse has said what there is to say
        return int(end.code or 0) if not isinstance(end.code, str) else USAGE_STATUS
    args.open_deployment = open_deployment
    args.command = command_line(words)
    screen = Screen(verbosity=args.verbose, spell=spelled)
    screen.log_to_stderr()
    return run(args, screen)


def parse(words: Sequence[str]) -> argparse.Namespace:
    args = build_parser().parse_args(words)
    for name, value in COMMON.items():
        if not hasattr(args, name):
            setattr(args, name, value)
    return args


def run(args: argparse.Namespace, screen: Screen) -> int:
    """The verb, with every error in words."""

    def work() -> int:
        check_text(args)
        status: int = VERBS[args.verb].run(args, screen)
        return status

    return told_in_words(work, screen, args.command)


def check_text(args: argparse.Namespace) -> None:
    """Names go into JSON, the state and Nix, which know text only. What ssh and scp are given is theirs."""
    for name in ("state", "deployment", "file", "flake", "profile", "machine", "machines", "only", "omit", "name"):
        given = getattr(args, name, None)
        for word in given if isinstance(given, list) else [given]:
            if isinstance(word, str) and any("\ud800" <= one <= "\udfff" for one in word):
                raise ConfigError(f"{word} cannot be used: it has bytes that are not UTF-8", hint="rename it")


def command_line(words: Sequence[str]) -> str:
    """What the user typed, to be typed again."""
    import shlex

    return shlex.join([PROGRAM, *words])
