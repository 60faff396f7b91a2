"""A machine's own CD, with the real client on the lab: put, inserted, ejected and deleted, whatever was there."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nixops_proxmox.model import Machine, Vm
    from tests.contract.client_bench import Bench

SECRET = b"a private key" * 100
ROLE = ("VM.Audit", "VM.Config.CDROM", "Datastore.Audit", "Datastore.AllocateSpace", "Datastore.AllocateTemplate")


def get(bench: "Bench", machine: "Machine") -> "Vm":
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    return vm


def inserted(bench: "Bench", machine: "Machine") -> str:
    from tests.contract.client_bench import bare

    discs = bench.hypervisor.discs
    volume = discs.choose(get(bench, machine), bare(), machine.facts.uuid)
    discs.insert(get(bench, machine), bare(), volume, SECRET, bench.note)
    assert discs.is_inserted(get(bench, machine), volume)
    return volume


def created(bench: "Bench") -> "Machine":
    from tests.contract.client_bench import bare

    return bench.created(bare())


def content(bench: "Bench", machine: "Machine", volume: str) -> bytes:
    stored = bench.lab.cluster.stores.find(volume, machine.facts.node)
    assert stored is not None
    return stored.path.read_bytes()


def test_a_disc_is_inserted_beside_the_disk_and_leaves_nothing(bench: "Bench") -> None:
    from tests.contract.client_bench import bare

    machine = created(bench)
    before = get(bench, machine).config
    volume = inserted(bench, machine)
    assert volume == f"local:iso/nixops-px-{machine.facts.uuid}.iso"  # the node's own storage, not the shared one
    assert content(bench, machine, volume) == SECRET
    assert not bench.hypervisor.boots_installer(get(bench, machine), bare())
    assert inserted(bench, machine) == volume, "a second one was inserted"
    for _ in range(2):  # one that is gone needs nothing
        bench.hypervisor.discs.remove(machine.facts, machine.facts.node, volume, bench.note)
        assert volume not in bench.hypervisor.media.sizes(machine.facts.node, "local", "iso")
        after = get(bench, machine).config
        assert {**after, "digest": ""} == {**before, "digest": ""}


@pytest.mark.parametrize("taken", [(), ("scsi30", "scsi29", "scsi28")], ids=["beside the disks", "on ide"])
def test_a_machine_that_runs_loses_its_disc_at_once(bench: "Bench", taken: tuple[str, ...]) -> None:
    machine = created(bench)
    bench.hypervisor.client.set_config(
        machine.facts.node, machine.facts.vmid, {slot: "none,media=cdrom" for slot in taken} or {"tablet": "0"}
    )
    bench.hypervisor._finder.drop_look(machine.facts.vmid)
    volume = inserted(bench, machine)
    (slot,) = [key for key, value in get(bench, machine).config.items() if volume in value]
    assert slot.startswith("ide" if taken else "scsi")
    bench.hypervisor.start_vm(machine.facts, bench.note)
    bench.hypervisor.discs.remove(machine.facts, machine.facts.node, volume, bench.note)
    vm = get(bench, machine)
    assert volume not in "".join(vm.active.values()), "the guest that runs can still read it"
    assert slot not in vm.config


def test_the_file_goes_when_its_vm_is_gone(bench: "Bench") -> None:
    machine = created(bench)
    volume = inserted(bench, machine)
    bench.hypervisor.destroy_vm(machine.facts, bench.note)
    bench.hypervisor.discs.remove(machine.facts, machine.facts.node, volume, bench.note)
    assert volume not in bench.hypervisor.media.sizes(machine.facts.node, "local", "iso")


def test_pves_own_cloud_init_drive_leaves_the_vm_first(bench: "Bench") -> None:
    machine = created(bench)
    client = bench.hypervisor.client
    client.set_config(machine.facts.node, machine.facts.vmid, {"ide2": "local-lvm:cloudinit"})
    bench.hypervisor._finder.drop_look(machine.facts.vmid)
    inserted(bench, machine)
    drives = [value for key, value in get(bench, machine).config.items() if "media=cdrom" in value]
    assert len(drives) == 1 and "nixops-px" in drives[0], "a system reads the first drive of that label that it finds"


def test_a_storage_that_takes_no_iso_is_refused_by_its_option(bench: "Bench") -> None:
    from nixops_proxmox.errors import PveRefused
    from nixops_proxmox.spec import InstallSpec
    from tests.contract.client_bench import bare

    machine = created(bench)
    described = bare(
        install=InstallSpec.model_validate(
            {"from": "image", "image": "local:import/a.raw", "identity": "cloud-init", "identity_storage": "local-lvm"}
        )
    )
    with pytest.raises(PveRefused, match="'local-lvm' does not take ISO files on") as refused:
        bench.hypervisor.discs.choose(get(bench, machine), described, machine.facts.uuid)
    assert "install.identityStorage" in refused.value.hint


def test_a_file_that_may_not_be_deleted_is_emptied(bench: "Bench") -> None:
    from tests.contract.clerk import Clerk

    machine = created(bench)
    volume = inserted(bench, machine)
    hypervisor = Clerk(bench, {"/": ROLE}).hypervisor
    hypervisor.discs.remove(machine.facts, machine.facts.node, volume, bench.note)
    assert not content(bench, machine, volume).strip(b"\0"), "a private key lies around"
    assert any("it is empty now, and stays" in line for line in bench.warned)
