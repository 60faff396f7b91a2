"""The life of a machine on a server that nobody here wrote: it takes what we ask for, and we understand it."""

from pathlib import Path

import pytest

from nixops_proxmox.model import Power
from nixops_proxmox.spec import Disk, Nic
from tests.foreign.bench import Foreign, bare
from tests.pve.specs import GIB, ISO


def test_a_life(foreign: Foreign) -> None:
    hypervisor, note = foreign.hypervisor, foreign.noted.append
    machine = foreign.created()
    vm = foreign.seen(machine)
    assert (vm.power, vm.uuid) == (Power.STOPPED, machine.facts.uuid)
    assert hypervisor.changes(vm, bare(), machine) == ()
    hypervisor.start_vm(machine.facts, note)
    hypervisor.start_vm(machine.facts, note)
    assert foreign.seen(machine).power is Power.RUNNING
    hypervisor.shut_down_vm(machine.facts, note, 5)
    assert foreign.seen(machine).power is Power.STOPPED
    hypervisor.start_vm(machine.facts, note)
    hypervisor.stop_vm(machine.facts, note)
    assert foreign.seen(machine).power is Power.STOPPED
    hypervisor.destroy_vm(machine.facts, note)
    assert foreign.hypervisor.find_vm(machine.facts) is None
    assert foreign.vmids == []


def test_the_description_can_change(foreign: Foreign) -> None:
    machine = foreign.created()
    described = bare(
        memory=4096,
        tags=("prod",),
        disks=(
            Disk(slot="scsi0", storage="local-lvm", size=9 * GIB),
            Disk(slot="scsi1", storage="local-lvm", size=GIB, ssd=True),
        ),
        network=(Nic(slot="net0", bridge="vmbr0"), Nic(slot="net1", bridge="vmbr0", tag=20)),
    )
    foreign.hypervisor.apply_changes(foreign.seen(machine), described, machine, foreign.noted.append)
    left = foreign.hypervisor.changes(foreign.seen(machine), described, machine)
    assert [change.key for change in left] == ["scsi0"]  # its server takes a resize, and does nothing
    foreign.hypervisor.destroy_vm(machine.facts, foreign.noted.append)


def test_it_boots_what_it_is_told_to(foreign: Foreign, tmp_path: Path) -> None:
    iso = tmp_path / "nixos.iso"
    iso.write_bytes(b"CD001")
    assert foreign.hypervisor.media.upload("pve1", "local", iso, print) == ISO
    described = bare(install={"from": "iso", "iso": ISO})
    machine = foreign.machine()
    foreign.hypervisor.create_vm(described, machine, foreign.noted.append)
    foreign.hypervisor.set_boot(foreign.seen(machine), described, installer=False)
    assert not foreign.hypervisor.boots_installer(foreign.seen(machine), described)
    foreign.hypervisor.set_boot(foreign.seen(machine), described, installer=True)
    assert foreign.hypervisor.boots_installer(foreign.seen(machine), described)
    foreign.hypervisor.destroy_vm(machine.facts, foreign.noted.append)


@pytest.mark.parametrize("ram", [False, True])
def test_a_snapshot_is_taken_and_gone_back_to(foreign: Foreign, ram: bool) -> None:
    machine = foreign.created()
    hypervisor, vmid = foreign.hypervisor, machine.facts.vmid
    client = hypervisor.client
    if ram:
        hypervisor.start_vm(machine.facts, foreign.noted.append)

    hypervisor.saves.take_snapshot(machine.facts, "before", foreign.noted.append, description="", ram=ram)
    assert client.list_snapshots(machine.facts.node, vmid) == ("before",)
    hypervisor.saves.return_to_snapshot(machine.facts, "before", foreign.noted.append)
    hypervisor.saves.delete_snapshot(machine.facts, "before", foreign.noted.append)
    assert client.list_snapshots(machine.facts.node, vmid) == ()
    hypervisor.destroy_vm(machine.facts, foreign.noted.append)
    assert foreign.vmids == []
