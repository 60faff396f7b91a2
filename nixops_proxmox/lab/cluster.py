"""The cluster's state: nodes, VMs, pools, storages, tasks and users, and the locks around them."""

import asyncio
import random
import secrets
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from nixops_proxmox.lab.access import Access, Auth
from nixops_proxmox.lab.clock import Clock, within
from nixops_proxmox.lab.config import is_nic, parse_nic
from nixops_proxmox.lab.container import Container
from nixops_proxmox.lab.firewall import Firewall
from nixops_proxmox.lab.ha import Ha
from nixops_proxmox.lab.ipam import Ipam
from nixops_proxmox.lab.latency import Latency
from nixops_proxmox.lab.machines.base import Driver
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.release import Release
from nixops_proxmox.lab.replications import Replications
from nixops_proxmox.lab.sdn import Sdn
from nixops_proxmox.lab.storage import Storage, Stores, default_storages
from nixops_proxmox.lab.tasks import TaskList
from nixops_proxmox.lab.vm import Vm

GIB = 1024**3
V = TypeVar("V", bound=Vm)
# Of /proc/cpuinfo, on a processor of x86-64-v3.
FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep vmx mmx fxsr sse sse2 pni ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt"
    " aes xsave avx f16c lahf_lm abm bmi1 avx2 bmi2"
)


@dataclass
class Node:
    name: str
    address: str
    online: bool = True
    seen: float = 0.0  # until when it was online, while it is not
    cpus: int = 16
    memory: int = 64 * GIB
    base_memory: int = 2 * GIB  # what the host itself uses
    disk: int = 100 * GIB
    timezone: str = "Etc/UTC"
    maintenance: bool = False  # of the HA manager
    arch: str = "x86_64"
    flags: str = FLAGS
    dns: dict[str, str] = field(default_factory=lambda: {"dns1": "192.0.2.53"})


LOCAL_ZONE = "localnetwork"  # of bridges that are no vnets


@dataclass
class Bridge:
    iface: str
    cidr: str = ""
    vlan_aware: bool = True
    ports: str = ""
    nodes: tuple[str, ...] = ()
    comment: str = ""
    zone: str = LOCAL_ZONE  # any other: a vnet of this SDN zone


@dataclass
class Pool:
    comment: str = ""
    vms: set[int] = field(default_factory=set)
    storages: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Console:
    """What a ticket opens, and how long. `password` None: a serial terminal."""

    vmid: int
    valid: float
    used: asyncio.Event
    password: str | None
    password_valid: float


class Cluster:
    """One Proxmox VE cluster. Everything happens on one event loop."""

    def __init__(
        self,
        directory: Path,
        driver: Driver,
        release: Release,
        clock: Clock,
        latency: Latency,
        nodes: Iterable[str],
        storages: Iterable[Storage] | None = None,
        exports: Path | None = None,
    ) -> None:
        self.directory = directory
        self.driver = driver
        self.release = release
        self.clock = clock
        self.latency = latency
        self.name = "lab"
        self.dice = random.Random()  # noqa: S311  # the order in which PVE walks a hash
        self.fingerprint = ""  # of the API's certificate, and the certificate itself: nodes show both
        self.certificate = ""
        self.nodes = {name: Node(name, f"192.0.2.{index + 11}") for index, name in enumerate(nodes)}
        storages = default_storages() if storages is None else storages
        self.stores = Stores(directory, driver, clock, storages, self.nodes, exports)
        self.stores.lock_wait = latency.cluster_lock
        self.bridges = {
            "vmbr0": Bridge("vmbr0", "192.0.2.1/24", ports="eno1"),
            "vmbr1": Bridge("vmbr1", comment="isolated"),
            "vmbr2": Bridge("vmbr2", comment="public addresses"),
            "vmbr3": Bridge("vmbr3", comment="IPv6 only"),
            "vmbr4": Bridge("vmbr4", comment="isolated, IPv6 only"),
            "vmbr5": Bridge("vmbr5", comment="without DHCP: start a server of your own"),
        }
        self.staged_bridges: dict[str, dict[str, Bridge]] = {}  # node → all its bridges, as they will be
        self.undoing: set[asyncio.Task[None]] = set()  # ends of faults that last a while
        self.started = clock.time()
        self.reset()

    def reset(self) -> None:
        """Forget VMs, tasks, pools and faults' effects; users, storages and files on them stay."""
        self.vms: dict[int, Vm] = {}
        self.pools: dict[str, Pool] = {}
        self.tasks = TaskList(self.clock, self.latency)
        self.options: dict[str, Any] = {"mac_prefix": "BC:24:11"} if self.release.since(8, 1) else {}
        self.backup_jobs: dict[str, dict[str, Any]] = {}
        self.replications = Replications()
        self.ha = Ha()
        self.mappings: dict[tuple[str, str], dict[str, Any]] = {}  # by kind (pci, usb) and name
        self.consoles: dict[str, Console] = {}  # by ticket
        self._node_locks: dict[tuple[str, str], asyncio.Lock] = {}
        self.sdn, self.ipam = Sdn(), Ipam()
        self.firewall = Firewall()
        self.node_firewalls: dict[str, Firewall] = {}
        self.vm_firewalls: dict[int, Firewall] = {}  # by VMID: a file of its own, whether there is such a VM or not
        for name in [name for name, one in self.bridges.items() if one.zone != LOCAL_ZONE]:
            del self.bridges[name]
        self.quorate = True
        for node in self.nodes.values():
            node.online, node.maintenance = True, False
        if not hasattr(self, "access"):
            self.access = Access(self.release, self.clock.time)
            self.access.permissions.pool_of = self._pool_of_path

    @property
    def standalone(self) -> bool:
        return len(self.nodes) == 1

    # Finding.

    def get_vm(self, node: str, vmid: int, *, missing: str = "Configuration file '{file}' does not exist") -> Vm:
        vm = self.vms.get(vmid)
        if vm is None or vm.node != node or vm.kind != Vm.kind:
            die(missing.format(file=f"nodes/{node}/qemu-server/{vmid}.conf", vmid=vmid, node=node))
        return vm

    def get_container(self, node: str, vmid: int) -> Container:
        container = self.vms.get(vmid)
        if not isinstance(container, Container) or container.node != node:
            die(f"Configuration file 'nodes/{node}/lxc/{vmid}.conf' does not exist")
        return container

    def find_running_config(self, node: str, vmid: int) -> Vm:
        """The other text, of calls that look whether it runs first."""
        return self.get_vm(node, vmid, missing="unable to find configuration file for VM {vmid} on node '{node}'")

    def vms_on(self, node: str) -> Iterator[Vm]:
        """Containers too: they share the numbers, and the node's memory."""
        return (vm for vm in list(self.vms.values()) if vm.node == node)

    def pool_of(self, vmid: int) -> str | None:
        return next((name for name, pool in self.pools.items() if vmid in pool.vms), None)

    def _pool_of_path(self, path: str) -> str | None:
        kind, _, name = path.strip("/").partition("/")
        if kind == "vms" and name.isdigit():
            return self.pool_of(int(name))
        if kind == "storage":
            return next((pool for pool, members in self.pools.items() if name in members.storages), None)
        return None

    def free_vmid(self) -> int:
        """The lowest in the bounds that datacenter.cfg sets; the upper one is exclusive."""
        text = str(self.options.get("next-id", ""))
        bounds = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
        lower, upper = int(bounds.get("lower", 100)), int(bounds.get("upper", 1_000_000))
        free = next((vmid for vmid in range(lower, upper) if vmid not in self.vms), None)
        return free or die(f"unable to get any free VMID in range [{lower}, {upper - 1}]")

    # Allowing.

    def allows(self, auth: Auth, path: str, *names: str, any_of: bool = False) -> bool:
        if not path:  # a path that is none: only root may
            return auth.is_root
        return self.access.permissions.allows(auth.who, path, names, any_of=any_of)

    def require(self, auth: Auth, path: str, *names: str, any_of: bool = False) -> None:
        if not self.allows(auth, path, *names, any_of=any_of):
            raise Refused(403, f"Permission check failed ({path}, {('|' if any_of else ', ').join(names)})")

    def check_quorum(self) -> None:
        if not self.quorate:
            die("cluster not ready - no quorum?")

    # Changing.

    def set_online(self, name: str, *, online: bool) -> None:
        """Whether the others see this node."""
        node = self.nodes[name]
        if node.online and not online:
            node.seen = self.clock.time()
        node.online = online

    def claim(self, vmid: int, node: str, *, lock: str) -> Vm:
        """Reserve the id: a configuration with nothing but a lock, at once."""
        return self._claim(Vm, vmid, node, lock)

    def claim_container(self, vmid: int, node: str) -> Container:
        return self._claim(Container, vmid, node, "create")

    def _claim(self, kind: type[V], vmid: int, node: str, lock: str) -> V:
        self.check_quorum()
        directory = self.directory / "vms" / str(vmid)
        directory.mkdir(parents=True, exist_ok=True)
        vm = kind(vmid, node, directory, self.clock.time(), {"lock": lock})
        self.vms[vmid] = vm
        return vm

    def already_there(self, vmid: int) -> NoReturn:
        there = self.vms[vmid]
        word = "VM" if there.kind == Vm.kind else "CT"
        die(f"unable to create VM {vmid} - {word} {vmid} already exists on node '{there.node}'")

    def drop(self, vm: Vm) -> None:
        """Forget a VM: configuration, pool membership, ACLs on it."""
        self.vms.pop(vm.vmid, None)
        for pool in self.pools.values():
            pool.vms.discard(vm.vmid)
        nics = [parse_nic(value) for key, value in vm.config.items() if is_nic(key)]
        self.ipam.forget(vm.vmid, [nic.get("macaddr") or nic.get("hwaddr", "") for nic in nics])
        self.vm_firewalls.pop(vm.vmid, None)
        path = f"/vms/{vm.vmid}"
        self.access.permissions.entries = [entry for entry in self.access.permissions.entries if entry.path != path]

    @asynccontextmanager
    async def flocked(self, vm: Vm, wait: float | None = None) -> AsyncIterator[None]:
        """The lock file beside the configuration: one change at a time."""
        try:
            await within(self.clock, self.latency.flock if wait is None else wait, vm.flock.acquire())
        except TimeoutError:
            die(f"can't lock file '{vm.lock_file}' - got timeout")
        try:
            yield
        finally:
            vm.flock.release()

    def node_lock(self, what: str, node: str) -> asyncio.Lock:
        """A lock that a node has one of: only one vzdump runs at a time."""
        return self._node_locks.setdefault((what, node), asyncio.Lock())

    def new_mac(self) -> str:
        """From the datacenter's prefix; before 8.1 a random locally administered address."""
        prefix = self.options.get("mac_prefix")
        octets = [int(part, 16) for part in prefix.split(":")] if prefix else [secrets.randbelow(256) & 0xFE | 0x02]
        octets += list(secrets.token_bytes(6 - len(octets)))
        return ":".join(f"{octet:02X}" for octet in octets)

    def new_uuid(self) -> str:
        return str(uuid.uuid4())

    async def settle(self) -> None:
        await self.tasks.settle()
        await self.ha.settle()
        await self.tasks.settle()

    async def stop_all(self) -> None:
        """End every task and every machine."""
        self.ha.end()
        await self.tasks.end()
        running = [vm.running for vm in self.vms.values() if vm.running]
        await asyncio.gather(*(machine.power_off() for machine in running))
