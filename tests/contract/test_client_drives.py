"""Drives in PVE's own words (`extra`), applied again and again: after the first time, no call changes anything."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.model import Machine, Vm
from nixops_proxmox.spec import MachineSpec
from tests.contract.client_bench import Bench, bare, start_bench

IMAGE = "local:import/plain.raw"
DRIVES = (
    "local-lvm:1",
    "local-lvm:0.5",
    "shared:1",
    "shared:1,format=qcow2",
    "file=local-lvm:1,backup=0,cache=writeback,serial=mine",
    "local-lvm:1,media=disk,ssd=1,discard=on",
    f"local-lvm:0,import-from={IMAGE}",
    "local-lvm:cloudinit",
    "shared:cloudinit",
    "local-lvm:cloudinit,media=cdrom",
    "none,media=cdrom",
    "local:iso/tools.iso,media=cdrom",
)
OTHERS = {
    "acpi": True, "tablet": False, "ciuser": "me", "ipconfig0": "ip=dhcp,ip6=auto", "nameserver": "192.0.2.1",
    "rng0": "source=/dev/urandom", "serial1": "socket", "shares": 500, "startdate": "now", "tdf": 1, "usb0": "spice",
    "watchdog": "i6300esb,action=reset", "ostype": "l26", "localtime": "0", "audio0": "device=AC97", "keyboard": "de",
}  # fmt: skip


@pytest.fixture(scope="module", params=["7.4", "8.4", "9.1"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        put(made, tmp_path_factory.mktemp("iso") / "tools.iso", "iso")
        if request.param != "7.4":
            put(made, tmp_path_factory.mktemp("image") / "plain.raw", "import")
        yield made


def put(bench: Bench, file: Path, content: str) -> None:
    file.write_bytes(b"\0" * (1 << 20))
    for node in ("pve1", "pve2", "pve3"):
        bench.hypervisor.media.upload(node, "local", file, print, content=content)


def find(bench: Bench, machine: Machine) -> Vm:
    bench.skew += 1.0
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    return vm


def settles(bench: Bench, machine: Machine, described: MachineSpec) -> None:
    vm = find(bench, machine)
    assert bench.hypervisor.changes(vm, described, machine) == ()
    bench.calls()
    bench.hypervisor.apply_changes(vm, described, machine, bench.note)
    assert not [name for name in bench.calls() if not name.startswith("GET ")]


@pytest.mark.parametrize("drive", DRIVES)
def test_a_drive_settles_after_one_deploy(bench: Bench, drive: str) -> None:
    if IMAGE in drive and not bench.hypervisor.get_release().has_import_content:
        pytest.skip("this release imports no such content")
    described = bare(extra={"ide0": drive})
    born = bench.created(described)  # with the drive from the start
    settles(bench, born, described)
    bench.hypervisor.destroy_vm(born.facts, bench.note)
    later = bench.created(bare())  # the drive comes later
    bench.hypervisor.apply_changes(find(bench, later), described, later, bench.note)
    settles(bench, later, described)
    bench.hypervisor.start_vm(later.facts, bench.note)
    settles(bench, later, described)
    volumes = [key for key in find(bench, later).config if key.startswith("unused")]
    bench.hypervisor.destroy_vm(later.facts, bench.note)
    assert not volumes


def test_everything_else_that_may_be_said_settles_too(bench: Bench) -> None:
    described = bare(extra=OTHERS)
    machine = bench.created(described)
    settles(bench, machine, described)
    bench.hypervisor.destroy_vm(machine.facts, bench.note)


def test_a_detached_disk_keeps_its_data_until_somebody_says_a_word(bench: Bench) -> None:
    machine = bench.created(bare())
    client, vm = bench.hypervisor.client, find(bench, machine)
    own = vm.config["scsi0"].partition(",")[0]
    client.set_config(vm.node, vm.vmid, {"delete": "scsi0"})
    vm = find(bench, machine)
    assert own in vm.config.values()
    (change,) = bench.hypervisor.changes(vm, bare(), machine)
    assert own in change.permission
    assert [line for line in bench.hypervisor.leftovers(vm, bare(), machine) if own in line]
    assert [line for line in bench.hypervisor.losses(vm, machine) if own in line]
    text = change.remedy.split("--scsi0 ")[1].split("`")[0]
    client.set_config(vm.node, vm.vmid, {"scsi0": text})  # what the remedy says
    settles(bench, machine, bare())
    assert find(bench, machine).config["scsi0"].partition(",")[0] == own
    assert not bench.hypervisor.losses(find(bench, machine), machine)
    bench.hypervisor.destroy_vm(machine.facts, bench.note)
