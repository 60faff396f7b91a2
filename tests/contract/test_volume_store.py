"""Volumes against the lab: each call of the store on each release, and what PVE refuses."""

from collections.abc import Iterator

import pytest

from nixops_proxmox.errors import NeedsPermission, NotFound, PveError, PveRefused, StateError, VmidTaken
from nixops_proxmox.lab.storage import Storage, default_storages
from nixops_proxmox.model import Facts, Machine, VmRef
from nixops_proxmox.pve.cluster.volume_store import VolumeStore
from nixops_proxmox.spec import VolumeSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.pve.specs import GIB

SPEC = VolumeSpec(name="data", storage="local-lvm", size=2 * GIB, discard=True)
SHARED = SPEC.model_copy(update={"storage": "shared"})
SERIAL = "npv-0123456789abcdef"
UUID = "22222222-2222-4222-8222-222222222222"


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def release(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(version=request.param) as made:
        yield made


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A lab of its own: no test sees another's disks."""
    with start_bench() as made:
        yield made


def store(bench: Bench) -> VolumeStore:
    return bench.another().volume_store


def ref(machine: Machine) -> VmRef:
    return VmRef(machine.facts.uuid, machine.facts.vmid, machine.facts.node)


def parker(bench: Bench, node: str = "pve1") -> VmRef:
    there = store(bench)
    return there.make_parker(there.propose_parker(UUID, node), "demo", "local-lvm", bench.note)


def parked(bench: Bench, spec: VolumeSpec = SPEC, node: str = "pve1") -> VmRef:
    keeper = parker(bench, node)
    store(bench).allocate(keeper, "scsi0", spec, SERIAL, bench.note)
    return keeper


def config(bench: Bench, vm: VmRef) -> dict[str, str]:
    return dict(bench.hypervisor.client.get_config(vm.node, vm.vmid).values)


def test_it_is_made_moved_grown_and_deleted_on_each_release(release: Bench) -> None:
    bench = release
    machine = ref(bench.created(bare(node="pve1")))
    keeper = parked(bench)
    assert config(bench, keeper)["protection"] == "1"
    found = store(bench).find(SERIAL, ())
    assert found is not None and (found.vm, found.slot, found.size) == (keeper, "scsi0", 2 * GIB)
    assert config(bench, keeper)["scsi0"].startswith("local-lvm:vm-900000-disk-0,")

    store(bench).move(found, machine, "scsi30", bench.note)
    there = store(bench).find(SERIAL, {machine.vmid})
    assert there is not None and there.vm == machine
    drive = config(bench, machine)["scsi30"]
    assert drive.startswith(f"local-lvm:vm-{machine.vmid}-disk-") and "backup=0" in drive and "discard=on" in drive

    store(bench).grow(there, 3 * GIB, bench.note)
    assert "size=3G" in config(bench, machine)["scsi30"]

    store(bench).move(there, keeper, "scsi0", bench.note)
    back = store(bench).find(SERIAL, {keeper.vmid})
    assert back is not None and back.size == 3 * GIB
    store(bench).delete(back, bench.note)
    assert store(bench).find(SERIAL, ()) is None
    assert config(bench, keeper)["protection"] == "1", "protected again"
    store(bench).drop_parker(keeper, bench.note)
    assert keeper.vmid not in bench.vmids


def test_a_vm_that_has_a_volume_is_not_destroyed_by_anybody(bench: Bench) -> None:
    machine = bench.created(bare(node="pve1"))
    keeper = parked(bench)
    found = store(bench).find(SERIAL, ())
    assert found is not None
    store(bench).move(found, ref(machine), "scsi30", bench.note)
    with pytest.raises(NeedsPermission, match=f"volumes that outlive it .{SERIAL} in scsi30"):
        bench.another().destroy_vm(machine.facts, bench.note)
    store(bench).move(found.__class__(ref(machine), "scsi30", "", 0), keeper, "scsi0", bench.note)
    with pytest.raises(NeedsPermission, match="cannot be destroyed: it has volumes"):
        bench.another().destroy_vm(Facts(uuid=UUID, vmid=keeper.vmid, node="pve1"), bench.note)
    bench.another().destroy_vm(machine.facts, bench.note)
    assert store(bench).find(SERIAL, ()) is not None


def test_one_that_somebody_detached_is_seen_and_gets_its_serial_back(bench: Bench) -> None:
    keeper = parked(bench)
    client = bench.hypervisor.client
    bench.change(lambda: bench.lab.cluster.vms[keeper.vmid].config.pop("protection"))
    assert store(bench).find(SERIAL, ()) is not None
    bench.lab.cluster.vms[keeper.vmid].config["unused0"] = "local-lvm:vm-900000-disk-0"
    bench.change(lambda: bench.lab.cluster.vms[keeper.vmid].config.pop("scsi0"))
    assert store(bench).find(SERIAL, ()) is None
    lost = store(bench).drives(keeper)["unused0"]
    assert (lost.volume, lost.marked) == ("local-lvm:vm-900000-disk-0", False)
    machine = ref(bench.created(bare(node="pve1")))
    store(bench).move(lost, machine, "scsi1", bench.note)
    store(bench).mark(machine, "scsi1", SPEC, SERIAL, bench.note)
    found = store(bench).find(SERIAL, {machine.vmid})
    assert found is not None and found.size == 2 * GIB
    assert client.get_config("pve1", machine.vmid).values["scsi1"].count("serial=") == 1


def test_two_disks_with_its_serial_are_an_error_that_names_both(bench: Bench) -> None:
    parked(bench)
    machine = ref(bench.created(bare(node="pve1")))
    copy = f"local-lvm:vm-{machine.vmid}-disk-0,serial={SERIAL},size=2G"
    bench.change(lambda: bench.lab.cluster.vms[machine.vmid].config.update(scsi5=copy))
    with pytest.raises(StateError, match=rf"VM {machine.vmid} \(scsi5\).* have a disk with the serial {SERIAL}"):
        store(bench).find(SERIAL, ())


def test_a_vm_that_changed_hands_is_left_alone(bench: Bench) -> None:
    parked(bench)
    found = store(bench).find(SERIAL, ())
    assert found is not None
    other = VmRef("33333333-3333-4333-8333-333333333333", ref(bench.created(bare(node="pve1"))).vmid, "pve1")
    with pytest.raises(NotFound, match="is not the one with the UUID"):
        store(bench).move(found, other, "scsi30", bench.note)
    with pytest.raises(VmidTaken):
        store(bench).make_parker(
            VmRef("44444444-4444-4444-8444-444444444444", other.vmid, "pve1"), "demo", "local-lvm", bench.note
        )
    assert store(bench).find(SERIAL, ()) == found


def test_a_stopped_parker_moves_to_the_node_of_its_machine(bench: Bench) -> None:
    keeper = parked(bench, SHARED)
    moved = store(bench).bring(keeper, "pve2", bench.note)
    found = store(bench).find(SERIAL, {keeper.vmid})
    assert found is not None and found.vm == moved and moved.node == "pve2"
    with pytest.raises(PveError, match="same node"):
        store(bench).move(found, ref(bench.created(bare(node="pve1"))), "scsi30", bench.note)


def test_a_volume_in_a_snapshot_stays_with_its_vm(bench: Bench) -> None:
    machine = bench.created(bare(node="pve1"))
    keeper = parked(bench)
    found = store(bench).find(SERIAL, ())
    assert found is not None
    store(bench).move(found, ref(machine), "scsi30", bench.note)
    bench.another().saves.take_snapshot(machine.facts, "before", bench.note, description="", ram=False)
    there = store(bench).find(SERIAL, {machine.facts.vmid})
    assert there is not None
    with pytest.raises(PveRefused, match="Can't move disk used by a snapshot to another VM"):
        store(bench).move(there, keeper, "scsi0", bench.note)


def test_all_slots_of_a_parker_are_used_before_another_is_made() -> None:
    storages = [*default_storages(), Storage("pool", "lvmthin", ("images",), total=400 * GIB)]
    with start_bench(storages=storages) as bench:
        keeper = parker(bench)
        assert store(bench).find_slot(keeper, (), last=False) == "scsi0"
        assert store(bench).find_slot(keeper, (), last=True) == "scsi30"
        assert store(bench).find_slot(keeper, [f"scsi{n}" for n in range(31)], last=True) == ""
        assert store(bench).propose_parker(UUID, "pve1").vmid == keeper.vmid + 1
