"""Print the JSON Schema of what a verb prints with --json.

Without a verb, lists the verbs that have one.
"""

import argparse

from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.lines import Line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="WORD", help="Name the verb, such as: volume list")


def run(args: argparse.Namespace, screen: Screen) -> int:
    from nixops_proxmox.messages.shapes.outputs import OUTPUTS, schema_of

    verb = " ".join(args.words)
    if not verb:
        screen.result_lines([Line(one) for one in OUTPUTS])
        return 0
    if verb not in OUTPUTS:
        raise ConfigError(f"there is no schema of {verb!r}", hint=f"there are: {', '.join(OUTPUTS)}")
    screen.json(schema_of(verb))
    return 0
