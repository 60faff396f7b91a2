"""The command line: the parser, and errors as exit statuses. One file for each verb."""

import argparse
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from types import ModuleType
from typing import Any, NoReturn

from typing_extensions import override

from nixops_proxmox import __version__
from nixops_proxmox.cli import (
    backup,
    check,
    completion,
    deploy,
    destroy,
    doctor,
    history,
    iso,
    lab,
    lifecycle,
    plan,
    profile,
    reboot,
    recover,
    reinstall,
    rescue,
    restore,
    rollback,
    scp,
    snapshot,
    ssh,
    start,
    status,
    stop,
    terminal,
)
from nixops_proxmox.cli.arguments import add_common
from nixops_proxmox.cli.console import Console
from nixops_proxmox.cli.report import Line, explain
from nixops_proxmox.cli.signals import Ended, end, handled, status_of
from nixops_proxmox.errors import ConfigError, DeployError
from nixops_proxmox.spelling import PROGRAM
from nixops_proxmox.texts import head, shown

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
    "reinstall": reinstall,
    "destroy": destroy,
    "check": check,
    "recover": recover,
    "rollback": rollback,
    "snapshot": snapshot,
    "backup": backup,
    "restore": restore,
    "console": terminal,
    "doctor": doctor,
    "iso": iso,
    "profile": profile,
    "lifecycle": lifecycle,
    "lab": lab,
    "completion": completion,
}
COMMON: dict[str, Any] = {"verbose": 0, "state": "", "deployment": "", "file": "", "flake": "", "profile": ""}
USAGE_STATUS = 2
DEFECT_STATUS = 70  # sysexits' EX_SOFTWARE
HINTS = {  # what the system says of a file, and what mends it
    errno.ENOSPC: "the disk is full: make room, and run the same command again",
    errno.EDQUOT: "your quota is used up: make room, and run the same command again",
    errno.EFBIG: "files may not be that large here (ulimit -f): raise the limit, and run the same command again",
    errno.EROFS: "it is mounted read-only: mount it writable, or set XDG_STATE_HOME to another place",
    errno.EACCES: "you may not: change its owner or mode, or use another place",
    errno.EPERM: "you may not: change its owner or mode, or use another place",
    errno.ENAMETOOLONG: "give a shorter path",
}

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
        self.exit(USAGE_STATUS, f"error: {shown(message)}\n`{self.prog} --help` shows how it is used\n")


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
    """Run one command; returns the exit status. `open_deployment` is `wiring`'s, unless another is given."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = parse(words)
    except SystemExit as end:  # argparse has said what there is to say
        return int(end.code or 0) if not isinstance(end.code, str) else USAGE_STATUS
    args.open_deployment = open_deployment
    args.command = command_line(words)
    console = Console(verbosity=args.verbose)
    console.log_to_stderr()
    return run(args, console)


def parse(words: Sequence[str]) -> argparse.Namespace:
    args = build_parser().parse_args(words)
    for name, value in COMMON.items():
        if not hasattr(args, name):
            setattr(args, name, value)
    return args


def run(args: argparse.Namespace, console: Console) -> int:
    """The verb, with every error in words."""
    try:
        check_text(args)
        with handled(end):
            status: int = VERBS[args.verb].run(args, console)
        sys.stdout.flush()
    except DeployError as error:
        if console.verbosity > 1:
            console.show([Line(traceback.format_exc(), "dim")])
        console.show(explain(error))
        return error.exit_status
    except KeyboardInterrupt as interrupt:
        console.show([Line(f"interrupted; run the same command to continue: {args.command}", "yellow")])
        return status_of(interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT)
    except BrokenPipeError:
        _silence_stdout()
        return 0  # whoever read our results has had enough
    except OSError as error:
        if error.filename is None and error.errno not in HINTS:
            _show_defect(error, console)
            return DEFECT_STATUS
        console.show(explain(_no_file(error)))
        return USAGE_STATUS
    except Exception as error:  # noqa: BLE001 -- the last line of defence: a defect is named, not dumped
        _show_defect(error, console)
        return DEFECT_STATUS
    return status


def _no_file(error: OSError) -> ConfigError:
    """What the system refuses to do with a file is told as it is: it is no defect of ours."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    told = head(name, 160)
    what = f"{told}: " if told else ""
    return ConfigError(f"{what}{error.strerror or error}", hint=HINTS.get(error.errno or 0, ""))


def check_text(args: argparse.Namespace) -> None:
    """Names go into JSON, the state and Nix, which know text only. What ssh and scp are given is theirs."""
    for name in ("state", "deployment", "file", "flake", "profile", "machine", "machines", "only", "omit", "name"):
        given = getattr(args, name, None)
        for word in given if isinstance(given, list) else [given]:
            if isinstance(word, str) and any("\ud800" <= one <= "\udfff" for one in word):
                raise ConfigError(f"{word} cannot be used: it has bytes that are no UTF-8", hint="rename it")


def _show_defect(error: Exception, console: Console) -> None:
    if console.verbosity > 1:
        console.show([Line(traceback.format_exc(), "dim")])
    console.show([Line(f"error: a defect in {PROGRAM}: {type(error).__name__}: {error}", "bold red")])
    if console.verbosity < 2:
        console.show([Line("hint: -vv shows where; please report it with that", "yellow")])


def _silence_stdout() -> None:
    """Python flushes stdout once more at its end, and would complain."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command_line(words: Sequence[str]) -> str:
    """What the user typed, to be typed again."""
    import shlex

    return shlex.join([PROGRAM, *words])
