"""Writes man/nixops-proxmox.1 from the parser of the command line; with --check it only compares."""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "man" / "nixops-proxmox.1"
MADE_BY = "scripts/man_page.py"
FILES = {
    "~/.config/nixops-proxmox/profiles.toml": "The clusters, and how to log in. Other users must not read it.",
    "~/.local/state/nixops-proxmox/": "The state, host keys, client keys, and known_hosts files.",
    "network.nix, flake.nix": "The network, in the current folder, unless -f or --flake names another one.",
}
VARIABLES = {
    "NIXOPS_PROXMOX_STATE": "The state: a file, or a URL of PostgreSQL.",
    "NIXOPS_PROXMOX_DEPLOYMENT": "The deployment, as --deployment.",
    "NIXOPS_PROXMOX_PROFILE": "The hypervisor for all machines, as --profile.",
    "PROXMOX_VE_ENDPOINT, PROXMOX_VE_API_TOKEN, …": "The cluster, in place of a profile.",
    "NO_COLOR": "Print no colours.",
}


def man_page() -> str:
    """The page in the macros of man(7)."""
    from nixops_proxmox import __version__
    from nixops_proxmox.cli import EPILOG, build_parser

    parser = build_parser(in_full=True)
    lines = [
        f'.\\" Written by {MADE_BY}; do not edit.',
        f'.TH NIXOPS-PROXMOX 1 "" "nixops-proxmox {__version__}" "User commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"nixops-proxmox \\- {roff(parser.description or '').rstrip('.')}",
        ".SH SYNOPSIS",
        ".B nixops-proxmox",
        "[\\fIcommon options\\fR] \\fIVERB\\fR [\\fIarguments\\fR]",
        ".SH DESCRIPTION",
        "Describe machines in Nix. \\fBnixops-proxmox deploy\\fR installs them on Proxmox VE, starts them and makes",
        "sure that you can reach them. You may interrupt it at any time: run it again, and it continues.",
        ".SH COMMON OPTIONS",
        "You can write them before or after the verb.",
        *options(parser),
        ".SH VERBS",
    ]
    for verb, below in verbs(parser):
        lines += section(verb, below)
    lines += [".SH EXIT STATUS", *pairs(dict(re.findall(r"(?m)^  (\d+) +(.+)$", EPILOG)))]
    lines += [".SH ENVIRONMENT", *pairs(VARIABLES), ".SH FILES", *pairs(FILES)]
    lines += [".SH SEE ALSO", ".BR nix (1), .BR ssh (1), .BR nixops (1)".replace(", .BR", ",\n.BR")]
    return "\n".join(lines) + "\n"


def verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each verb and each of its actions, as it is typed."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield below.prog.partition(" ")[2] or name, below
                yield from verbs(below)


def section(verb: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f".SS {roff(verb)}"
    about = (parser.description or "").strip()
    for number, paragraph in enumerate(re.split(r"\n\s*\n", about)):
        yield from ([".PP"] if number else [])
        yield roff(" ".join(paragraph.split()))
    yield from options(parser, common=False)


def options(parser: argparse.ArgumentParser, *, common: bool = True) -> Iterator[str]:
    """Its arguments. The common ones have a section of their own, so verbs leave them out."""
    for group in parser._action_groups:
        is_common = group.title == "common options"
        for action in group._group_actions:
            if action.help in (None, argparse.SUPPRESS) or isinstance(
                action, argparse._SubParsersAction | argparse._HelpAction
            ):
                continue
            if common or not is_common:
                yield from (
                    ".TP",
                    names_of(action),
                    roff(action.help % {"default": action.default, "prog": parser.prog}),
                )


def names_of(action: argparse.Action) -> str:
    """`\\fB--out\\fR \\fIFILE\\fR`, or the name of a positional argument."""
    value = "" if action.nargs == 0 else roff(_metavar(action))
    if not action.option_strings:
        return f"\\fI{value}\\fR"
    names = ", ".join(f"\\fB{roff(name)}\\fR" for name in action.option_strings)
    return f"{names} \\fI{value}\\fR" if value else names


def _metavar(action: argparse.Action) -> str:
    if action.choices and action.metavar is None:
        return "|".join(map(str, action.choices))
    found = action.metavar or action.dest.upper()
    return found if isinstance(found, str) else " ".join(found)


def pairs(rows: dict[str, str]) -> Iterator[str]:
    for name, about in rows.items():
        yield from (".TP", f"\\fB{roff(name)}\\fR", roff(about))


def roff(text: str) -> str:
    """Text that is no request and no escape, whatever it begins with. `code` is bold."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it is out of date")
    check = parser.parse_args(arguments).check
    os.environ["COLUMNS"] = "100"
    want = man_page()
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == want:
        return 0
    if check:
        sys.stderr.write("man/nixops-proxmox.1 is out of date: run scripts/docs\n")
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(want, encoding="utf-8")
    sys.stderr.write("wrote man/nixops-proxmox.1\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
