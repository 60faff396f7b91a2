"""How a VM differs from its description, by meaning."""

import pytest

from nixops_proxmox.model import Power
from nixops_proxmox.pve.vm.boot import boot_devices, boots_cd
from nixops_proxmox.pve.vm.diff import changes, update
from nixops_proxmox.pve.vm.identity import identity_of
from nixops_proxmox.spec import Cpu, Disk, Efi, InstallSpec, MachineSpec, Nic, Tpm
from nixops_proxmox.spec.serials import derived_serial
from tests.pve.specs import GIB, UUID, full_spec, machine, params_of, spec, vm_of

IDENTITY = identity_of(machine())


@pytest.mark.parametrize("described", [spec(), full_spec()])
def test_what_was_just_created_does_not_differ(described: MachineSpec) -> None:
    assert changes(vm_of(described), described, IDENTITY) == ()


@pytest.mark.parametrize(
    "printed",
    [
        {"memory": "current=2048"},
        {"net0": "virtio=bc:24:11:00:00:01,bridge=vmbr0"},
        {"net0": "model=virtio,bridge=vmbr0,macaddr=BC:24:11:00:00:01"},
        {"net0": "bridge=vmbr0,virtio=BC:24:11:00:00:01,link_down=1,tag=20"},
        {"agent": "enabled=1,fstrim_cloned_disks=1"},
        {"agent": "yes"},
        {"tags": "Nixops"},
        {"tags": "nixops;by-hand"},
        {"scsihw": "virtio-scsi-pci"},
        {"boot": "order=scsi0"},
        {"ide2": "none,media=cdrom"},
        {"scsi5": "local-lvm:vm-101-disk-9,size=1G"},
        {"unused0": "local-lvm:vm-101-disk-9"},
        {"scsi0": f"local-lvm:vm-101-disk-0,size=8388608K,serial={derived_serial(UUID, 'scsi0')},ssd=1"},
        {"scsi0": f"local-lvm:vm-101-disk-0,size=8196M,serial={derived_serial(UUID, 'scsi0')}"},
        {"onboot": "1"},
        {"cores": "4"},
    ],
)
def test_other_spellings_and_what_is_left_unset_are_no_difference(printed: dict[str, str]) -> None:
    assert changes(vm_of(spec(), printed), spec(), IDENTITY) == ()


def test_pve_defaults_asked_for_are_no_difference() -> None:
    described = spec(cpu=Cpu(sockets=1, cores=1, numa=False), onboot=False, protection=False, bios="seabios")
    vm = vm_of(described, dict(sockets=None, cores=None, numa=None, onboot=None, protection=None, bios=None))
    assert changes(vm, described, IDENTITY) == ()


def keys(described: MachineSpec, **printed: str) -> list[tuple[str, bool, bool]]:
    return [(c.key, c.restart, bool(c.forbidden)) for c in changes(vm_of(spec(), printed), described, IDENTITY)]


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (spec(memory=4096), [("memory", True, False)]),
        (spec(onboot=True), [("onboot", False, False)]),
        (spec(cpu=Cpu(cores=2)), [("cores", True, False)]),
        (spec(cpu=Cpu(limit=0.5)), [("cpulimit", False, False)]),
        (spec(name="db"), [("name", False, False)]),
        (spec(tags=("prod",)), [("tags", False, False)]),
        (spec(bios="ovmf"), [("bios", True, True)]),
        (spec(display="serial0"), [("vga", True, False)]),
        (spec(network=(Nic(slot="net0", bridge="vmbr1"),)), [("net0", False, False)]),
        (spec(network=(Nic(slot="net0", bridge="vmbr0", tag=7),)), [("net0", False, False)]),
        (spec(network=(Nic(slot="net1", bridge="vmbr0"),)), [("net1", False, False), ("net0", False, False)]),
        (spec(disks=(Disk(slot="scsi0", storage="local-lvm", size=9 * GIB),)), [("scsi0", False, False)]),
        (spec(disks=(Disk(slot="scsi0", storage="local-lvm", size=7 * GIB),)), [("scsi0", False, True)]),
        (spec(disks=(Disk(slot="scsi0", storage="shared", size=8 * GIB),)), [("scsi0", False, False)]),
        (spec(disks=(Disk(slot="scsi0", storage="local-lvm", size=8 * GIB, ssd=True),)), [("scsi0", True, False)]),
        (spec(disks=(*spec().disks, Disk(slot="scsi1", storage="shared", size=GIB))), [("scsi1", False, False)]),
        (spec(disks=(*spec().disks, Disk(slot="sata1", storage="shared", size=GIB))), [("sata1", True, False)]),
        (spec(disks=()), [("scsi0", False, False)]),
        (spec(tpm=Tpm(storage="local-lvm")), [("tpmstate0", True, False)]),
        (spec(extra={"kvm": False}), [("kvm", True, False)]),
    ],
)
def test_a_difference_says_what_it_takes(described: MachineSpec, expected: list[tuple[str, bool, bool]]) -> None:
    vm_spec = spec(disks=spec().disks)
    found = [(c.key, c.restart, bool(c.forbidden)) for c in changes(vm_of(vm_spec), described, IDENTITY)]
    assert found == expected


def test_nothing_is_plugged_where_hotplug_is_off() -> None:
    described = spec(network=(Nic(slot="net0", bridge="vmbr1"),))
    assert keys(described, hotplug="0") == [("net0", True, False)]
    assert keys(described, hotplug="network") == [("net0", False, False)]
    assert keys(spec(memory=4096), hotplug="memory,network") == [("memory", True, False)], "DIMMs need NUMA"
    assert keys(spec(memory=4096), hotplug="memory,network", numa="1") == [("memory", False, False)]


def test_efi_disks_are_made_once() -> None:
    described = full_spec()
    small = "local-lvm:vm-101-disk-0,size=528K"  # as PVE made them when nothing was said
    found = [(c.key, bool(c.forbidden)) for c in changes(vm_of(described, dict(efidisk0=small)), described, IDENTITY)]
    assert found == [("efidisk0", True)]
    keyed = full_spec(efi=Efi(storage="local-lvm", secure_boot_keys=True))
    assert [c.key for c in changes(vm_of(described), keyed, IDENTITY) if c.forbidden] == ["efidisk0"]


def test_an_update_never_allocates_for_a_disk_that_exists() -> None:
    described = spec(disks=(Disk(slot="scsi0", storage="local-lvm", size=9 * GIB, ssd=True),))
    made = update(vm_of(spec()), described, IDENTITY)
    value = str(params_of(made)["scsi0"])
    assert value.startswith("local-lvm:vm-101-disk-0,")
    assert "ssd=1" in value
    assert made.resize == {"scsi0": "9G"}


def test_an_update_allocates_for_a_new_disk_and_detaches_a_removed_one() -> None:
    described = spec(disks=(Disk(slot="scsi1", storage="shared", size=GIB),))
    made = update(vm_of(spec()), described, IDENTITY)
    assert str(params_of(made)["scsi1"]).startswith("shared:1,")
    assert params_of(made)["delete"] == "scsi0"
    assert "force" not in params_of(made)


def test_an_update_keeps_macs_and_what_others_set_on_a_nic() -> None:
    vm = vm_of(spec(), dict(net0="virtio=BC:24:11:00:00:01,bridge=vmbr0,link_down=1"))
    made = update(vm, spec(network=(Nic(slot="net0", bridge="vmbr1"),)), IDENTITY)
    assert params_of(made) == {"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr1,link_down=1"}


def test_a_model_change_leaves_one_model() -> None:
    made = update(vm_of(spec()), spec(network=(Nic(slot="net0", bridge="vmbr0", model="e1000"),)), IDENTITY)
    assert params_of(made) == {"net0": "e1000=BC:24:11:00:00:01,bridge=vmbr0"}


def test_an_update_leaves_out_what_is_forbidden() -> None:
    described = spec(bios="ovmf", memory=4096)
    assert params_of(update(vm_of(spec()), described, IDENTITY)) == {"memory": "4096"}


def test_a_lost_mark_is_put_back_beside_the_users_notes() -> None:
    vm = vm_of(spec(), dict(description="call Bob before touching", tags="other"))
    made = update(vm, spec(), IDENTITY)
    assert str(params_of(made)["description"]).startswith("call Bob before touching\n\nManaged by nixops-proxmox")
    assert params_of(made)["tags"] == "nixops;other"


def test_a_disk_that_somebody_added_by_hand_is_left_alone_whatever_its_serial() -> None:
    """Also where the serial begins as ours would, or is ours of another slot."""
    ours = derived_serial(UUID, "scsi5")
    for serial in (
        "data",
        ours[:8],
        f"{ours}0",
        derived_serial(UUID, "scsi0"),
        derived_serial(UUID[:-1] + "9", "scsi5"),
    ):
        vm = vm_of(spec(), {"scsi5": f"local-lvm:vm-101-disk-9,serial={serial},size=1G"})
        assert changes(vm, spec(), IDENTITY) == ()
    vm = vm_of(spec(), {"scsi5": f"local-lvm:vm-101-disk-9,serial={ours},size=1G"})
    assert [change.key for change in changes(vm, spec(), IDENTITY)] == ["scsi5"]


@pytest.mark.parametrize("power", [Power.RUNNING, Power.STOPPED])
def test_applied_changes_leave_no_difference(power: Power) -> None:
    vm = vm_of(spec(), power=power)
    described = full_spec(bios=None, efi=None, description="x")
    made = update(vm, described, IDENTITY)
    config = dict(vm.config)
    for key, value in params_of(made).items():
        if key != "delete":
            config[key] = str(value).replace("shared:4.5", "shared:vm-101-disk-1,size=4608M").replace("True", "1")
    config["tpmstate0"] = "local-lvm:vm-101-disk-2,size=4M,version=v2.0"
    again = changes(vm_of(spec(), config, power), described, IDENTITY)
    assert again == ()


@pytest.mark.parametrize(
    ("config", "devices"),
    [
        ({"boot": "order=scsi0;ide2;net0"}, ("scsi0", "ide2", "net0")),
        ({"boot": "cdn", "scsi0": "x:1", "ide2": "x:iso/a,media=cdrom"}, ("scsi0", "ide2")),
        (
            {"boot": "dc", "bootdisk": "scsi1", "scsi0": "x:1", "scsi1": "x:2", "ide2": "i,media=cdrom"},
            ("ide2", "scsi1"),
        ),
        ({"scsi0": "x:1", "ide2": "x:iso/a,media=cdrom"}, ("scsi0", "ide2")),
        ({"boot": "order="}, ()),
        ({}, ()),
    ],
)
def test_boot_order_is_read_in_all_its_forms(config: dict[str, str], devices: tuple[str, ...]) -> None:
    assert boot_devices(config) == devices


@pytest.mark.parametrize(
    ("boot", "ide2", "installer"),
    [
        ("order=ide2;scsi0", "local:iso/a.iso,media=cdrom", True),
        ("order=ide2;scsi0", "none,media=cdrom", False),
        ("order=scsi0;ide2", "local:iso/a.iso,media=cdrom", False),
        ("order=scsi0", "local:iso/a.iso,media=cdrom", False),
        ("order=net0;ide2", "local:iso/a.iso,media=cdrom", True),
    ],
)
def test_the_installer_boots_if_a_medium_comes_before_a_disk(boot: str, ide2: str, installer: bool) -> None:
    assert boots_cd({"boot": boot, "ide2": ide2, "scsi0": "local-lvm:vm-101-disk-0"}) is installer


def test_an_image_is_imported_only_at_creation() -> None:
    described = spec(install=InstallSpec.model_validate({"from": "image", "image": "local:import/a.qcow2"}))
    assert changes(vm_of(spec(), dict(boot="order=scsi0")), described, IDENTITY) == ()
