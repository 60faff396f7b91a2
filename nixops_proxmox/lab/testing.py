"""A lab in a thread, for tests: on a free loopback port, instantaneous unless told otherwise."""

import asyncio
import tempfile
import threading
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nixops_proxmox.lab.clock import Clock, RealClock
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.machines.base import Driver
from nixops_proxmox.lab.machines.inert import InertDriver
from nixops_proxmox.lab.server import Lab
from nixops_proxmox.lab.storage import Storage

T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="lab", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Run on the loop and wait; what it raises is raised here."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def close(self) -> None:
        self.run(_cancel_rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def _cancel_rest() -> None:
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=5)
    await asyncio.sleep(0.02)  # aborted connections are closed in the loop's next rounds


class RunningLab:
    """A started lab, usable from the test's own thread. `lab` has everything else."""

    def __init__(self, lab: Lab, loop: Loop) -> None:
        self.lab = lab
        self.driver: Any = lab.driver
        self.url = lab.url
        self.urls = dict(lab.urls)
        self.host, _, port = lab.url.removeprefix("https://").rpartition(":")
        self.port = int(port)
        self.ca_file = lab.ca_file
        self.fingerprint = lab.fingerprint
        self.token = lab.token
        self.root_password = lab.root_password
        self.control_token = lab.control_token
        self.faults = lab.faults
        self.cluster = lab.cluster
        self._loop = loop

    @property
    def calls(self) -> list[dict[str, Any]]:
        return list(self.lab.calls)

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Run a coroutine on the lab's loop: for changes of the cluster's state."""
        return self._loop.run(work, timeout)

    def settle(self) -> None:
        """Wait until no task runs."""
        self.run(self.cluster.settle())


@contextmanager
def start_lab(
    directory: Path | None = None,
    *,
    driver: Driver | None = None,
    version: str = "8.4",
    clock: Clock | None = None,
    latency: Latency | None = None,
    nodes: Sequence[str] = ("pve1", "pve2", "pve3"),
    storages: Iterable[Storage] | None = None,
    every_node: bool = False,
    exports: Path | None = None,
) -> Iterator[RunningLab]:
    """A lab on 127.0.0.1; by default with inert machines, a real clock and no waiting anywhere."""
    with tempfile.TemporaryDirectory(prefix="lab-") as temporary:
        clock = clock or RealClock()
        lab = Lab(
            directory or Path(temporary),
            driver or InertDriver(clock.time),
            version=version,
            clock=clock,
            latency=latency or Latency.instant(),
            nodes=nodes,
            storages=storages,
            exports=exports,
        )
        loop = Loop()
        try:
            loop.run(lab.start(every_node=every_node))
            try:
                yield RunningLab(lab, loop)
            finally:
                loop.run(lab.stop())
        finally:
            loop.close()
