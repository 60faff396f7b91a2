"""A cluster that is a table of answers, by the name of the call; its clock is its own."""

import threading
from collections.abc import Callable
from typing import Any

from nixops_proxmox.errors import NotFound
from nixops_proxmox.model import Facts
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.view import ClusterView
from nixops_proxmox.pve.cluster.vm_finder import VmFinder
from nixops_proxmox.pve.wire.calls import Call
from nixops_proxmox.pve.wire.properties import GIB
from nixops_proxmox.pve.wire.refusals import WrongPlace
from nixops_proxmox.pve.wire.upload import Upload
from tests.pve.specs import UUID

STRANGER = "00000000-0000-4000-8000-00000000beef"
FACTS = Facts(uuid=UUID, vmid=101, node="pve1")
RESOURCES = "GET /cluster/resources"
PENDING = "GET /nodes/{node}/qemu/{vmid}/pending"
CONFIG = "GET /nodes/{node}/qemu/{vmid}/config"
STATUS = "GET /nodes/{node}/qemu/{vmid}/status/current"
START = "POST /nodes/{node}/qemu/{vmid}/status/start"
CREATE = "POST /nodes/{node}/qemu"
TASKS = "GET /nodes/{node}/tasks"
TASK = "GET /nodes/{node}/tasks/{upid}/status"
LOG = "GET /nodes/{node}/tasks/{upid}/log"


class Scripted:
    """`answers`: a value, an error to raise, or a function of the call."""

    def __init__(self, **resource: Any) -> None:
        self.now = 1000.0
        self.asked: list[str] = []
        self._lock = threading.Lock()
        self.answers: dict[str, Any] = {
            RESOURCES: [node(), *storages(), guest(**resource)],
            PENDING: configuration(),
            CONFIG: lambda call: {
                item["key"]: item["value"] for item in self.send(Call("GET", PENDING[4:], call.where))
            },
            STATUS: {"status": "stopped"},
            TASK: {"status": "stopped", "exitstatus": "OK"},
            LOG: [],
            TASKS: [],
            "GET /nodes/{node}/network": [{"iface": "vmbr0", "type": "bridge"}],
            "GET /version": {"version": "8.4.1", "release": "8.4"},
        }

    def send(self, call: Call, upload: Upload | None = None) -> Any:
        with self._lock:
            self.asked.append(call.name)
        answer = self.answers[call.name]
        found = answer(call) if callable(answer) else answer
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """Nothing is open."""

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def count(self, name: str) -> int:
        return self.asked.count(name)

    def sight(self) -> VmFinder:
        client = PveClient(self)
        return VmFinder(client, ClusterView(client, lambda: self.now), lambda: self.now, self.sleep)

    def hypervisor(self) -> PveHypervisor:
        return PveHypervisor(
            PveClient(self), clock=lambda: self.now, wall=lambda: 1_733_000_000 + self.now, sleep=self.sleep
        )


def node(name: str = "pve1", free: int = 8) -> dict[str, Any]:
    return {"type": "node", "node": name, "status": "online", "maxmem": 64 * GIB, "mem": (64 - free) * GIB}


def storages(name: str = "pve1") -> list[dict[str, Any]]:
    common = {"type": "storage", "node": name, "status": "available", "maxdisk": 900 * GIB, "disk": 0}
    return [
        {**common, "storage": "local-lvm", "content": "images", "plugintype": "lvm"},
        {**common, "storage": "local", "content": "iso", "plugintype": "dir"},
    ]


def guest(**more: Any) -> dict[str, Any]:
    return {"type": "qemu", "vmid": 101, "node": "pve1", "status": "stopped", "name": "web"} | more


def configuration(uuid: str = UUID, **more: str) -> list[dict[str, str]]:
    return [{"key": "smbios1", "value": f"uuid={uuid}"}, *({"key": key, "value": text} for key, text in more.items())]


def upid(kind: str, number: int = 1) -> str:
    return f"UPID:pve1:{number:08X}:00A3F1E0:6750A1C0:{kind}:101:other@pve:"


def listed(kind: str, number: int = 1) -> dict[str, Any]:
    return {"upid": upid(kind, number), "type": kind, "id": "101", "user": "other@pve", "starttime": 0x6750A1C0}


def not_there(_call: Call) -> NotFound:
    return WrongPlace("Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist")


Answer = Callable[[Call], Any]
