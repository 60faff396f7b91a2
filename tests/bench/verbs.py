"""What one command costs: CPU time against a reference that is measured in the same run, modules, and calls."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.e2e.bed import DEMO, Bed, start_bed

ONE = """\
{
  web = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
    };
    toplevel = import DEMO/system.nix {
      name = "web";
      hosts = { };
      service = { port = 80; handler = "echo web"; };
    };
  };
}
"""
REFERENCE = "import requests"
MEANING = {
    "cpu_s": "user and system time of the command's own process, the least of several; without Nix",
    "nix_s": "the same of what it starts",
    "ratio": f"cpu_s against `python -c '{REFERENCE}'`, measured in turn with it",
    "modules": "what Python imports, its own modules too",
}
VERBS: Mapping[str, Sequence[str]] = {
    "--help": ("--help",),
    "completion": ("completion", "bash"),
    "status": ("status",),
    "plan": ("plan",),
    "deploy": ("deploy",),
    "check": ("check",),
}
POLLS = re.compile(r"/tasks/[^/]+/status$|/agent/ping$|/agent/exec-status$")


@dataclass(frozen=True)
class Cost:
    own: float
    started: float


def measure_verbs(folder: Path, times: int, say: Callable[[str], None]) -> dict[str, Any]:
    """{"meaning", "reference_cpu_s", "rows": one per verb, "calls": by what is done}."""
    with start_compiled_bed(folder) as bed:
        say("one machine, then each verb with nothing to do")
        calls = {"deploy": counted(bed, "deploy"), "deploy_again": counted(bed, "deploy"), "plan": counted(bed, "plan")}
        reference, costs = measure_in_turn(bed, times)
        rows = [row(name, costs[name], reference, modules(bed, words)) for name, words in VERBS.items()]
        calls["destroy"] = counted(bed, "destroy", "--yes")
        bed.run("deploy", "--until", "defined")
        calls["destroy_never_ran"] = counted(bed, "destroy", "--yes")
    return {"meaning": MEANING, "reference_cpu_s": round(reference, 3), "rows": rows, "calls": calls}


@contextmanager
def start_compiled_bed(folder: Path) -> Iterator[Bed]:
    """Python keeps what it has compiled, as it does for a package that is installed."""
    network = folder / "shop" / "network.nix"
    network.parent.mkdir(parents=True)
    network.write_text(ONE.replace("DEMO", str(DEMO)))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    with start_bed(folder / "user", network) as bed:
        yield replace(bed, profile="lab")


def argv_of(bed: Bed, words: Sequence[str], *options: str) -> list[str]:
    python = [sys.executable, *options, "-m", "nixops_proxmox", *words]
    if words[0] in ("--help", "completion"):
        return python
    inside = bed.inside(*words)
    at = inside.index(sys.executable)
    return [*inside[: at + 1], *options, *inside[at + 1 :]]


def measure_in_turn(bed: Bed, times: int) -> tuple[float, dict[str, Cost]]:
    """Each command `times` times, in turn with the reference, so that what else the computer does strikes all alike."""
    best = dict.fromkeys(VERBS, Cost(float("inf"), 0.0))
    reference = float("inf")
    for _ in range(times + 1):  # the first compiles
        reference = min(reference, cost([sys.executable, "-c", REFERENCE], bed).own)
        for name, words in VERBS.items():
            found = cost(argv_of(bed, words), bed)
            best[name] = min(best[name], found, key=lambda one: one.own)
    return reference, best


def cost(argv: Sequence[str], bed: Bed) -> Cost:
    """As /proc has it when the process has ended: its own time, and that of those it has waited for."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, env=bed.environment, stdout=quiet, stderr=quiet)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    if process.wait() != 0:
        raise SystemExit(f"bench: {argv} ended with {process.returncode}")
    user, system, below_user, below_system = (int(text) / os.sysconf("SC_CLK_TCK") for text in fields[11:15])
    return Cost(user + system, below_user + below_system)


def row(name: str, found: Cost, reference: float, imported: int) -> dict[str, Any]:
    return {
        "verb": name,
        "cpu_s": round(found.own, 2),
        "nix_s": round(found.started, 2),
        "ratio": round(found.own / reference, 1),
        "modules": imported,
    }


def modules(bed: Bed, words: Sequence[str]) -> int:
    argv = argv_of(bed, words, "-X", "importtime")
    done = subprocess.run(argv, env=bed.environment, capture_output=True, text=True, check=True)
    return len(set(re.findall(r"^import time:[^|]*\|[^|]*\| *(\S+)$", done.stderr, re.MULTILINE)))


def counted(bed: Bed, *words: str) -> dict[str, Any]:
    """The calls that the lab has seen, polls apart, like the client's own count of a fleet."""
    bed.forget_calls()
    bed.run(*words)
    made = [f"{call['method']} {call['path']}" for call in bed.calls()]
    polls = sum(POLLS.search(one) is not None for one in made)
    by_call = Counter(shape(one) for one in made if not POLLS.search(one))
    return {"total": len(made) - polls, "polls": polls, "by_call": dict(sorted(by_call.items()))}


def shape(call: str) -> str:
    return re.sub(r"/(nodes|qemu|storage)/[^/]+", r"/\1/…", call)
