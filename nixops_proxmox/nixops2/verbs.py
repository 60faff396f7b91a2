"""`nixops proxmox VERB`: the command line's own verbs, on NixOps's state and NixOps's descriptions."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nixops.deployment
import nixops.evaluation
import nixops.script_defs

from nixops_proxmox import cli
from nixops_proxmox.cli import history
from nixops_proxmox.cli.console import Console
from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.nixops2.backend import ProxmoxDefinition, ProxmoxState
from nixops_proxmox.nixops2.network import NixopsRecord, WithKeysOf
from nixops_proxmox.nixops2.run import name_of
from nixops_proxmox.nixops2.spelling import spelled
from nixops_proxmox.nixops2.storage import without_checkpoints
from nixops_proxmox.spec import NetworkSpec

if TYPE_CHECKING:
    from nixops_proxmox.wiring import Deployed, Options

# The verbs that NixOps has none for, and whether they change anything.
CHANGES: Mapping[str, bool] = {
    "plan": False,
    "doctor": False,
    "history": False,
    "lifecycle": False,
    "check": False,
    "console": False,
    "rescue": True,
    "reinstall": True,
    "recover": True,
}

PROGRAMS = {"rsync": "NixOps copies files by it", "sshfs": "`nixops mount` needs it"}


def add_verbs(subparsers: Any) -> None:
    parser = nixops.script_defs.add_subparser(subparsers, "proxmox", help="more that can be done on Proxmox VE")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for name in (name for name in CHANGES if name in cli.VERBS):
        about = (cli.VERBS[name].__doc__ or "").strip()
        verb = verbs.add_parser(name, help=about.splitlines()[0].rstrip("."), description=about)
        cli.VERBS[name].add_arguments(verb)
        verb.add_argument("-v", "--verbose", action="count", default=0, help="tell more; -vv: all of it")
    parser.set_defaults(op=run)


def run(args: argparse.Namespace) -> None:
    """One verb, with NixOps's state open; ends the program with the verb's exit status."""
    console = Console(verbosity=args.verbose, spell=spelled)
    console.log_to_stderr()
    name = f"nixops proxmox {args.verb}"
    changes = CHANGES[args.verb]
    with ExitStack() as stack:
        if not changes:
            stack.enter_context(without_checkpoints())
        depl = stack.enter_context(nixops.script_defs.deployment(args, changes, name))
        if args.verb == "recover":
            depl.evaluate_active()  # makes NixOps's own rows for what will be found
        record = open_record(depl)
        if args.verb == "history":
            sys.exit(history.show(args, console, record.history(args.machine, args.limit)))
        sys.exit(cli.run(as_ours(args, depl, record), console))


def open_record(depl: "nixops.deployment.Deployment") -> NixopsRecord:
    kept = {name: state for name, state in depl.machines.items() if isinstance(state, ProxmoxState)}
    return NixopsRecord(depl.name or depl.uuid, kept, depl._get_deployment_lock)


def as_ours(args: argparse.Namespace, depl: "nixops.deployment.Deployment", record: NixopsRecord) -> argparse.Namespace:
    """What the command line's parser would have made of it."""
    network = depl.network_expr
    ours = argparse.Namespace(**{**cli.COMMON, **vars(args)})
    ours.deployment = depl.uuid
    ours.file, ours.flake = ("", network.network) if network.is_flake else (network.network, "")
    ours.state = ours.profile = ""
    ours.programs = PROGRAMS
    ours.yes = getattr(args, "yes", False) or args.confirm
    ours.command = " ".join(["nixops", *sys.argv[1:]])
    ours.open_deployment = opener(depl, record)
    return ours


def opener(
    depl: "nixops.deployment.Deployment", record: NixopsRecord
) -> "Callable[[Options], AbstractContextManager[Deployed]]":
    @contextmanager
    def open_deployment(options: "Options") -> "Iterator[Deployed]":
        from nixops_proxmox.wiring import Deployed
        from nixops_proxmox.wiring.description import given
        from nixops_proxmox.wiring.parts import Parts

        network = described(depl) if options.source is not None else recorded(record, depl)
        with Parts(replace(options, deployment=record.name), WithKeysOf(name_of(depl.uuid), record)) as parts:
            yield Deployed(options, record, parts, given(network))

    return open_deployment


def described(depl: "nixops.deployment.Deployment") -> NetworkSpec:
    """As NixOps evaluates it."""
    with explained():
        depl.evaluate()
    definitions = depl.definitions or {}
    ours = {name: one.spec for name, one in definitions.items() if isinstance(one, ProxmoxDefinition)}
    others = tuple(name for name in definitions if name not in ours)
    return NetworkSpec(name=depl.uuid, machines=tuple(ours.values()), foreign=others)


@contextmanager
def explained() -> "Iterator[None]":
    try:
        yield
    except nixops.evaluation.NixEvalError as error:
        raise EvaluationFailed("NixOps could not evaluate the network", hint="Nix's own words are above") from error


def recorded(record: NixopsRecord, depl: "nixops.deployment.Deployment") -> NetworkSpec:
    """As it was when it was last deployed."""
    states = (state for state in depl.machines.values() if isinstance(state, ProxmoxState))
    specs = tuple(state.record.spec for state in states if state.record.spec is not None)
    return NetworkSpec(name=record.name, machines=specs)
