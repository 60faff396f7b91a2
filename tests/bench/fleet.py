"""Fleets of scripted guests: the lab in a process of its own, and the client in another one that is measured alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.machines.simulated import Body, Options
from nixops_proxmox.lab.service import LabProcess, Settings, down, up

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 900.0  # seconds for one fleet


def critical_path() -> float:
    """Seconds that one machine takes at least in a realistic lab: the modelled times of what comes one after the other,
    and nothing for our own part in it (calls, waits, SSH)."""
    cluster, guest = Latency.realistic(), Options(body=Body.SCRIPTED).realistic()
    tasks = sum(cluster.of_task(kind) for kind in ("qmcreate", "qmstart", "qmstop", "qmstart"))
    return tasks + guest.installer_boot + guest.partition + guest.install + guest.system_boot


@contextmanager
def start_scripted_lab(folder: Path, *, realistic: bool) -> Iterator[LabProcess]:
    """A lab whose guests are only a model; `realistic`: with the latencies of a small cluster."""
    running = up(folder, Settings(port=0, realistic=realistic, scripted=True))
    try:
        yield running
    finally:
        down(folder)


def measure_fleet(lab: LabProcess, count: int, folder: Path, *, times: int = 1) -> dict[str, Any]:
    """Deploy `count` machines from a fresh process, inside of the lab's network; what it found, as JSON-like data.

    Keys: wall_s, cpu_s, rss_mib, ready, calls {total, polls, by_endpoint}; with times=2 also `again`, the calls of a
    second deploy.
    """
    folder.mkdir()
    wanted = {"count": count, "times": times, "url": lab.url, "token": lab.token, "fingerprint": lab.fingerprint}
    argv = lab.enter_argv([sys.executable, "-m", "tests.bench.client", str(folder)])
    done = subprocess.run(
        argv,
        input=json.dumps(wanted | {"iso": lab.iso}),  # on standard input: there is a token in it
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
