"""The foreign server in its process, and a hypervisor of ours that talks to it and whose sleeping is short."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nixops_proxmox.model import Facts, Machine, Phase, Vm
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.wire.calls import CallDone
from nixops_proxmox.pve.wire.profiles import parse_profile
from nixops_proxmox.spec import Disk, MachineSpec
from tests.pve.specs import GIB, spec

SERVER = Path(__file__).with_name("server.py")
API = "/api2/json"


@dataclass
class Foreign:
    """`tell` says something to the server; `slept` are the seconds that the client wanted to sleep."""

    process: subprocess.Popen[str]
    slept: float = 0.0
    done: list[CallDone] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        ready = self._hear()
        table = {key: ready[value] for key, value in (("endpoint", "url"), ("fingerprint", "fingerprint"))}
        login = {"username": "root@pam", "password": ready["password"]}
        self.client = connect(parse_profile("foreign", table | login), trace=self.done.append, sleep=self.sleep)
        self.hypervisor = self.another()

    def another(self) -> PveHypervisor:
        """As after a restart: it knows nothing."""
        return PveHypervisor(self.client, clock=self.now, wall=time.time, sleep=self.sleep)

    def tell(self, *words: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return self._hear()

    def _hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def errors(self, method: str, path: str) -> list[Mapping[str, Any]]:
        """All that the catalogue has for this call: name, status, message, errors, in_task."""
        catalogued: list[Mapping[str, Any]] = self.tell("errors", method, path)
        return catalogued

    @contextmanager
    def failing(self, method: str, path: str, error: str, times: int | None = None) -> Iterator[None]:
        self.tell("fail", method, path, error, times)
        try:
            yield
        finally:
            self.tell("heal")

    def now(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        """On our own clock only: nothing goes on over there while we sleep."""
        self.slept += seconds

    def machine(self) -> Machine:
        """Placed, not created."""
        place = self.hypervisor.choose_place(bare())
        facts = Facts(str(uuid.uuid4()), vmid=place.vmid, node=place.node, macs=("bc:24:11:00:00:01",))
        return Machine("demo", "web", Phase.RESERVED, facts)

    def created(self) -> Machine:
        machine = self.machine()
        self.hypervisor.create_vm(bare(), machine, self.noted.append)
        return machine

    def seen(self, machine: Machine) -> Vm:
        vm = self.hypervisor.find_vm(machine.facts)
        assert vm is not None
        return vm

    @property
    def vmids(self) -> list[int]:
        vmids: list[int] = self.tell("vmids")
        return vmids


def bare(**changes: Any) -> MachineSpec:
    disk = Disk(slot="scsi0", storage="local-lvm", size=8 * GIB)
    return spec(**({"install": {"from": "iso"}, "disks": (disk,)} | changes))


@contextmanager
def start_foreign() -> Iterator[Foreign]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, SERVER], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            foreign = Foreign(process)
            try:
                yield foreign
            finally:
                foreign.client.close()
        finally:
            assert process.stdin is not None
            process.stdin.close()  # which ends it
