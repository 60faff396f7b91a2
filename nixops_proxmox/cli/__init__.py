"""The command line: the parser, and errors as exit statuses. One file for each verb."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from typing_extensions import override

from nixops_proxmox import __version__
from nixops_proxmox.cli.arguments import add_common
from nixops_proxmox.errors import USAGE_STATUS, ConfigError
from nixops_proxmox.spelling import PROGRAM
from nixops_proxmox.texts import shown

if TYPE_CHECKING:
    from nixops_proxmox.display.screen import Screen

VERBS = (
    "init",
    "deploy",
    "plan",
    "status",
    "history",
    "ssh",
    "scp",
    "start",
    "stop",
    "reboot",
    "rescue",
    "migrate",
    "move",
    "reinstall",
    "destroy",
    "check",
    "recover",
    "adopt",
    "rollback",
    "snapshot",
    "backup",
    "restore",
    "console",
    "unlock",
    "keys",
    "identity",
    "recovery",
    "export",
    "report",
    "doctor",
    "iso",
    "volume",
    "macs",
    "reservations",
    "profile",
    "lifecycle",
    "schema",
    "lab",
    "completion",
)  # each is a file here, and is imported when it is asked for
COMMON: dict[str, Any] = {
    "verbose": 0,
    "state": "",
    "deployment": "",
    "file": "",
    "flake": "",
    "profile": "",
    "progress": "auto",
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
  8    a router or a DHCP server refused, failed or did not answer
  9    a command of deploy.hooks failed
  70   this program has a defect
  130  interrupted by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP
  141  the program that read the results has ended
"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that knows what a wrong word may have been meant to be."""

    @override
    def error(self, message: str) -> NoReturn:
        from difflib import get_close_matches

        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            choices = [choice.strip(" '") for choice in found[2].split(",")]
            near = get_close_matches(found[1], choices, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(choices)}"
            message = f"{message.partition('invalid choice')[0]}there is no {found[1]!r}\nhint: {hint}"
        self.exit(USAGE_STATUS, f"error: {shown(message)}\n`{self.prog} --help` shows the usage\n")


class VerbParser(Parser):
    """The parser of one verb. Its file is imported when the verb is parsed: a command imports what it uses."""

    _verb, _is_filled = "", True  # as it is for the parsers below a verb's

    def of(self, verb: str) -> Self:
        self._verb, self._is_filled = verb, False
        return self

    def fill(self) -> None:
        if not self._is_filled:
            self._is_filled = True
            module = verb_module(self._verb)
            self.description = (module.__doc__ or "").strip()
            module.add_arguments(self)
            add_common(self)

    @override
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.fill()
        return super().parse_known_args(args, namespace)


def verb_module(verb: str) -> ModuleType:
    return import_module(f"nixops_proxmox.cli.{verb}")


def find_about(verb: str) -> str:
    """The first line of its file's docstring, without importing the file: Python keeps it first in compiled code."""
    spec = find_spec(f"nixops_proxmox.cli.{verb}")
    get_code = getattr(spec.loader, "get_code", None) if spec else None
    code = get_code(spec.name) if spec and get_code else None
    first = code.co_consts[0] if code and code.co_consts else None
    return first.strip().splitlines()[0].rstrip(".") if isinstance(first, str) else ""


def build_parser(only: str = "", *, in_full: bool = False) -> argparse.ArgumentParser:
    """`only`: the verb, where it is certain. `in_full`: with the arguments of all, for completion and documentation."""
    parser = Parser(
        prog=PROGRAM,
        description="Install, run and change NixOS machines on Proxmox VE, described in Nix.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    add_common(parser)
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True, parser_class=VerbParser)
    for name in [only] if only else VERBS:
        verb = verbs.add_parser(
            name,
            help=find_about(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        ).of(name)
        if in_full:
            verb.fill()
    return parser


def main(argv: Sequence[str] | None = None, *, open_deployment: Callable[..., Any] | None = None) -> int:
    """Run one command. Returns the exit status. `open_deployment` is that of `operations`, unless another is given."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = parse(words)
    except SystemExit as end:  # argparse has said what there is to say
        return int(end.code or 0) if not isinstance(end.code, str) else USAGE_STATUS
    from nixops_proxmox.cli.spelling import spelled
    from nixops_proxmox.display.screen import Screen

    args.open_deployment = open_deployment
    args.command = command_line(words)
    screen = Screen(verbosity=args.verbose, spell=spelled, plain=args.progress == "plain")
    screen.log_to_stderr()
    return run(args, screen)


def parse(words: Sequence[str]) -> argparse.Namespace:
    first = words[0] if words and words[0] in VERBS else ""
    args = build_parser(first).parse_args(words)
    for name, value in COMMON.items():
        if not hasattr(args, name):
            setattr(args, name, value)
    return args


def run(args: argparse.Namespace, screen: "Screen") -> int:
    """The verb, with every error in words."""
    from nixops_proxmox.display.program import told_in_words

    def work() -> int:
        check_text(args)
        status: int = verb_module(args.verb).run(args, screen)
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
