"""Machines from images and templates against the lab: how they are made, whose they are, and what is refused first."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.errors import NotFound, PveRefused, SpecError
from nixops_proxmox.model import Machine, Power, Vm
from nixops_proxmox.pve.cluster.doctor import look_around
from nixops_proxmox.pve.cluster.permissions import Need, needs_of
from nixops_proxmox.pve.wire.calls import Value
from nixops_proxmox.pve.wire.properties import GIB, MIB
from nixops_proxmox.spec import Disk, InstallSpec, MachineSpec, Placement
from tests.contract.client_bench import Bench, bare, start_bench

IMAGE = "local:import/plain.raw"


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def any_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as bench:
        yield bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    with start_bench() as made:
        yield made


def from_image(image: str = IMAGE, storage: str | None = None, **changes: object) -> MachineSpec:
    install = {"from": "image", "image": image, "image_storage": storage}
    return bare(install=InstallSpec.model_validate(install), **changes)


def from_template(template: object, *, full: bool = False, **changes: object) -> MachineSpec:
    install = {"from": "template", "template": str(template), "full_clone": full}
    return bare(install=InstallSpec.model_validate(install), **changes)


def put_image(bench: Bench, folder: Path, size: int = MIB) -> None:
    image = folder / "plain.raw"
    with image.open("wb") as file:
        file.truncate(size)
    bench.hypervisor.media.upload("pve2", "local", image, print, content="import")


def make_template(bench: Bench, name: str = "plain") -> Machine:
    """A template of ours, made by hand from a created VM."""
    described = bare(name=name, memory=512)
    machine = bench.created(described)
    client = bench.hypervisor.client
    upid = client.make_template(machine.facts.node, machine.facts.vmid)
    assert upid is not None
    bench.hypervisor.wait_for_task(upid)
    return machine


def get(bench: Bench, machine: Machine) -> Vm:
    vm = bench.hypervisor.find_vm(machine.facts)
    assert vm is not None
    return vm


def finish(bench: Bench, described: MachineSpec, machine: Machine) -> Vm:
    bench.hypervisor.apply_changes(get(bench, machine), described, machine, bench.note)
    vm = get(bench, machine)
    assert bench.hypervisor.changes(vm, described, machine) == ()
    return vm


def test_an_image_is_imported_where_it_is_and_grows_to_what_is_described(bench: Bench, tmp_path: Path) -> None:
    put_image(bench, tmp_path)
    described = from_image()
    machine = bench.created(described)
    assert machine.facts.node == "pve2"
    vm = get(bench, machine)
    assert (vm.uuid, vm.config["boot"]) == (machine.facts.uuid, "order=scsi0")
    assert [change.key for change in bench.hypervisor.changes(vm, described, machine)] == ["scsi0"]
    assert "size=8G" in finish(bench, described, machine).config["scsi0"]


def test_an_image_larger_than_its_disk_is_refused_before_anything_is_made(bench: Bench, tmp_path: Path) -> None:
    put_image(bench, tmp_path, size=3 * MIB)
    small = (Disk(slot="scsi0", storage="local-lvm", size=2 * MIB),)
    with pytest.raises(SpecError, match=r"scsi0 has 2M, and the image local:import/plain\.raw 3M"):
        bench.machine(from_image(disks=small))
    assert bench.vmids == []


@pytest.mark.parametrize("image", [IMAGE, "./plain.raw"])
def test_a_release_without_import_says_so_before_anything_is_made(image: str) -> None:
    with start_bench("7.4") as bench:
        with pytest.raises(PveRefused, match=r"PVE 7\.4 cannot import") as refused:
            bench.machine(from_image(image))
        assert "template" in refused.value.hint
        assert bench.vmids == [] and not bench.lab.cluster.tasks.tasks


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("local:import/absent.qcow2", "does not have local:import/absent.qcow2"),
        ("local:iso/a.iso", "cannot be imported"),
        ("local:backup/vzdump-qemu-100-2026_01_02-03_04_05.vma.zst", "is a VMA, which is a backup of a whole VM"),
        ("local:import/nixos.vma.zst", "is a VMA, which is a backup of a whole VM"),
    ],
)
def test_an_image_that_is_not_there_is_refused_before_anything_is_made(bench: Bench, image: str, said: str) -> None:
    with pytest.raises((PveRefused, SpecError), match=said):
        bench.machine(from_image(image))
    assert bench.vmids == []


def test_a_machine_of_an_image_here_goes_where_a_storage_takes_it(bench: Bench) -> None:
    def switch_off() -> None:
        for storage in bench.lab.cluster.stores.storages.values():
            storage.content = tuple(one for one in storage.content if one != "import")

    assert bench.machine(from_image("./plain.raw")).facts.node
    with pytest.raises(PveRefused, match="storage nowhere, where the image is put, is not available there"):
        bench.machine(from_image("./plain.raw", storage="nowhere", name="db"))
    bench.change(switch_off)
    with pytest.raises(PveRefused, match="no storage there takes images"):
        bench.another().choose_place(from_image("./plain.raw", name="db"))


@pytest.mark.parametrize("full", [False, True])
def test_a_clone_becomes_ours_with_the_first_write(any_bench: Bench, *, full: bool) -> None:
    bench = any_bench
    template = make_template(bench)
    described = from_template(template.facts.vmid, full=full, memory=1024)
    machine = bench.created(described)
    assert machine.facts.node == template.facts.node
    vm = get(bench, machine)
    assert vm.power is Power.STOPPED
    assert vm.uuid not in (machine.facts.uuid, template.facts.uuid)
    waiting = {change.key for change in bench.hypervisor.changes(vm, described, machine)}
    assert {"smbios1", "description", "memory", "net0", "scsi0"} <= waiting
    vm = finish(bench, described, machine)
    assert (vm.uuid, vm.config["memory"]) == (machine.facts.uuid, "1024")
    assert machine.facts.macs[0].upper() in vm.config["net0"]
    bench.hypervisor.start_vm(machine.facts, bench.note)
    bench.hypervisor.destroy_vm(machine.facts, bench.note)
    assert bench.vmids == [template.facts.vmid]


def test_a_template_is_found_by_name(bench: Bench) -> None:
    template = make_template(bench)
    machine = bench.created(from_template("plain"))
    assert machine.facts.node == template.facts.node


def test_another_process_knows_an_unfinished_clone_as_ours(bench: Bench) -> None:
    template = make_template(bench)
    described = from_template(template.facts.vmid)
    machine = bench.created(described)
    again = bench.another()
    assert again.find_vm(machine.facts) is not None
    again.create_vm(described, machine, bench.note)
    assert len(bench.vmids) == 2, "a second clone was made"


def test_a_lost_answer_to_a_clone_is_looked_up(bench: Bench) -> None:
    template = make_template(bench)
    described = from_template(template.facts.vmid)
    machine = bench.machine(described)
    bench.fault("drop", "POST", "/nodes/*/qemu/*/clone")
    bench.hypervisor.create_vm(described, machine, bench.note)
    assert get(bench, machine).vmid == machine.facts.vmid
    assert len(bench.vmids) == 2


@pytest.mark.parametrize(
    ("disks", "said"),
    [
        ((Disk(slot="virtio0", storage="local-lvm", size=8 * GIB),), "its disks are scsi0"),
        ((Disk(slot="scsi0", storage="local-lvm", size=2 * GIB),), "described with 2G, and has 8G"),
        ((Disk(slot="scsi0", storage="shared", size=8 * GIB),), "it will be on local-lvm"),
    ],
)
def test_a_template_that_does_not_fit_is_refused_before_anything_is_made(
    bench: Bench, disks: tuple[Disk, ...], said: str
) -> None:
    template = make_template(bench)
    with pytest.raises(SpecError, match=said):
        bench.machine(from_template(template.facts.vmid, disks=disks))
    assert bench.vmids == [template.facts.vmid]


def test_what_is_no_template_is_refused(bench: Bench) -> None:
    plain = bench.created()
    with pytest.raises(PveRefused, match="is no template"):
        bench.machine(from_template(plain.facts.vmid))
    with pytest.raises(NotFound, match="there is no template nowhere"):
        bench.machine(from_template("nowhere"))


def test_the_rights_for_copies_are_asked_for(bench: Bench) -> None:
    release = bench.hypervisor.get_release()
    assert any(
        need.paths == ("/vms/9000",) and need.privileges == ("VM.Clone",)
        for need in needs_of(from_template(9000), release)
    )
    assert any(need.paths == ("/storage/local",) for need in needs_of(from_image(), release))
    assert not any(need.paths == ("/storage/local",) for need in needs_of(bare(), release))
    uploads = {need.paths for need in needs_of(from_image("./a.raw", "local"), release) if "upload" in need.purpose}
    assert uploads == {("/storage/local",)}


def seed_template(bench: Bench, folder: Path) -> int:
    """As the handbook of a machine controller says it with `qm`: importdisk, a cloud-init drive, `-boot c -bootdisk
    scsi0`, a serial console, the agent, and then a template."""
    put_image(bench, folder)
    client = bench.made[0]  # somebody else's, who may do as he likes
    params: dict[str, Value] = {
        "vmid": 9000,
        "name": "ubuntu-18.04-LTS",
        "scsihw": "virtio-scsi-pci",
        "scsi0": f"local-lvm:0,import-from={IMAGE}",
        "ide2": "local-lvm:cloudinit",
        "boot": "c",
        "bootdisk": "scsi0",
        "serial0": "socket",
        "vga": "serial0",
        "net0": "virtio,bridge=vmbr0",
        "agent": "1",
    }
    bench.hypervisor.wait_for_task(client.create_vm("pve2", params))
    upid = client.make_template("pve2", 9000)
    assert upid is not None
    bench.hypervisor.wait_for_task(upid)
    return 9000


@pytest.mark.parametrize("full", [False, True], ids=["linked", "full"])
def test_a_template_that_was_made_by_hand_is_cloned_as_it_is(bench: Bench, tmp_path: Path, *, full: bool) -> None:
    seed_template(bench, tmp_path)
    described = from_template("ubuntu-18.04-LTS", full=full)
    machine = bench.created(described)
    vm = finish(bench, described, machine)
    assert (vm.config["boot"], vm.config["vga"], vm.uuid) == ("c", "serial0", machine.facts.uuid)
    assert "cloudinit" in vm.config["ide2"] and not bench.hypervisor.boots_installer(vm, described)
    bench.hypervisor.start_vm(machine.facts, bench.note)
    bench.hypervisor.destroy_vm(machine.facts, bench.note)
    assert bench.vmids == [9000]


def test_each_node_may_have_a_template_of_the_same_name(bench: Bench) -> None:
    client, vmids = bench.hypervisor.client, {}
    for node in ("pve1", "pve3"):
        made = bench.created(bare(name="plain", node=node, memory=512))
        vmids[node] = made.facts.vmid
        upid = client.make_template(node, made.facts.vmid)
        assert upid is not None
        bench.hypervisor.wait_for_task(upid)
    for node in ("pve3", "pve1"):
        described = from_template("plain", node=node)
        machine = bench.created(described)
        assert machine.facts.node == node and get(bench, machine).node == node
        assert f"base-{vmids[node]}-disk-0" in str(bench.lab.cluster.stores.find(volume_of(bench, machine), node))
    free = bench.machine(from_template("plain", name="free"))
    assert free.facts.node in vmids, "a node without the template was chosen"
    elsewhere = from_template("plain", name="lost", placement=Placement(nodes=("pve2",)))
    with pytest.raises(PveRefused, match="is on pve1, pve3, and on none of the nodes in its placement"):
        bench.machine(elsewhere)
    needed = {path for need in look(bench, from_template("plain")) for path in need.paths}
    assert {f"/vms/{vmid}" for vmid in vmids.values()} <= needed


def volume_of(bench: Bench, machine: Machine) -> str:
    return get(bench, machine).config["scsi0"].partition(",")[0]


def look(bench: Bench, described: MachineSpec) -> tuple[Need, ...]:
    """What the doctor asks for, once it has looked around."""
    client = bench.hypervisor.client
    return needs_of(described, client.get_version(), look_around(client, [described], client.get_permissions()))


def test_two_templates_of_one_name_on_one_node_are_told_apart_by_their_vmids(bench: Bench) -> None:
    for _ in range(2):
        made = bench.created(bare(name="plain", node="pve2", memory=512))
        upid = bench.hypervisor.client.make_template("pve2", made.facts.vmid)
        assert upid is not None
        bench.hypervisor.wait_for_task(upid)
    with pytest.raises(PveRefused, match="several templates are called plain"):
        bench.machine(from_template("plain"))


@pytest.mark.parametrize(
    ("tray", "full_to", "goes"),
    [("none", "", True), ("local:iso/a.iso", "", False), ("none", "shared", True), ("none", "local-lvm", False)],
)
def test_a_template_on_shared_storages_alone_is_cloned_to_any_node(
    bench: Bench, tray: str, full_to: str, *, goes: bool
) -> None:
    bench.change(lambda: add_iso(bench))
    client = bench.made[0]
    params: dict[str, Value] = {"vmid": 9000, "name": "plain", "scsi0": "shared:8,format=qcow2", "boot": "order=scsi0"}
    bench.hypervisor.wait_for_task(client.create_vm("pve1", params | {"ide2": f"{tray},media=cdrom"}))
    upid = client.make_template("pve1", 9000)
    assert upid is not None
    bench.hypervisor.wait_for_task(upid)
    disks = (Disk(slot="scsi0", storage=full_to or "shared", size=8 * GIB),)
    described = from_template("plain", disks=disks, full=bool(full_to))
    bench.change(lambda: setattr(bench.lab.cluster.nodes["pve1"], "memory", 4 * GIB))  # the fullest node
    machine = bench.created(described)
    assert (machine.facts.node != "pve1") is goes
    assert get(bench, machine).node == machine.facts.node


def add_iso(bench: Bench) -> None:
    stores = bench.lab.cluster.stores
    stores.record(stores.get("local"), "pve1", "iso/a.iso", size=MIB, format="iso", content="iso").path.write_bytes(b"")
