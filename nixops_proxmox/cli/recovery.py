"""Try the recovery keys of encrypted disks, or make new keys.

Both need a machine that runs. A key is read from the folder of the sink, or
from --key-file. It never stands on a command line.
"""

import argparse
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nixops_proxmox.cli.arguments import add_common, complete, open_deployed
from nixops_proxmox.display.arguments import add_json, add_machines, add_run, get_machine, select
from nixops_proxmox.display.runs import carry_out
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.messages.lines import Line

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed

LONGEST = 4096  # characters
NOT_WELL = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    test = add_action(actions, "test", "Try whether the recovery keys open the disks, and show the slots")
    test.add_argument("machine", metavar="MACHINE")
    test.add_argument("--disk", metavar="NAME", default="", help="Try this one of its disks: root, or a slot as scsi1")
    add_json(test)
    rotate = add_action(actions, "rotate", "Make new keys for the disks, while the machine runs")
    add_machines(rotate)
    add_run(rotate)
    for action in (test, rotate):
        about = "Read a key that opens the disk from this file; - is stdin"
        complete(action.add_argument("--key-file", metavar="FILE", default="", help=about), "file")
        add_common(action)


def add_action(actions: Any, name: str, about: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about, allow_abbrev=False)
    return action


def run(args: argparse.Namespace, screen: Screen) -> int:
    if args.action == "test":
        with open_deployed(args, screen, described=None) as deployed:
            return run_test(args, screen, deployed)
    with open_deployed(args, screen) as deployed:
        return run_rotate(args, screen, deployed)


def run_test(args: argparse.Namespace, screen: Screen, deployed: "Deployed") -> int:
    from nixops_proxmox.messages.disk_keys import proof_lines, proofs_json
    from nixops_proxmox.operations.disk_keys import try_keys

    name = get_machine(args.machine, [machine.name for machine in deployed.record.machines()])
    key = read_key(args.key_file, name)
    pursuit = deployed.read_only(name)
    with screen.busy(f"trying the key on {name}"):
        proofs = try_keys(pursuit, key, args.disk)
    machine = pursuit.machine
    if args.json:
        screen.json(proofs_json(machine, proofs))
    else:
        lines = [line for volume, proof in proofs.items() for line in proof_lines(machine, proof, volume)]
        screen.result_lines([Line(line) for line in lines])
    return 0 if all(proof.is_well for proof in proofs.values()) else NOT_WELL


def run_rotate(args: argparse.Namespace, screen: Screen, deployed: "Deployed") -> int:
    from nixops_proxmox.operations.disk_keys import rotate

    names = select([machine.name for machine in deployed.record.machines() if machine.facts.luks], args)
    if args.key_file and len(names) != 1:
        raise ConfigError("--key-file has the key of one disk", hint="name one machine with it")
    key = read_key(args.key_file, *names)
    return carry_out(
        args.command,
        screen,
        names,
        "with new keys",
        lambda: deployed.work_on(names, lambda pursuit, _: rotate(pursuit, key)),
        deployed.machines,
    )


def read_key(file: str, *names: str) -> str:
    """What the file has, without its line end. Empty: no file is named. ConfigError if it has no key."""
    if not file:
        return ""
    if file == "-" and sys.stdin.isatty():
        key = getpass.getpass(f"a key of the disk of {', '.join(names)}: ")
    else:
        try:
            key = sys.stdin.read(LONGEST) if file == "-" else Path(file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read {file}: {getattr(error, 'strerror', error)}") from error
    key = key.rstrip("\r\n")
    if not key or len(key) > LONGEST or "\n" in key:
        raise ConfigError(f"there is no key in {'the standard input' if file == '-' else file}: expected one line")
    return key
