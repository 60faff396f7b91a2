"""The arguments that verbs of several doors share, and which machines they mean."""

import argparse
import re
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from nixops_proxmox.errors import ConfigError

JOBS = 128


def add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", metavar="N", type=positive, default=JOBS, help=f"Work on N machines at a time (default: {JOBS})"
    )


def add_shard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shard",
        metavar="I/N",
        type=parse_shard,
        help="Work on the I-th of N shares of the machines, beside other runs",
    )


def parse_shard(text: str) -> tuple[int, int]:
    """(which, of how many), counted from 1. One of a CI's runners does each."""
    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    which, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= which <= count:
        raise argparse.ArgumentTypeError(f"{text!r} is no share, such as 1/4")
    return which, count


def share_of(names: Sequence[str], shard: tuple[int, int] | None) -> list[str]:
    """Every N-th name, from the I-th on: each name is in one share, and shares are equal but for one name."""
    return list(names) if shard is None else list(names)[shard[0] - 1 :: shard[1]]


def add_break_lock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--break-lock", action="store_true", help="Take the lock from a run that has certainly ended")


def add_machines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machines", metavar="MACHINE", nargs="*", help="Select these machines; shell patterns work")
    parser.add_argument("--only", metavar="PATTERN", action="append", default=[], help="Select these machines")
    parser.add_argument(
        "--except", dest="omit", metavar="PATTERN", action="append", default=[], help="Leave these machines out"
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """For verbs that change something."""
    add_jobs(parser)
    add_break_lock(parser)
    parser.add_argument("--confirm", action="store_true", help="Do it on hypervisors that ask for this word, too")
    parser.add_argument("--outside-windows", action="store_true", help="Do it outside of the hypervisors' windows, too")


def add_history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", metavar="NAME", nargs="?", help="Show only this machine, or volume")
    parser.add_argument("--limit", metavar="N", type=positive, help="Show only the last N entries")


def add_kind(parser: argparse.ArgumentParser) -> None:
    from nixops_proxmox.kinds.names import MACHINE, KindNames

    parser.add_argument(
        "kind", nargs="?", default=MACHINE, choices=KindNames(), metavar="KIND", help="Show another kind of thing"
    )


def add_mermaid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mermaid", action="store_true", help="Print a Mermaid state diagram")


def add_console(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", metavar="MACHINE")
    parser.add_argument("--seconds", metavar="N", type=positive, help="Leave after N seconds")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--spice", action="store_true", help="Show the display in remote-viewer, by SPICE (needs qxl)")
    how.add_argument("--vnc", action="store_true", help="Show the display in remote-viewer, by VNC on a local port")
    parser.add_argument(
        "--port", metavar="N", type=positive, help="Use this local port for --vnc (default: a free one)"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="Write the viewer's file here instead of starting remote-viewer"
    )


def add_recover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="Show what is found, and write nothing")
    add_break_lock(parser)


def add_migrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to", metavar="NODE", default="", help="Migrate to this node (default: the best one that nothing forbids)"
    )


def add_move(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to", metavar="PROFILE", default="", help="Move to this hypervisor (default: the described one)"
    )
    parser.add_argument(
        "--storage", metavar="NAME", default="", help="Back up to this storage, which both hypervisors see"
    )
    parser.add_argument("--dry-run", action="store_true", help="Show what would happen, and do nothing")


def add_permissions(parser: argparse.ArgumentParser) -> None:
    """What a deploy may do. A plan with the same words shows what that deploy would do."""
    parser.add_argument(
        "--allow-reboot",
        action="store_true",
        help="Restart machines when a change of hardware or a new kernel needs it",
    )
    parser.add_argument(
        "--allow-recreate",
        action="store_true",
        help="Recreate what is gone: a VM without its data, or an empty disk",
    )
    parser.add_argument(
        "--make-another", action="store_true", help="Create machines although unrecorded VMs bear their marks"
    )


def add_strategy(parser: argparse.ArgumentParser) -> None:
    """In which order. It stands in for what the description says."""
    parser.add_argument(
        "--batch", metavar="N|N%", type=batch, help="Work on only so many machines of a group at a time"
    )
    parser.add_argument("--canary", metavar="PATTERN", action="append", default=[], help="Work on these machines first")
    parser.add_argument(
        "--max-failures", metavar="N", type=not_negative, help="Leave the others alone after more than N failures"
    )


def add_build_on(parser: argparse.ArgumentParser) -> None:
    """Where systems are built. It stands in for what the description says."""
    parser.add_argument("--build-on", choices=("here", "guest"), help="Build systems here, or each machine its own")


def add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="Exit with 10 if a deploy would do something, and with 0 if not"
    )
    parser.add_argument(
        "--verify", action="store_true", help="Verify everything instead of trusting the recorded state"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print one JSON value on stdout")


def add_yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-y", "--yes", action="store_true", help="Answer yes to every question")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return number


def batch(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,5}|(?:100|[1-9][0-9]?)%", text):
        raise argparse.ArgumentTypeError("must be a number of machines, or a percentage such as 25%")
    return text


def select(names: Sequence[str], args: argparse.Namespace) -> list[str]:
    """The selected machines, in their order. ConfigError for a pattern that selects none, with the nearest name."""
    wanted = [*args.machines, *args.only]
    for pattern in [*wanted, *args.omit]:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise unknown_machine(pattern, names)
    chosen = [name for name in names if not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)]
    return [name for name in chosen if not any(fnmatchcase(name, pattern) for pattern in args.omit)]


def selects_all(args: argparse.Namespace) -> bool:
    """Did the user name no machines? Then the verb works on what there is beside machines, too."""
    return not (args.machines or args.only or args.omit)


def unknown_machine(name: str, names: Sequence[str]) -> ConfigError:
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    have = ", ".join(names[:20]) + (" …" if len(names) > 20 else "") if names else "none"
    return ConfigError(
        f"there is no machine {name!r}", hint=f"did you mean {near[0]!r}?" if near else f"there are: {have}"
    )


def get_machine(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise unknown_machine(name, names)
    return name
