"""The arguments that verbs share, and what they come to: which network, which deployment, which machines."""

import argparse
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from nixops_proxmox.display.arguments import JOBS, unknown_machine
from nixops_proxmox.errors import ConfigError
from nixops_proxmox.paths import expanded
from nixops_proxmox.spelling import PROFILE_VARIABLE, Verb, command
from nixops_proxmox.texts import head

if TYPE_CHECKING:  # importing it takes a while (paramiko, requests), which --help and completion need not wait for
    from nixops_proxmox.display.screen import Screen
    from nixops_proxmox.operations import Deployed, Options
    from nixops_proxmox.options import Strategies

DEPLOYMENT_VARIABLE = "NIXOPS_PROXMOX_DEPLOYMENT"
STATE_VARIABLE = "NIXOPS_PROXMOX_STATE"
PROGRESS = ("auto", "plain")
NETWORK_FILES = ("network.nix", "nixops.nix", "flake.nix")  # looked for in the current folder, in this order


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every verb takes. Nothing has a default here: the same options may stand before the verb."""
    group = parser.add_argument_group("common options")
    quiet = argparse.SUPPRESS
    group.add_argument("-v", "--verbose", action="count", default=quiet, help="Print more; -vv prints everything")
    group.add_argument(
        "--state", metavar="FILE|URL", default=quiet, help=f"Use this state (default: ${STATE_VARIABLE})"
    )
    group.add_argument(
        "--deployment",
        metavar="NAME",
        default=quiet,
        help=f"Use this deployment (or ${DEPLOYMENT_VARIABLE})",
    )
    file = group.add_argument("-f", "--file", metavar="FILE", default=quiet, help="Read the network from this Nix file")
    complete(file, "file")
    group.add_argument("--flake", metavar="REF", default=quiet, help="Read the network from this flake: ., .#name, …")
    group.add_argument(
        "--progress",
        choices=PROGRESS,
        default=quiet,
        help="Show progress as lines that stay (plain), or as a table (auto)",
    )
    group.add_argument(
        "--profile",
        metavar="NAME",
        default=quiet,
        help=f"Use this hypervisor for all machines (or ${PROFILE_VARIABLE})",
    )


def complete(action: argparse.Action, kind: str) -> None:
    """Tell the completion that this argument is a `file` or a `folder`."""
    action.completes = kind  # type: ignore[attr-defined]


# --- what was meant -------------------------------------------------------------------------------------------------


def find_source(args: argparse.Namespace, folder: Path | None = None) -> str:
    """The reference of the network: as given, or the current folder's. Empty if there is none."""
    if args.file and args.flake:
        raise ConfigError("--file and --flake name two networks", hint="choose one of them")
    if given := args.file or args.flake:
        return str(given)
    here = folder or Path.cwd()
    found = next((here / name for name in NETWORK_FILES if (here / name).is_file()), None)
    if found is None:
        return ""
    return str(here) if found.name == "flake.nix" else str(found)


def get_source(args: argparse.Namespace) -> str:
    source = find_source(args)
    if not source:
        raise found_nothing()
    return source


def found_nothing() -> ConfigError:
    """What was looked for, and where."""
    return ConfigError(
        f"found no network here: none of {', '.join(NETWORK_FILES)} is in {Path.cwd()}",
        hint=f"go to the folder of your network, or give --file or --flake; {command(Verb.INIT)} writes one",
    )


def deployment_name(source: str) -> str:
    """A deployment's name by its network: `shop/network.nix` is shop, `shop/test.nix` is shop-test, `…/shop#eu` is
    shop-eu. Machines of two networks must never meet in one record, so there is no common default."""
    from nixops_proxmox.nixeval.flakes import local_folder, split_reference

    reference, part = split_reference(source)
    path = expanded(reference)
    if path.suffix == ".nix":
        part = part or ("" if path.name in (*NETWORK_FILES, "default.nix") else path.stem)
        words = [path.absolute().parent.name, part]
    elif folder := local_folder(reference, Path.cwd()):
        words = [folder.name, part]
    else:
        words = [*_remote_words(reference), part]
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(filter(None, words))).strip("-.")
    return text or "default"


def _remote_words(reference: str) -> list[str]:
    """The repository's name, and the folder in it that `?dir=` gives."""
    address, _, query = reference.partition("?")
    return [Path(address).name.rsplit(":")[-1], *parse_qs(query).get("dir", [])]


def find_deployment(args: argparse.Namespace, environment: Mapping[str, str] | None = None) -> str:
    """The deployment's name as far as arguments, environment and folder tell. Empty: they do not."""
    environment = os.environ if environment is None else environment
    source = find_source(args)
    name = args.deployment or environment.get(DEPLOYMENT_VARIABLE, "") or (deployment_name(source) if source else "")
    return _checked(name)


def find_told_deployment(args: argparse.Namespace) -> str:
    """The deployment that --deployment names. Empty: none. For verbs that need no deployment."""
    return _checked(args.deployment or "")


def _checked(name: str) -> str:
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise ConfigError(
            f"{head(name, 60)!r} cannot be a deployment's name",
            hint="letters, digits, and _ . - after the first, at most 100; --deployment NAME gives another",
        )
    return name


def get_deployment(args: argparse.Namespace, known: Callable[[], Sequence[str]]) -> str:
    """Like `find_deployment`, and if nothing tells, the only one in the state. `known` lists those in the state."""
    if name := find_deployment(args):
        return name
    names = known()
    if len(names) == 1:
        return names[0]
    have = f"the state has {', '.join(names)}" if names else "the state has none yet"
    raise ConfigError(
        f"which deployment? {have}\n{found_nothing().message}",
        hint=f"go to the folder of your network, or give --deployment NAME; {command(Verb.INIT)} writes a network",
    )


def state_location(args: argparse.Namespace, environment: Mapping[str, str] | None = None) -> str:
    """Raises ConfigError for a password on the command line, where every user of the computer could read it."""
    from nixops_proxmox.state import has_password

    environment = os.environ if environment is None else environment
    if args.state and has_password(args.state):
        raise ConfigError(
            "--state has a password in it, which every user of this computer could read",
            hint=f"put it into ~/.pgpass, PGPASSWORD or {STATE_VARIABLE}",
        )
    return str(args.state or environment.get(STATE_VARIABLE, ""))


# --- opening --------------------------------------------------------------------------------------------------------


@contextmanager
def open_deployed(args: argparse.Namespace, screen: "Screen", *, described: bool | None = True) -> Iterator["Deployed"]:
    """The deployment that the arguments mean. `described`: True needs its description, None takes it if there is one,
    False: use only the record."""
    from nixops_proxmox.pve.wire.networks import choose_profile, enter_networks

    if chosen := choose_profile(args.profile):
        enter_networks([chosen])  # before anything else is imported or evaluated, rather than do that twice
    with ExitStack() as stack:
        evaluates = described or (described is None and find_source(args))
        with screen.busy(
            "evaluating the network" if evaluates else "reading the record"
        ):  # and importing what it takes
            from nixops_proxmox.operations.networks import used_profiles

            options = build_options(args, screen, described=described)
            deployed: Deployed = stack.enter_context(get_opener(args)(options))
            networks = used_profiles(deployed)
        enter_networks(networks)
        for remark in deployed.remarks():
            screen.warn(remark)
        tell_empty(args, screen, deployed)
        yield deployed


def tell_empty(args: argparse.Namespace, screen: "Screen", deployed: "Deployed") -> None:
    """A network of nothing is probably not what the user wanted to look at."""
    network = deployed.network
    if network is not None and not (network.machines or network.volumes or network.resources):
        screen.warn(
            f"{find_source(args)} describes no machines: all attributes but `network`, `defaults`, `resources` are some"
        )


def get_opener(args: argparse.Namespace) -> "Callable[..., AbstractContextManager[Deployed]]":
    if args.open_deployment is not None:
        opener: Callable[..., AbstractContextManager[Deployed]] = args.open_deployment
        return opener
    from nixops_proxmox.operations import open_deployment

    return open_deployment


def build_options(args: argparse.Namespace, screen: "Screen", *, described: bool | None) -> "Options":
    from nixops_proxmox.kinds.machine.shape import Permissions
    from nixops_proxmox.nixeval.evaluate import parse_source
    from nixops_proxmox.operations import Options
    from nixops_proxmox.options import Agreed
    from nixops_proxmox.pve.wire.networks import choose_profile

    reference = get_source(args) if described else find_source(args) if described is None else ""
    state = state_location(args)
    return Options(
        deployment=get_deployment(args, lambda: list_deployments(state)),
        source=parse_source(reference, is_flake=bool(args.flake)) if reference else None,
        state=state,
        profile=choose_profile(args.profile),
        jobs=getattr(args, "jobs", JOBS),
        permissions=Permissions(
            allow_reboot=getattr(args, "allow_reboot", False),
            allow_recreate=getattr(args, "allow_recreate", False),
            make_another=getattr(args, "make_another", False),
            check=getattr(args, "verify", False),
        ),
        break_lock=getattr(args, "break_lock", False),
        apart=bool(getattr(args, "shard", None)),
        agreed=Agreed(getattr(args, "confirm", False), getattr(args, "outside_windows", False)),
        reporter=screen.reporter,
        strategy=find_strategy(args),
        build_on=getattr(args, "build_on", None) or "",
        ended=lambda outcome: screen.reporter.ended(outcome.name, outcome.error),
    )


def find_strategy(args: argparse.Namespace) -> Any:
    """What the user said about the order stands in for what is described. --batch and --canary make one group of all
    machines of this run."""
    from nixops_proxmox.options import as_described
    from nixops_proxmox.spec import Strategy

    said, canary, most = getattr(args, "batch", None), getattr(args, "canary", []), getattr(args, "max_failures", None)

    def decide(names: "Sequence[str]", described: "Strategies") -> "Strategies":
        for pattern in canary:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise unknown_machine(pattern, names)
        if said is None and not canary:
            return {name: one.model_copy(update={"max_failures": most}) for name, one in described.items()}
        first = {name for name in names if any(fnmatchcase(name, pattern) for pattern in canary)}
        return {name: Strategy(batch=said, canary=name in first, max_failures=most or 0) for name in names}

    return decide if said or canary or most is not None else as_described


def list_deployments(state: str) -> list[str]:
    from nixops_proxmox.state import open_state

    with open_state(state) as opened:
        return opened.deployments()
