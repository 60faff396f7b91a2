"""Calls whose keys PVE derives from each other, each fifty times: the lab takes a call's keys in any order, as PVE."""

from collections.abc import Iterator

import pytest

from nixops_proxmox.errors import DeployError
from nixops_proxmox.model import Machine, Vm
from nixops_proxmox.pve.vm.boot import boots_cd
from nixops_proxmox.spec import Disk, Efi, InstallSpec, MachineSpec, Nic, Tpm
from tests.contract.client_bench import Bench, bare, start_bench
from tests.pve.specs import GIB, ISO

TIMES = 50
DISK = Disk(slot="scsi0", storage="local-lvm", size=8 * GIB)
WITH_ISO = bare(install=InstallSpec.model_validate({"from": "iso", "iso": ISO}))
MORE = (DISK, Disk(slot="scsi1", storage="local-lvm", size=GIB))
NICS = (Nic(slot="net0", bridge="vmbr0"), Nic(slot="net1", bridge="vmbr1"))


@pytest.fixture
def bench() -> Iterator[Bench]:
    with start_bench() as made:
        file = made.lab.cluster.directory / "nixos.iso"
        file.write_bytes(b"iso")
        made.lab.lab.add_file("local", "iso", file)
        yield made


def find(bench: Bench, machine: Machine) -> Vm:
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    return vm


@pytest.mark.parametrize("running", [False, True])
def test_the_installer_boots_every_time_and_so_does_the_disk(bench: Bench, running: bool) -> None:
    machine = bench.created(WITH_ISO)
    if running:
        bench.hypervisor.start_vm(machine.facts, bench.note)
    for turn in range(TIMES):
        installer = turn % 2 == 1
        bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=installer)
        assert boots_cd(find(bench, machine).config) is installer


def test_a_running_system_that_has_its_installer_put_in_boots_it(bench: Bench) -> None:
    """The active order knows only the disk: PVE adds the CD to it, before or after our own order."""
    machine = bench.created(WITH_ISO)
    for _ in range(TIMES):
        bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=False)
        bench.hypervisor.start_vm(machine.facts, bench.note)
        bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=True)
        bench.hypervisor.stop_vm(machine.facts, bench.note)
        assert boots_cd(find(bench, machine).config)
        assert find(bench, machine).config["boot"] == "order=ide2;scsi0"


def test_rescue_leaves_what_others_put_in_ide2_and_the_order_as_they_were(bench: Bench) -> None:
    machine = bench.created(WITH_ISO)
    bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=False)
    by_hand(bench, machine, {"ide2": "local-lvm:cloudinit"})
    by_hand(bench, machine, {"boot": "order=scsi0;net0"})
    before = find(bench, machine)
    for _ in range(TIMES // 5):
        bench.hypervisor.start_vm(machine.facts, bench.note)
        bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=True)
        assert not bench.hypervisor.runs_installer(find(bench, machine))
        bench.hypervisor.stop_vm(machine.facts, bench.note)
        bench.hypervisor.start_vm(machine.facts, bench.note)
        assert bench.hypervisor.runs_installer(find(bench, machine))
        bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=False)
        assert bench.hypervisor.runs_installer(find(bench, machine))
        bench.hypervisor.stop_vm(machine.facts, bench.note)
        assert find(bench, machine).config["boot"] == "order=scsi0;net0"
    assert {k: v for k, v in find(bench, machine).config.items() if k != "digest"} == {
        k: v for k, v in before.config.items() if k != "digest"
    }


def test_a_cd_that_the_user_boots_first_is_not_taken_for_the_installer(bench: Bench) -> None:
    """Its tray is empty, so the disk runs; a rescue that was cut off right after its calls must still restart it."""
    machine = bench.created(WITH_ISO)
    bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=False)
    by_hand(bench, machine, {"boot": "order=ide2;scsi0"})
    bench.hypervisor.start_vm(machine.facts, bench.note)
    bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=True)
    vm = find(bench, machine)
    assert bench.hypervisor.boots_installer(vm, WITH_ISO)
    assert not bench.hypervisor.runs_installer(vm)
    bench.hypervisor.set_boot(vm, WITH_ISO, installer=False)
    assert find(bench, machine).config["boot"] == "order=ide2;scsi0"


def by_hand(bench: Bench, machine: Machine, params: dict[str, str]) -> None:
    bench.hypervisor.client.set_config(find(bench, machine).node, machine.facts.vmid, params)
    bench.skew += 1.0  # our last look is old now


def test_the_installer_runs_until_the_next_start_whatever_is_set(bench: Bench) -> None:
    machine = bench.created(WITH_ISO)
    bench.hypervisor.start_vm(machine.facts, bench.note)
    assert bench.hypervisor.runs_installer(find(bench, machine))
    bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=False)
    assert bench.hypervisor.runs_installer(find(bench, machine))
    bench.hypervisor.stop_vm(machine.facts, bench.note)
    bench.hypervisor.start_vm(machine.facts, bench.note)
    assert not bench.hypervisor.runs_installer(find(bench, machine))
    bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=True)
    vm = find(bench, machine)
    assert bench.hypervisor.boots_installer(vm, WITH_ISO)
    assert not bench.hypervisor.runs_installer(vm)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_way_out_of_the_installer_that_was_cut_off_is_seen_and_gone_on_with(bench: Bench, nth: int) -> None:
    """Killed after either call, the VM must not look like one that runs its installed system."""
    machine = bench.created(WITH_ISO)
    bench.hypervisor.start_vm(machine.facts, bench.note)
    bench.fault("drop_after", "PUT", r"/config$", nth=nth, times=0)
    with pytest.raises(DeployError):
        bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=False)
    bench.lab.faults.clear()
    bench.skew += 1.0
    assert bench.hypervisor.runs_installer(find(bench, machine))
    bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=False)
    assert not bench.hypervisor.boots_installer(find(bench, machine), WITH_ISO)


@pytest.mark.parametrize(
    "params", [{"ide0": "none,media=cdrom"}, {"ide0": f"{ISO},media=cdrom"}, {"delete": "scsi1"}], ids=str
)
def test_a_boot_order_that_pve_changed_by_itself_is_no_installer(bench: Bench, params: dict[str, str]) -> None:
    machine = bench.created(WITH_ISO.model_copy(update={"disks": MORE}))
    bench.hypervisor.set_boot(find(bench, machine), WITH_ISO, installer=False)
    by_hand(bench, machine, {"boot": "order=scsi0;scsi1"})
    bench.hypervisor.start_vm(machine.facts, bench.note)
    by_hand(bench, machine, params)
    vm = find(bench, machine)
    assert "boot" in vm.pending
    assert not bench.hypervisor.runs_installer(vm)


@pytest.mark.parametrize(
    "described",
    [
        pytest.param({"disks": MORE, "network": NICS}, id="disks and NICs"),
        pytest.param({"memory": 4096, "balloon": 4096}, id="memory and balloon"),
        pytest.param({"hotplug": "disk,network,usb", "network": NICS, "disks": MORE}, id="hotplug and devices"),
        pytest.param({"bios": "ovmf", "efi": Efi(storage="local-lvm"), "tpm": Tpm(storage="local-lvm")}, id="firmware"),
        pytest.param({"display": "serial0", "serial_port": True, "agent": True}, id="display, serial port and agent"),
        pytest.param({"extra": {"ide0": f"{ISO},media=cdrom"}, "disks": MORE}, id="a CD of the user's own"),
        pytest.param(
            {"extra": {"ide1": "local-lvm:cloudinit", "ipconfig0": "ip=dhcp"}, "network": NICS},
            id="cloud-init and NICs",
        ),
    ],
)
def test_a_change_ends_in_the_same_configuration_every_time(
    bench: Bench, described: dict[str, object], request: pytest.FixtureRequest
) -> None:
    wanted: MachineSpec = bare(**described)
    before = bare(bios="ovmf") if "firmware" in request.node.name else bare()
    ends = set()
    for _ in range(TIMES):
        machine = bench.created(before)
        bench.hypervisor.apply_changes(find(bench, machine), wanted, machine, bench.note)
        assert not [c for c in bench.hypervisor.changes(find(bench, machine), wanted, machine) if "ide1" not in c.key]
        ends.add(find(bench, machine).config["boot"])
        bench.hypervisor.destroy_vm(machine.facts, bench.note)
    assert len(ends) == 1


def test_the_end_of_a_protection_and_a_disk_that_leaves_go_together(bench: Bench) -> None:
    for _ in range(TIMES):
        machine = bench.created(bare(disks=MORE, protection=True))
        wanted = bare(disks=(DISK,), protection=False)
        bench.hypervisor.apply_changes(find(bench, machine), wanted, machine, bench.note)
        assert bench.hypervisor.changes(find(bench, machine), wanted, machine) == ()
        bench.hypervisor.destroy_vm(machine.facts, bench.note)


def test_hotplug_and_what_it_lets_be_plugged_go_together(bench: Bench) -> None:
    machine = bench.created(bare(hotplug="disk"))
    bench.hypervisor.start_vm(machine.facts, bench.note)
    for turn in range(TIMES):
        with_net = turn % 2 == 0
        wanted = bare(hotplug="disk,network" if with_net else "disk", network=NICS if with_net else NICS[:1])
        bench.hypervisor.apply_changes(find(bench, machine), wanted, machine, bench.note)
        if with_net:
            assert "net1" in find(bench, machine).active
        else:
            bench.hypervisor.stop_vm(machine.facts, bench.note)
            bench.hypervisor.start_vm(machine.facts, bench.note)
