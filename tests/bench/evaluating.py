"""What it costs to evaluate a network of many NixOS machines: in one process, and in batches by several workers.

    scripts/measure_evaluation [--machines 1,5,20] [--json]

NIXOPS_PROXMOX_NIXPKGS names the nixpkgs. The store is a folder of this run's own, so nothing is built or fetched.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from nixops_proxmox.nixeval.evaluate import NetworkSource, evaluate_network
from nixops_proxmox.nixeval.evaluations import evaluate_fleet
from nixops_proxmox.nixeval.memory import find_bounds
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import Nix, get_nix
from nixops_proxmox.paths import nix_dir
from nixops_proxmox.spec import parse_network
from tests.nixes import NIXPKGS, find_nixpkgs, nixpkgs_lib

EXPRESSION = nix_dir() / "eval.nix"
PAUSE = 0.05  # seconds between two looks at the memory
HEADS = ("machines", "how", "wall s", "CPU s", "peak MiB")
MACHINE = """\
  m{number:03} = {{ system.stateVersion = "24.05"; services.openssh.enable = true; services.nginx.enable = {nginx};
    deployment.proxmox = {{ disks.scsi0 = {{ storage = "local-lvm"; size = "16G"; }}; network.net0.bridge = "vmbr0"; }};
  }};
"""


@dataclass(frozen=True)
class Cost:
    """`peak`: MiB of all Nix processes together, at the worst moment."""

    machines: int
    how: str
    wall: float
    cpu: float
    peak: int


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", default="1,5,20")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    tree = find_nixpkgs()
    if tree is None or not (tree / "nixos" / "modules" / "module-list.nix").exists():
        sys.stderr.write(f"set {NIXPKGS} to a whole nixpkgs\n")
        return 1
    costs = [cost for count in args.machines.split(",") for cost in _measure_all(int(count), tree)]
    if args.json:
        sys.stdout.write(json.dumps({"evaluation": [asdict(cost) for cost in costs]}) + "\n")
    else:
        rows = [f"{one.machines} | {one.how} | {one.wall:.1f} | {one.cpu:.1f} | {one.peak}" for one in costs]
        sys.stdout.write(
            "".join(f"| {row} |\n" for row in [" | ".join(HEADS), " | ".join(["---"] * len(HEADS)), *rows])
        )
    return 0


def _measure_all(count: int, tree: Path) -> list[Cost]:
    with tempfile.TemporaryDirectory(prefix="nixops-proxmox-evaluation.") as scratch:
        run, network = _runner(Path(scratch)), Path(scratch) / "network.nix"
        machines = (MACHINE.format(number=one, nginx=str(one % 2 == 0).lower()) for one in range(count))
        network.write_text("{\n" + "".join(machines) + "}\n")
        search = (f"nixpkgs={tree}", f"nixpkgs-lib={nixpkgs_lib()}")
        nix, source = get_nix(), NetworkSource(file=network, search_path=search)
        names = [f"m{one:03}" for one in range(count)]
        ways: dict[str, Callable[[], object]] = {
            "one process": partial(evaluate_network, nix, EXPRESSION, source, run=run),
            "batches": partial(_in_batches, nix, source, run, names),
            "batches, one machine asked for": partial(_in_batches, nix, source, run, names[:1]),
        }
        return [_measure(count, how, work) for how, work in ways.items()]


def _in_batches(nix: Nix, source: NetworkSource, run: ProcessRunner, names: Sequence[str]) -> None:
    check = partial(parse_network, "bench")
    _, found = evaluate_fleet(
        nix, EXPRESSION, source, run=run, bounds=find_bounds, check=check, tell=lambda _: None, warn=lambda _: None
    )
    found.ensure(names)
    assert all(found.find(name) for name in names)


def _runner(scratch: Path) -> ProcessRunner:
    folders = {f"NIX_{name}_DIR": str(scratch / "nix" / name.lower()) for name in ("STORE", "STATE", "LOG", "CONF")}
    settings = "substituters =\nbuild-users-group ="
    return ProcessRunner(environment={**folders, "NIX_REMOTE": "", "NIX_PATH": "", "NIX_CONFIG": settings})


def _measure(count: int, how: str, work: Callable[[], object]) -> Cost:
    over, peak = threading.Event(), [0]

    def look() -> None:
        while not over.wait(PAUSE):
            peak[0] = max(peak[0], _memory_of_children())

    looking = threading.Thread(target=look)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    looking.start()
    try:
        work()
    finally:
        over.set()
        looking.join()
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(count, how, wall, cpu, peak[0] >> 20)


def _memory_of_children() -> int:
    """Bytes that the programs which we started have in memory."""
    pids = {pid for tasks in Path("/proc/self/task").iterdir() for pid in _read(tasks / "children").split()}
    pages = [_read(Path("/proc") / pid / "statm").split() for pid in pids]
    return sum(int(words[1]) for words in pages if words) * os.sysconf("SC_PAGE_SIZE")


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # it ended just now
        return ""


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
