"""`nixops proxmox VERB`: what NixOps has no verb for, on NixOps's state and NixOps's descriptions."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import nixops.deployment
import nixops.evaluation
import nixops.script_defs

from nixops_proxmox.display import dialogs
from nixops_proxmox.display.arguments import (
    JOBS,
    add_console,
    add_history,
    add_jobs,
    add_json,
    add_kind,
    add_machines,
    add_mermaid,
    add_migrate,
    add_move,
    add_plan,
    add_recover,
    add_run,
    add_yes,
    get_machine,
    select,
    selects_all,
)
from nixops_proxmox.display.moves import move
from nixops_proxmox.display.program import told_in_words
from nixops_proxmox.display.results import show_checks, show_findings, show_history, show_lifecycle, show_plans
from nixops_proxmox.display.screen import Screen
from nixops_proxmox.display.volumes import add_volume, run_volume_verb
from nixops_proxmox.errors import EvaluationFailed
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.nixops2.backend import ProxmoxState
from nixops_proxmox.nixops2.described import read_network
from nixops_proxmox.nixops2.holding import holding_of
from nixops_proxmox.nixops2.network import NixopsRecord, WithKeysOf
from nixops_proxmox.nixops2.run import name_of
from nixops_proxmox.nixops2.session import session_of
from nixops_proxmox.nixops2.spelling import spelled
from nixops_proxmox.nixops2.things import things_of
from nixops_proxmox.nixops2.volumes import NixopsVolumes, kept_volumes
from nixops_proxmox.spec import NetworkSpec

if TYPE_CHECKING:
    from nixops_proxmox.operations import Deployed

PROGRAM = "nixops"
PROGRAMS = {"rsync": "NixOps copies files by it", "sshfs": "`nixops mount` needs it"}


@dataclass(frozen=True)
class Opened:
    """NixOps's deployment and its record, for one verb."""

    args: argparse.Namespace
    screen: Screen
    depl: "nixops.deployment.Deployment"
    record: NixopsRecord

    @property
    def typed(self) -> str:
        return " ".join([PROGRAM, *sys.argv[1:]])

    @property
    def yes(self) -> bool:
        return bool(getattr(self.args, "yes", False) or self.args.confirm)

    @contextmanager
    def deployed(self, *, described: bool = True) -> "Iterator[Deployed]":
        """`described`: with the machines as NixOps evaluates them now, else as they were last deployed."""
        from nixops_proxmox.compose import Parts
        from nixops_proxmox.operations import Deployed, Options
        from nixops_proxmox.operations.description import given
        from nixops_proxmox.operations.networks import used_profiles
        from nixops_proxmox.pve.wire.networks import enter_networks

        args, reporter = self.args, self.screen.reporter
        options = Options(
            deployment=self.record.name,
            jobs=getattr(args, "jobs", JOBS),
            permissions=Permissions(check=getattr(args, "verify", False)),
            break_lock=getattr(args, "break_lock", False),
            reporter=reporter,
            ended=lambda outcome: reporter.ended(outcome.name, outcome.error),
        )
        with self.screen.busy("reading the network"):
            network = evaluated(self.depl) if described else recorded(self.record, self.depl)
        with Parts(options, WithKeysOf(name_of(self.depl.uuid), self.record)) as parts:
            deployed = Deployed(options, self.record, parts, given(network))
            enter_networks(used_profiles(deployed))
            for remark in deployed.remarks():
                self.screen.warn(remark)
            yield deployed


class Arguments(Protocol):
    def __call__(self, parser: argparse.ArgumentParser) -> None: ...


@dataclass(frozen=True)
class ProxmoxVerb:
    """One verb: what it is for, what it takes, and what it does. `changes`: it writes NixOps's state."""

    about: str
    run: Callable[[Opened], int]
    takes: Sequence[Arguments] = ()
    changes: bool = False


def run_plan(opened: Opened) -> int:
    with opened.deployed() as deployed:
        planned = deployed.plan(select(deployed.described(), opened.args))
        return show_plans(
            opened.screen,
            planned,
            deployed.removals(),
            deployed.list_volumes(),
            deployed.list_resources(),
            as_json=opened.args.json,
            check=opened.args.check,
        )


def run_check(opened: Opened) -> int:
    with opened.deployed() as deployed:
        names = select([machine.name for machine in deployed.machines()], opened.args)
        resources = deployed.list_resources() if selects_all(opened.args) else ()
        return show_checks(opened.screen, deployed.check(names), resources, as_json=opened.args.json)


def run_doctor(opened: Opened) -> int:
    from nixops_proxmox.operations.doctor import Diagnosis, Needs, diagnose, look_beside, needs_of
    from nixops_proxmox.operations.tools import find_all
    from nixops_proxmox.pve.wire.networks import usual_profile

    def needs(found: Diagnosis) -> Needs:
        with opened.deployed() as deployed:
            look_beside(deployed, found)
            return needs_of(deployed)

    found = diagnose(find_all(str, PROGRAMS), needs, usual_profile, opened.screen.busy)
    return show_findings(opened.screen, found.findings, found.errors, as_json=opened.args.json)


def run_history(opened: Opened) -> int:
    args = opened.args
    found = opened.record.history(args.machine, args.limit)
    return show_history(opened.screen, found, in_full=bool(args.machine), as_json=args.json)


def run_lifecycle(opened: Opened) -> int:
    from nixops_proxmox.kinds.registry import find_kind

    lifecycle = find_kind(opened.args.kind).lifecycle
    return show_lifecycle(opened.screen, lifecycle, as_mermaid=opened.args.mermaid, as_json=opened.args.json)


def run_console(opened: Opened) -> int:
    with opened.deployed(described=False) as deployed:
        name = get_machine(opened.args.machine, [machine.name for machine in opened.record.machines()])
        return dialogs.open_console(opened.screen, deployed, name, opened.args)


def run_unlock(opened: Opened) -> int:
    with opened.deployed(described=False) as deployed:
        names = select([machine.name for machine in opened.record.machines()], opened.args)
        return dialogs.unlock(opened.screen, deployed, names, opened.typed)


def run_rescue(opened: Opened) -> int:
    with opened.deployed() as deployed:
        names = select([machine.name for machine in opened.record.machines()], opened.args)
        return dialogs.rescue(opened.screen, deployed, names, opened.typed)


def run_migrate(opened: Opened) -> int:
    with opened.deployed() as deployed:
        names = select([machine.name for machine in opened.record.machines()], opened.args)
        return dialogs.migrate(opened.screen, deployed, names, opened.args.to, opened.typed)


def run_move(opened: Opened) -> int:
    with opened.deployed() as deployed:
        names = select([machine.name for machine in opened.record.machines()], opened.args)
        return move(opened.screen, deployed, names, opened.args, yes=opened.yes, typed=opened.typed)


def run_reinstall(opened: Opened) -> int:
    with opened.deployed() as deployed:
        names = select(deployed.described(), opened.args)
        return dialogs.reinstall(opened.screen, deployed, names, opened.typed, yes=opened.yes)


def run_recover(opened: Opened) -> int:
    opened.depl.evaluate_active()  # makes NixOps's own rows for what will be found
    opened = replace(opened, record=open_record(opened.depl))  # with those rows
    from nixops_proxmox.operations.networks import described_profiles
    from nixops_proxmox.pve.wire.networks import enter_networks

    with opened.deployed() as deployed:
        profiles = described_profiles(deployed)
        enter_networks(profiles)
        args = opened.args
        return dialogs.recover(
            opened.screen, deployed, profiles, dry_run=args.dry_run, yes=opened.yes, as_json=args.json
        )


def run_volume(opened: Opened) -> int:
    if opened.args.action == "adopt":
        opened.depl.evaluate_active()  # makes NixOps's own row for it
        opened = replace(opened, record=open_record(opened.depl))
    with opened.deployed() as deployed:
        return run_volume_verb(opened.args, opened.screen, deployed)


# The verbs that NixOps has none for.
VERBS: Mapping[str, ProxmoxVerb] = {
    "plan": ProxmoxVerb(
        "Show what a deploy would do to the VMs, and change nothing.",
        run_plan,
        (add_machines, add_json, add_jobs, add_plan),
    ),
    "doctor": ProxmoxVerb("Find what is missing for a deploy, here and on the cluster.", run_doctor, (add_json,)),
    "history": ProxmoxVerb(
        "List what was done to the machines, and how it ended.", run_history, (add_history, add_json)
    ),
    "lifecycle": ProxmoxVerb(
        "Show the phases of a machine's life and the steps between them.",
        run_lifecycle,
        (add_kind, add_mermaid, add_json),
    ),
    "check": ProxmoxVerb(
        "Compare the cluster and the guests with the record and description.",
        run_check,
        (add_machines, add_json, add_jobs),
    ),
    "console": ProxmoxVerb(
        "Open a machine's serial console or display, through the hypervisor.", run_console, (add_console,)
    ),
    "unlock": ProxmoxVerb(
        "Open the encrypted disks of machines that wait for it when they boot.",
        run_unlock,
        (add_machines, add_run),
        changes=True,
    ),
    "rescue": ProxmoxVerb(
        "Boot machines into the installer, beside the untouched system.",
        run_rescue,
        (add_machines, add_run),
        changes=True,
    ),
    "migrate": ProxmoxVerb(
        "Migrate machines to another node: live if they run.",
        run_migrate,
        (add_migrate, add_machines, add_run),
        changes=True,
    ),
    "move": ProxmoxVerb(
        "Move machines to another hypervisor, by backup and restore.",
        run_move,
        (add_move, add_machines, add_run, add_yes),
        changes=True,
    ),
    "reinstall": ProxmoxVerb(
        "Install machines again on their VMs.", run_reinstall, (add_machines, add_run, add_yes), changes=True
    ),
    "volume": ProxmoxVerb(
        "List, attach, detach, delete, grow and adopt volumes.",
        run_volume,
        (add_volume,),
        changes=True,
    ),
    "recover": ProxmoxVerb(
        "Rebuild a lost record from the marks on the cluster's VMs.",
        run_recover,
        (add_recover, add_yes, add_json),
        changes=True,
    ),
}


def add_verbs(subparsers: Any) -> None:
    parser = nixops.script_defs.add_subparser(subparsers, "proxmox", help="Do more on Proxmox VE than NixOps does")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        arguments = verbs.add_parser(name, help=verb.about.rstrip("."), description=verb.about)
        for take in verb.takes:
            take(arguments)
        arguments.add_argument("-v", "--verbose", action="count", default=0, help="Print more; -vv prints everything")
    parser.set_defaults(op=run)


def run(args: argparse.Namespace) -> None:
    """One verb, with NixOps's state open. Ends the program with the verb's exit status."""
    screen = Screen(verbosity=args.verbose, spell=spelled)
    screen.log_to_stderr()
    verb = VERBS[args.verb]
    with ExitStack() as stack:
        depl = stack.enter_context(nixops.script_defs.deployment(args, verb.changes, f"{PROGRAM} proxmox {args.verb}"))
        if not verb.changes:
            session_of(depl._statefile).storage = None  # NixOps gave us a throw-away copy of the state
        opened = Opened(args, screen, depl, open_record(depl))
        sys.exit(told_in_words(lambda: verb.run(opened), screen, opened.typed))


def open_record(depl: "nixops.deployment.Deployment") -> NixopsRecord:
    title = depl.name or depl.uuid
    volumes = NixopsVolumes(
        title, depl.uuid, lambda: kept_volumes(depl), lambda name: depl.delete_resource(depl.resources[name])
    )
    kept = {name: state for name, state in depl.machines.items() if isinstance(state, ProxmoxState)}
    things = things_of(depl, session_of(depl._statefile))
    return NixopsRecord(title, kept, depl._get_deployment_lock, holding_of(depl._statefile).prove, volumes, things)


def evaluated(depl: "nixops.deployment.Deployment") -> NetworkSpec:
    """As NixOps evaluates it."""
    with explained():
        depl.evaluate()
    return read_network(depl.uuid, depl.definitions or {})


@contextmanager
def explained() -> "Iterator[None]":
    try:
        yield
    except nixops.evaluation.NixEvalError as error:
        raise EvaluationFailed("NixOps could not evaluate the network", hint="Nix's own words are above") from error


def recorded(record: NixopsRecord, depl: "nixops.deployment.Deployment") -> NetworkSpec:
    """The network as it was last deployed."""
    states = (state for state in depl.machines.values() if isinstance(state, ProxmoxState))
    specs = tuple(state.record.spec for state in states if state.record.spec is not None)
    return NetworkSpec(name=record.name, machines=specs, volumes=tuple(record.volumes.specs()))
