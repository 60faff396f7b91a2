"""One deploy of many machines in a process of its own: reads what is wanted on stdin, prints what it cost on stdout."""

import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from threading import Lock
from typing import Any

from nixops_proxmox.model import Phase
from nixops_proxmox.operations import Options, open_given
from nixops_proxmox.pve.wire.calls import CallDone
from nixops_proxmox.spec import NetworkSpec, parse_network
from tests.bench.layers import Layers


class Counted:
    """API calls by name; polls apart."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.polls = 0
        self._lock = Lock()

    def __call__(self, done: CallDone) -> None:
        with self._lock:
            if done.call.poll:
                self.polls += 1
            else:
                self.calls[done.call.name] += 1

    def to_json(self) -> dict[str, Any]:
        by_endpoint = dict(sorted(self.calls.items()))
        return {"total": sum(self.calls.values()), "polls": self.polls, "by_endpoint": by_endpoint}


def network(count: int, iso: str) -> NetworkSpec:
    """Machines that are all alike, installed by `configuration`: Nix has no part in it."""
    machine = {
        "disks": [{"storage": "local-lvm", "size": "256M"}],
        "memory": 64,
        "network": [{"bridge": "vmbr0"}],
        "install": {"iso": iso, "method": "configuration"},
        "profile": "lab",
    }
    names = [f"m{number:04}" for number in range(count)]
    return parse_network("bench", {"machines": {name: {"deployment": {"proxmox": machine}} for name in names}})


def write_profile(folder: Path, wanted: dict[str, Any]) -> Path:
    file = folder / "profiles.toml"
    file.touch(mode=0o600)
    lines = [f"{key} = {json.dumps(wanted[key])}" for key in ("url", "token", "fingerprint")]
    file.write_text("\n".join(["[lab]", *lines, ""]))
    return file


def deploy(folder: Path, wanted: dict[str, Any], counted: Counted) -> int:
    """How many machines are ready."""
    options = Options(
        deployment="bench",
        state=str(folder / "state.db"),
        profiles=folder / "profiles.toml",
        keys=folder / "keys",
        trace=counted,
        jobs=wanted["count"],
    )
    with open_given(options, network(wanted["count"], wanted["iso"])) as deployed:
        outcomes = deployed.deploy(deployed.described())
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed[:5]:
        sys.stderr.write(f"{outcome.name}: {outcome.error}\n")
    return sum(outcome.machine is not None and outcome.machine.phase is Phase.READY for outcome in outcomes)


def main(folder: Path) -> int:
    wanted = json.load(sys.stdin)
    write_profile(folder, wanted)
    first, layers = Counted(), Layers()
    layers.measure()
    began = time.monotonic()
    ready = deploy(folder, wanted, first)
    found: dict[str, Any] = {"wall_s": time.monotonic() - began, "ready": ready, "calls": first.to_json()}
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    found |= {"cpu_s": cpu, "layers": layers.seconds(cpu), "rss_mib": used.ru_maxrss / 1024}
    if wanted["times"] == 2:
        second = Counted()
        deploy(folder, wanted, second)
        found["again"] = second.to_json()
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
