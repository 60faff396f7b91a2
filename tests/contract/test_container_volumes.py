"""Volumes of containers against the lab: they outlive the container, with what is on them."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nixops_proxmox.errors import NeedsPermission, SpecError
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.model import Facts, Machine, Phase, VmRef
from nixops_proxmox.operations import Deployed
from nixops_proxmox.pve.cluster.container_volumes import ContainerVolumeStore
from nixops_proxmox.pve.cluster.containers import ContainerHypervisor
from nixops_proxmox.pve.wire.calls import Trace, no_trace
from nixops_proxmox.spec import MachineKind, VolumeSpec
from nixops_proxmox.spec.volume import PLACE, serial_of
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.hypervisors import Hypervisors, ends, find_obstacle, start_hypervisors
from tests.contract.kills import killed_at
from tests.contract.test_containers import SPEC, config, container, seed
from tests.lab.test_containers import add_seed
from tests.pve.specs import GIB

VOLUME = VolumeSpec(name="data", kind=MachineKind.CONTAINER, storage="local-lvm", size=2 * GIB)
SERIAL = "npv-0123456789abcdef"
UUID = "22222222-2222-4222-8222-222222222222"
OURS = serial_of("shop", "data")
needs_guests = pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle())


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def release(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(version=request.param) as made:
        add_seed(made.lab)
        yield made


@pytest.fixture
def bench() -> Iterator[Bench]:
    with start_bench() as made:
        add_seed(made.lab)
        yield made


def store(bench: Bench) -> ContainerVolumeStore:
    found = ContainerHypervisor(bench.another()).volume_store
    assert isinstance(found, ContainerVolumeStore)
    return found


def created(bench: Bench, **changes: Any) -> VmRef:
    place = bench.hypervisor.choose_place(bare(node="pve1"))
    facts = Facts(uuid=str(uuid4()), vmid=place.vmid, node="pve1", macs=("bc:24:11:00:00:01",), container=True)
    machine = Machine("demo", "web", Phase.RESERVED, facts)
    spec = SPEC.model_copy(update=changes)
    ContainerHypervisor(bench.another()).create_vm(spec, machine, bench.note, ["ssh-ed25519 AAAA us"])
    return VmRef(facts.uuid, facts.vmid, "pve1")


def parked(bench: Bench) -> VmRef:
    there = store(bench)
    keeper = there.make_parker(there.propose_parker(UUID, "pve1"), "demo", "local-lvm", bench.note)
    there.allocate(keeper, "mp0", VOLUME, SERIAL, bench.note)
    return keeper


def configured(bench: Bench, vm: VmRef) -> dict[str, str]:
    return dict(bench.lab.cluster.vms[vm.vmid].config)


def test_it_is_made_moved_grown_and_deleted_on_each_release(release: Bench) -> None:
    bench = release
    machine, keeper = created(bench), parked(bench)
    found = store(bench).find(SERIAL, ())
    assert found is not None and (found.vm, found.slot, found.size) == (keeper, "mp0", 2 * GIB)
    there = configured(bench, keeper)
    assert (there["protection"], there["unprivileged"], there["rootfs"].rpartition("=")[2]) == ("1", "1", "128M")

    store(bench).move(found, machine, "mp255", bench.note)
    there = configured(bench, machine)
    assert there["mp255"] == f"local-lvm:vm-{machine.vmid}-disk-1,backup=0,mp={PLACE}{SERIAL},size=2G"
    spot = store(bench).find(SERIAL, {machine.vmid})
    assert spot is not None and spot.vm == machine
    store(bench).grow(spot, 3 * GIB, bench.note)
    assert "size=3G" in configured(bench, machine)["mp255"]

    store(bench).move(spot, keeper, "mp0", bench.note)
    assert configured(bench, keeper)["protection"] == "1", "protected again"
    back = store(bench).find(SERIAL, {keeper.vmid})
    assert back is not None and back.size == 3 * GIB
    store(bench).delete(back, bench.note)
    assert store(bench).find(SERIAL, ()) is None
    assert not [key for key in configured(bench, keeper) if key.startswith(("mp", "unused"))]
    store(bench).drop_parker(keeper, bench.note)
    assert keeper.vmid not in bench.vmids


def test_a_protected_container_gets_it_and_is_protected_again(bench: Bench) -> None:
    """PVE would take the volume out of the one, and then refuse it to the other: nothing would have it."""
    machine, _ = created(bench, protection=True), parked(bench)
    found = store(bench).find(SERIAL, ())
    assert found is not None
    store(bench).move(found, machine, "mp255", bench.note)
    there = configured(bench, machine)
    assert SERIAL in there["mp255"] and there["protection"] == "1"


def test_one_that_somebody_detached_is_attached_where_it_is_before_it_is_moved(bench: Bench) -> None:
    machine, keeper = created(bench), parked(bench)
    found = store(bench).find(SERIAL, ())
    assert found is not None
    store(bench).move(found, machine, "mp255", bench.note)
    volume = configured(bench, machine)["mp255"].partition(",")[0]
    bench.change(lambda: bench.lab.cluster.vms[machine.vmid].config.update(unused0=volume))
    bench.change(lambda: bench.lab.cluster.vms[machine.vmid].config.pop("mp255"))
    lost = store(bench).drives(machine)["unused0"]
    assert (lost.volume, lost.marked) == (volume, False)
    store(bench).move(lost, keeper, "mp4", bench.note)
    store(bench).mark(keeper, "mp4", VOLUME, SERIAL, bench.note)
    back = store(bench).find(SERIAL, ())
    assert back is not None and (back.vm, back.slot, back.size) == (keeper, "mp4", 2 * GIB)
    assert "unused0" not in configured(bench, machine)


def test_a_container_that_has_a_volume_is_not_destroyed_by_anybody(bench: Bench) -> None:
    machine, keeper = created(bench), parked(bench)
    for holder in (keeper, machine):
        if holder is machine:
            found = store(bench).find(SERIAL, ())
            assert found is not None
            store(bench).move(found, machine, "mp255", bench.note)
        facts = Facts(uuid=holder.uuid, vmid=holder.vmid, node="pve1", container=True)
        with pytest.raises(NeedsPermission, match=f"volumes that outlive it .{SERIAL}"):
            ContainerHypervisor(bench.another()).destroy_vm(facts, bench.note)
    assert store(bench).find(SERIAL, ()) is not None


def test_what_a_killed_run_left_unprotected_is_protected_again(bench: Bench) -> None:
    keeper, machine = parked(bench), created(bench)
    for there in (bench.lab.cluster.vms[vm.vmid].config for vm in (keeper, machine)):
        bench.change(partial(there.update, protection="0"))
    for vm in (keeper, machine):
        store(bench).guard(vm)
    assert configured(bench, keeper)["protection"] == "1"
    assert configured(bench, machine)["protection"] == "0", "a machine's is what its description says"
    store(bench).guard(VmRef(UUID, 900500, "pve1"))


def test_a_deletion_that_was_killed_is_finished_by_the_volume_s_name(bench: Bench) -> None:
    keeper = parked(bench)
    found = store(bench).find(SERIAL, ())
    assert found is not None
    bench.change(lambda: bench.lab.cluster.vms[keeper.vmid].config.update(unused0=found.volume))
    bench.change(lambda: bench.lab.cluster.vms[keeper.vmid].config.pop("mp0"))
    left = store(bench).drives(keeper)["unused0"]
    store(bench).delete(left, bench.note)
    assert "unused0" not in configured(bench, keeper)
    assert bench.lab.cluster.stores.find(found.volume, "pve1") is None


def test_what_keeps_volumes_is_no_machine_that_bears_a_mark(bench: Bench) -> None:
    keeper = parked(bench)
    assert store(bench).keeps_volumes(keeper)
    assert list(ContainerHypervisor(bench.another()).find_bearers("demo", "web", ())) == []


# With guests.


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Hypervisors]:
    with start_hypervisors(tmp_path, {"pve": ["pve1", "pve2"]}) as found:
        yield found


def described(bed: Hypervisors, **changes: Any) -> dict[str, Any]:
    return {"web": container(bed, volumes=["data"], **changes)}


def resources(**changes: Any) -> Mapping[str, Any]:
    data = {"profile": "pve", "kind": "container", "storage": "local-lvm", "size": "1G"}
    return {"volumes": {"data": data | changes}}


def holder(bed: Hypervisors) -> tuple[str, str]:
    """The name and the slot of the only container that has the volume."""
    vms = bed.labs["pve"].cluster.vms.values()
    ((name, slot),) = [
        (vm.config["hostname"], key) for vm in vms for key, value in vm.config.items() if f"{PLACE}{OURS}" in value
    ]
    return name, slot


def ledger(bed: Hypervisors) -> Path:
    """A file on the volume."""
    name, slot = holder(bed)
    vms = bed.labs["pve"].cluster.vms.values()
    vm = next(vm for vm in vms if vm.config["hostname"] == name)
    stored = bed.labs["pve"].cluster.stores.get_volume(vm.config[slot].partition(",")[0], vm.node)
    return Path(stored.path) / "now" / "parts" / "0" / "ledger"


@needs_guests
def test_the_data_outlives_a_reinstalled_and_a_destroyed_container(bed: Hypervisors) -> None:
    with bed.opened(described(bed), resources=resources()) as deployed:
        assert set(ends(deployed.deploy(["web"])).values()) == {""}
    assert holder(bed) == ("web", "mp255")
    ledger(bed).parent.mkdir(parents=True, exist_ok=True)
    ledger(bed).write_text("precious")
    before = bed.recorded().facts
    with bed.opened(described(bed), resources=resources()) as deployed:
        assert ends(deployed.reinstall(["web"])) == {"web": ""}
    after = bed.recorded().facts
    assert (after.round, after.vmid, after.host_key) == (1, before.vmid, before.host_key)
    assert (holder(bed), ledger(bed).read_text()) == (("web", "mp255"), "precious")
    with bed.opened({}, resources=resources()) as deployed:
        assert ends(deployed.destroy(["web"])) == {"web": ""}
    assert (holder(bed)[0], ledger(bed).read_text()) == ("nixops-volumes-900000", "precious")
    with bed.opened(described(bed), resources=resources()) as deployed:
        assert {end for end in ends(deployed.deploy(["web"])).values()} == {""}
    assert (holder(bed), ledger(bed).read_text()) == (("web", "mp255"), "precious")


@needs_guests
def test_a_deploy_attaches_grows_and_lets_go_of_it(bed: Hypervisors) -> None:
    without = {"web": container(bed)}
    with bed.opened(without) as deployed:
        assert set(ends(deployed.deploy(["web"])).values()) == {""}
    with bed.opened(described(bed), resources=resources()) as deployed:
        assert set(ends(deployed.deploy(["web"])).values()) == {""}
    assert holder(bed) == ("web", "mp255"), "while it runs"
    with bed.opened(described(bed), resources=resources(size="2G")) as deployed:
        assert set(ends(deployed.deploy(["web"])).values()) == {""}
        assert deployed.check(["web"])[0].drift == ()
    assert config(bed)["mp255"].endswith("size=2G")
    restarts = Permissions(allow_reboot=True)
    with bed.opened(without, resources=resources(size="2G"), permissions=restarts) as deployed:
        assert set(ends(deployed.deploy(["web"])).values()) == {""}
    assert holder(bed)[0] == "nixops-volumes-900000" and bed.recorded().phase is Phase.READY


@needs_guests
def test_a_mount_point_becomes_a_volume_where_it_is(bed: Hypervisors) -> None:
    mount = {"path": "/data", "storage": "local-lvm", "size": "1G", "keep": True}
    with bed.opened({"web": container(bed, container={"mounts": [mount]})}) as deployed:
        assert set(ends(deployed.deploy(["web"])).values()) == {""}
        assert ends(deployed.stop(["web"])) == {"web": ""}
    volume = config(bed)["mp0"].partition(",")[0]
    with bed.opened(described(bed), resources=resources()) as deployed:
        deployed.adopt_volume("data", "web:mp0")
    assert config(bed)["mp0"] == f"{volume},backup=0,mp={PLACE}{OURS},size=1G"
    with bed.opened(described(bed), resources=resources()) as deployed:
        assert set(ends(deployed.reinstall(["web"])).values()) == {""}
    assert holder(bed) == ("web", "mp255")


@needs_guests
def test_a_volume_of_vms_is_refused_to_a_container_in_words(bed: Hypervisors) -> None:
    mistake = pytest.raises(SpecError, match="data is a volume for a vm, and the machine is a container")
    with mistake, bed.opened(described(bed), resources=resources(kind="vm")):
        pass
    with bed.opened(described(bed), resources=resources()) as deployed:
        assert set(ends(deployed.deploy(["web"])).values()) == {""}
    mistake = pytest.raises(SpecError, match="never becomes one for a vm")
    with bed.opened({}, resources=resources(kind="vm")) as deployed, mistake:
        deployed.volumes.grow("data")


def again(deployed: Deployed) -> dict[str, str]:
    return ends(deployed.reinstall(["web"]))


def gone(deployed: Deployed) -> dict[str, str]:
    return ends(deployed.destroy(["web"]))


@pytest.mark.weekly
@needs_guests
@pytest.mark.parametrize("verb", [again, gone])
def test_a_verb_that_is_killed_at_any_call_is_finished_by_the_next(bed: Hypervisors, verb: Any) -> None:
    for number in range(1, 90):
        (bed.folder / str(number)).mkdir()
        bench = bed.emptied(bed.folder / str(number))
        seed(bench)
        with bench.opened(described(bench), resources=resources()) as deployed:
            assert set(ends(deployed.deploy(["web"])).values()) == {""}
        ledger(bench).parent.mkdir(parents=True, exist_ok=True)
        ledger(bench).write_text("precious")

        def run(trace: Trace) -> object:
            with bench.opened(described(bench), resources=resources(), trace=trace, break_lock=True) as deployed:  # noqa: B023
                return verb(deployed)

        killed = killed_at(run, number)
        bench.labs["pve"].settle()
        if killed:
            assert set(run(no_trace).values()) == {""}, number  # type: ignore[attr-defined]
        assert ledger(bench).read_text() == "precious", number
        assert (holder(bench)[0] == "web") is (verb is again), number
        keepers = [
            vm for vm in bench.labs["pve"].cluster.vms.values() if vm.config["hostname"].startswith("nixops-volumes")
        ]
        assert [(vm.vmid, vm.config["protection"]) for vm in keepers] == [(900000, "1")], number
        if not killed:
            assert number > 6
            return
    raise AssertionError("it never came to its end")
