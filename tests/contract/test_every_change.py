"""Every kind of change to a running machine, made on the lab: it takes effect when the plan and the documents say so.
A field of the description without a row fails."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.kinds.machine.steps.identity import with_macs
from nixops_proxmox.model import Machine, Vm, When
from nixops_proxmox.pve.cluster.view import VIEW_AGE
from nixops_proxmox.spec import Cpu, Disk, Efi, MachineSpec, Nic, Tpm
from tests.contract.client_bench import Bench, bare, start_bench
from tests.pve.specs import GIB

ROOT_DISK = Disk(slot="scsi0", storage="local-lvm", size=8 * GIB)
SECOND = Disk(slot="scsi1", storage="local-lvm", size=GIB)
SATA = Disk(slot="sata0", storage="local-lvm", size=GIB)
NIC = Nic(slot="net0", bridge="vmbr0")
MORE_NIC = Nic(slot="net1", bridge="vmbr1")


def disks(*all_of_them: Disk) -> dict[str, Any]:
    return {"disks": all_of_them}


def root(**options: Any) -> dict[str, Any]:
    return disks(ROOT_DISK.model_copy(update=options))


def nic(**options: Any) -> dict[str, Any]:
    return {"network": (NIC.model_copy(update=options),)}


def cpu(**options: Any) -> dict[str, Any]:
    return {"cpu": Cpu(**options)}


# What is changed: before, after, and PVE's key.
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "memory": ({"memory": 1024}, {"memory": 2048}, "memory"),
    "memory, with memory hotplug": (
        {"memory": 1024, "hotplug": "disk,network,memory", **cpu(numa=True)},
        {"memory": 2048, "hotplug": "disk,network,memory", **cpu(numa=True)},
        "memory",
    ),
    "memory, with memory hotplug and without NUMA": (
        {"memory": 1024, "hotplug": "disk,network,memory"},
        {"memory": 2048, "hotplug": "disk,network,memory"},
        "memory",
    ),
    "balloon": ({"memory": 2048}, {"memory": 2048, "balloon": 1024}, "balloon"),
    "balloon, off": ({"memory": 2048}, {"memory": 2048, "balloon": 0}, "balloon"),
    "cpu.type": (cpu(type="x86-64-v2-AES"), cpu(type="host"), "cpu"),
    "cpu.sockets": (cpu(sockets=1), cpu(sockets=2), "sockets"),
    "cpu.cores": (cpu(cores=1), cpu(cores=2), "cores"),
    "cpu.limit": ({}, cpu(limit=0.5), "cpulimit"),
    "cpu.units": ({}, cpu(units=300), "cpuunits"),
    "cpu.numa": ({}, cpu(numa=True), "numa"),
    "disks: one more": ({}, disks(ROOT_DISK, SECOND), "scsi1"),
    "disks: one more, without disk hotplug": (
        {"hotplug": "network"},
        {"hotplug": "network", **disks(ROOT_DISK, SECOND)},
        "scsi1",
    ),
    "disks: one more on SATA": ({}, disks(ROOT_DISK, SATA), "sata0"),
    "disks: one less": (disks(ROOT_DISK, SECOND), {}, "scsi1"),
    "disks[].size, larger": (root(size=8 * GIB), root(size=9 * GIB), "scsi0"),
    "disks[].size, smaller": (root(size=8 * GIB), root(size=7 * GIB), "scsi0"),
    "disks[].storage": ({}, root(storage="shared"), "scsi0"),
    "disks[].cache": ({}, root(cache="writeback"), "scsi0"),
    "disks[].discard": ({}, root(discard=True), "scsi0"),
    "disks[].ssd": ({}, root(ssd=True), "scsi0"),
    "disks[].iothread": ({}, root(iothread=True), "scsi0"),
    "disks[].backup": ({}, root(backup=False), "scsi0"),
    "disks[].aio": ({}, root(aio="threads"), "scsi0"),
    "network: one more": ({}, {"network": (NIC, MORE_NIC)}, "net1"),
    "network: one more, without network hotplug": (
        {"hotplug": "disk"},
        {"hotplug": "disk", "network": (NIC, MORE_NIC)},
        "net1",
    ),
    "network: one less": ({"network": (NIC, MORE_NIC)}, {"network": (NIC,)}, "net1"),
    "network[].bridge": ({}, nic(bridge="vmbr1"), "net0"),
    "network[].tag": ({}, nic(tag=20), "net0"),
    "network[].rate": ({}, nic(rate=10), "net0"),
    "network[].firewall": ({}, nic(firewall=True), "net0"),
    "network[].model": ({}, nic(model="e1000"), "net0"),
    "network[].mac": ({}, nic(mac="02:00:00:00:00:77"), "net0"),
    "network[].queues": ({}, nic(queues=2), "net0"),
    "network[].trunks": ({}, nic(trunks=("2", "5-7")), "net0"),
    "bios": ({}, {"bios": "ovmf"}, "bios"),
    "efi": ({}, {"efi": Efi(storage="local-lvm")}, "efidisk0"),
    "tpm": ({}, {"tpm": Tpm(storage="local-lvm")}, "tpmstate0"),
    "efi.storage": ({"efi": Efi(storage="local-lvm")}, {"efi": Efi(storage="shared")}, "efidisk0"),
    "tpm.storage": ({"tpm": Tpm(storage="local-lvm")}, {"tpm": Tpm(storage="shared")}, "tpmstate0"),
    "machine": ({}, {"machine": "q35"}, "machine"),
    "scsi_controller": ({}, {"scsi_controller": "lsi"}, "scsihw"),
    "display": ({}, {"display": "std"}, "vga"),
    "serial_port": ({"serial_port": False}, {"serial_port": True}, "serial0"),
    "agent": ({"agent": False}, {"agent": True}, "agent"),
    "tags": ({}, {"tags": ("prod",)}, "tags"),
    "onboot": ({}, {"onboot": True}, "onboot"),
    "startup": ({}, {"startup": "order=2"}, "startup"),
    "protection": ({}, {"protection": True}, "protection"),
    "hotplug": ({}, {"hotplug": "disk"}, "hotplug"),
    "description": ({}, {"description": "the web server"}, "description"),
    "extra": ({}, {"extra": {"shares": 500}}, "shares"),
    "pool": ({}, {"pool": "prod"}, "pool"),
    "pool, another": ({"pool": "test"}, {"pool": "prod"}, "pool"),
}
NEVER_ON_7_4 = ("pool, another",)  # PVE 8.1 has brought it
# Of the description, and nothing that PVE changes in an existing VM.
NO_HARDWARE = {"name", "profile", "server_url", "username", "token_name", "install", "endpoint", "ssh", "deploy"}
ELSEWHERE = {
    "node": "a machine stays where it is",
    "placement": "a machine stays where it is",
    "vmid": "a VMID cannot be changed",
    "arch": "only root@pam may say it",
    "expert_args": "only root@pam may say it",
    "volumes": "a volume is of no machine: see test_volume_store.py",
    "ignore": "it says what is not changed: see test_by_hand.py",
    "kind": "a VM does not become a container: see test_containers.py",
    "container": "a container is no VM: see test_containers.py",
    "encryption": "only a reinstall changes what is on the disks: see tests/kinds/machine/test_encryption.py",
}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "changes.md"


@pytest.fixture(scope="module", params=["7.4", "8.4", "9.1"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        for pool in ("prod", "test"):
            made.hypervisor.client._ask("POST", "/pools", {"poolid": pool})
        yield made


def look(bench: Bench, machine: Machine) -> Vm:
    vm = bench.another().find_vm(machine.facts)
    assert vm is not None
    return vm


def find_change(bench: Bench, vm: Vm, described: MachineSpec, machine: Machine, key: str) -> Any:
    found = bench.hypervisor.changes(vm, described, machine)
    return next((change for change in found if change.key == key), None)


def documented() -> dict[str, str]:
    return dict(re.findall(r"^\| `([^|]+?)` \| ([^|]+?) \|", DOCUMENT.read_text(), re.MULTILINE))


@pytest.mark.parametrize("row", ROWS)
def test_it_takes_effect_when_the_plan_says(bench: Bench, row: str) -> None:
    before, after, key = ROWS[row]
    described, wanted = bare(**before), bare(**after)
    machine = bench.created(described)
    bench.hypervisor.start_vm(machine.facts, bench.note)
    machine = with_macs(machine, wanted)
    bench.skew += 2 * VIEW_AGE
    told = find_change(bench, look(bench, machine), wanted, machine, key)
    assert told is not None, "the plan does not see it"
    never = row in NEVER_ON_7_4 and bench.hypervisor.get_release().major == 7
    assert (When.NEVER.value if never else documented().get(row)) == told.when.value
    assert bool(told.reason) is (told.when is When.RESTART)
    bench.hypervisor.apply_changes(look(bench, machine), wanted, machine, bench.note)
    vm = look(bench, machine)
    left = find_change(bench, vm, wanted, machine, key)
    if told.when is When.LIVE:
        assert left is None and key not in vm.pending
    elif told.stops:
        assert left == told, "it waits for a stop"
        bench.hypervisor.stop_vm(machine.facts, bench.note)
        bench.hypervisor.apply_changes(look(bench, machine), wanted, machine, bench.note)
        assert find_change(bench, look(bench, machine), wanted, machine, key) is None
    elif told.when is When.RESTART:
        assert left is not None and left.waiting and key in vm.pending
        bench.hypervisor.stop_vm(machine.facts, bench.note)
        bench.hypervisor.start_vm(machine.facts, bench.note)
        assert find_change(bench, look(bench, machine), wanted, machine, key) is None
    else:
        assert left == told, "nothing was done"


KEPT = {"bios": "never", "disks[].size, larger": "a disk never shrinks"}  # what is never taken back


@pytest.fixture(scope="module")
def newest() -> Iterator[Bench]:
    with start_bench("9.1") as made:
        for pool in ("prod", "test"):
            made.hypervisor.client._ask("POST", "/pools", {"poolid": pool})
        yield made


@pytest.mark.parametrize("row", sorted(set(ROWS) - set(KEPT)))
def test_what_was_changed_is_taken_back_or_the_plan_says_how(newest: Bench, row: str) -> None:
    before, after, key = ROWS[row]
    described, wanted = bare(**after), bare(**before)
    machine = with_macs(newest.created(described), described)
    newest.skew += 2 * VIEW_AGE
    vm = look(newest, machine)
    told = find_change(newest, vm, wanted, machine, key)
    if told is None:
        lines = newest.hypervisor.leftovers(vm, wanted, machine)
        assert [line for line in lines if line.startswith(key) and "`" in line], "nothing says that it stays"
        return
    if told.when is When.NEVER:
        assert told.forbidden
        return
    newest.hypervisor.apply_changes(vm, wanted, machine, newest.note)
    assert find_change(newest, look(newest, machine), wanted, machine, key) is None


def test_every_field_of_the_description_has_a_row_or_a_reason() -> None:
    changed = {re.split(r"[.:,\[]", row)[0] for row in ROWS}
    assert set(MachineSpec.model_fields) - changed - NO_HARDWARE - set(ELSEWHERE) == set()
    assert set(documented()) == set(ROWS)
