"""The endpoint race on real sockets: one SSH server that is the machine, black holes, and servers that are others."""

import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nixops_proxmox.model import Endpoint
from nixops_proxmox.reach.candidates import Candidate
from nixops_proxmox.reach.race import Proof, StopSignal, race
from nixops_proxmox.ssh.login import SshLogin
from nixops_proxmox.ssh.probe import probe_host_key

ROOT = Path(__file__).resolve().parents[2]
CANDIDATES = 8


def measure_race(runs: int) -> dict[str, Any]:
    """`runs` races in which only the last of 8 candidates answers at all, then `runs` with decoys at random places."""
    with start_servers(CANDIDATES) as (key, ports), start_black_hole() as hole:
        machine, *decoys = ports
        worst = [hole] * (CANDIDATES - 1) + [machine]
        seconds = sorted(run_race(worst, key)[1] for _ in range(runs))
        dice = random.Random(8305)
        wrong = 0
        for _ in range(runs):
            places = dice.sample([*decoys[:5], hole, hole, machine], CANDIDATES)
            wrong += run_race(places, key)[0] != machine
    return {
        "runs": runs,
        "p50_ms": round(1000 * seconds[len(seconds) // 2], 1),
        "p99_ms": round(1000 * seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))], 1),
        "wrong_winners": wrong,
    }


def run_race(ports: list[int], key: str) -> tuple[int, float]:
    """(the winner's port, seconds)"""

    def probe(candidate: Candidate, stop: StopSignal) -> Proof:
        return Proof(*probe_host_key(SshLogin(candidate.endpoint, (key,), timeout=10.0), stop))

    candidates = [Candidate(Endpoint("127.0.0.1", port), "agent") for port in ports]
    began = time.monotonic()
    result = race(candidates, probe, keys=[key])
    return result.winner.candidate.endpoint.port, time.monotonic() - began


@contextmanager
def start_black_hole() -> Iterator[int]:
    """A port that takes the first packet and never answers it: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        fill = [socket.socket() for _ in range(4)]
        try:
            for one in fill:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            select.select([], fill, [], 5)  # the first is in the queue, which has room for no other
            yield port
        finally:
            for one in fill:
                one.close()


@contextmanager
def start_servers(count: int) -> Iterator[tuple[str, list[int]]]:
    """SSH servers in another process, each with a host key of its own: (the first one's public key, all ports)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.servers", str(count)],
        stdin=subprocess.PIPE,  # it ends when this is closed
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    try:
        key, *ports = process.stdout.readline().strip().split("\t")
        yield key, [int(port) for port in ports]
    finally:
        process.communicate()
