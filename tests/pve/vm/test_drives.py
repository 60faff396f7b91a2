"""Volumes that are not the machine's own, and volumes that were set aside."""

from dataclasses import replace

import pytest

from nixops_proxmox.model import Vm
from nixops_proxmox.pve.vm.diff import changes, update
from nixops_proxmox.pve.vm.drives import losses, spared, strangers
from nixops_proxmox.pve.vm.identity import Identity, identity_of, notes_with_mark
from nixops_proxmox.pve.vm.leftovers import leftovers
from nixops_proxmox.spec import Disk, Efi, InstallSpec, MachineSpec, Tpm
from nixops_proxmox.spec.serials import derived_serial
from tests.pve.specs import GIB, UUID, machine, params_of, spec, vm_of

IDENTITY = identity_of(machine())
SERIAL = derived_serial(UUID, "scsi0")
BIGGER = spec(disks=(Disk(slot="scsi0", storage="local-lvm", size=9 * GIB, ssd=True),))
AWAY = {"scsi0": None, "unused0": "local-lvm:vm-101-disk-0"}


@pytest.mark.parametrize(
    "text",
    [
        "local-lvm:vm-101-disk-7,size=8G",
        "local-lvm:vm-300-disk-0,serial=other,size=8G",
        f"local-lvm:vm-101-disk-7,serial={SERIAL[:8]},size=8G",
        f"local-lvm:vm-101-disk-7,serial={SERIAL}0,size=8G",
        f"shared:vm-101-disk-7,serial={derived_serial(UUID, 'scsi1')},size=9G",
    ],
)
@pytest.mark.parametrize("described", [spec(), BIGGER])
def test_a_volume_without_our_serial_is_refused_and_never_touched(text: str, described: MachineSpec) -> None:
    vm = vm_of(spec(), {"scsi0": text})
    (change,) = changes(vm, described, IDENTITY)
    volume = text.partition(",")[0]
    assert volume in change.forbidden and f"--scsi0 {volume}" in change.remedy and SERIAL in change.remedy
    assert strangers(vm, described, IDENTITY) == (change,)
    made = update(vm, described, IDENTITY)
    assert not made.calls and not made.resize


def test_what_a_running_vm_has_counts_as_much_as_what_is_pending() -> None:
    ours = vm_of(spec())
    theirs = {**ours.config, "scsi0": "local-lvm:vm-101-disk-7,size=8G"}
    for vm in (replace(ours, active=theirs), replace(ours, config=theirs, active=ours.config)):
        (strange,) = strangers(vm, spec(), IDENTITY)
        assert "vm-101-disk-7" in strange.forbidden
    assert strangers(replace(ours, active=ours.config), spec(), IDENTITY) == ()


def test_the_remedy_makes_it_the_machines_own() -> None:
    (strange,) = strangers(vm_of(spec(), {"scsi0": "local-lvm:vm-101-disk-7,size=8G"}), spec(), IDENTITY)
    text = strange.remedy.split("--scsi0 ")[1].split("`")[0]
    assert strangers(vm_of(spec(), {"scsi0": text}), spec(), IDENTITY) == ()


def test_a_serial_that_is_declared_later_is_given_and_another_one_is_a_strangers() -> None:
    named = spec(disks=(Disk(slot="scsi0", storage="local-lvm", size=8 * GIB, serial="data"),))
    assert "serial=data" in str(params_of(update(vm_of(spec()), named, IDENTITY))["scsi0"])
    assert strangers(vm_of(named), spec(), IDENTITY)


def test_a_disk_of_the_originals_is_known_by_its_volume() -> None:
    bare = vm_of(spec(), {"scsi0": "local-lvm:vm-101-disk-0,size=8G"})
    theirs = replace(IDENTITY, nameless=True, volumes={"scsi0": "local-lvm:vm-101-disk-0"})
    assert changes(bare, spec(), theirs) == ()
    assert strangers(vm_of(spec(), {"scsi0": "local-lvm:vm-101-disk-7,size=8G"}), spec(), theirs)
    assert strangers(vm_of(spec(), {"scsi0": "local-lvm:vm-101-disk-0,serial=x,size=8G"}), spec(), theirs)


def test_a_clones_disks_get_their_serials_with_the_first_write() -> None:
    copy = spec(install=InstallSpec.model_validate({"from": "template", "template": "9000"}))
    notes = notes_with_mark("", IDENTITY.mark, unfinished=True)
    for text in ("local-lvm:vm-101-disk-0,size=8G", "local-lvm:vm-101-disk-0,serial=templates,size=8G"):
        clone = vm_of(copy, {"scsi0": text, "description": notes})
        assert f"serial={SERIAL}" in str(params_of(update(clone, copy, IDENTITY))["scsi0"])
        assert strangers(vm_of(copy, {"scsi0": text}), copy, IDENTITY)


def test_nothing_is_made_beside_a_detached_volume_without_a_word() -> None:
    vm = vm_of(spec(), AWAY)
    (change,) = changes(vm, spec(), IDENTITY)
    assert "unused0 holds local-lvm:vm-101-disk-0" in change.permission
    assert f"`qm set 101 --scsi0 local-lvm:vm-101-disk-0,serial={SERIAL}`" in change.remedy
    assert "--allow-recreate" in change.remedy
    assert not change.forbidden
    attached = vm_of(spec(), {"scsi0": f"local-lvm:vm-101-disk-0,serial={SERIAL},size=8G"})
    assert changes(attached, spec(), IDENTITY) == ()


@pytest.mark.parametrize(
    ("described", "key"),
    [
        (spec(bios="ovmf", efi=Efi(storage="local-lvm")), "efidisk0"),
        (spec(tpm=Tpm(storage="local-lvm")), "tpmstate0"),
        (spec(extra={"ide0": "local-lvm:8"}), "ide0"),
        (spec(disks=(*spec().disks, Disk(slot="virtio3", storage="shared", size=GIB))), "virtio3"),
    ],
)
def test_that_holds_for_everything_that_is_made(described: MachineSpec, key: str) -> None:
    aside = {"unused3": "local-lvm:vm-101-disk-9", "bios": "ovmf"}
    assert [change.key for change in changes(vm_of(spec(), aside), described, IDENTITY) if change.permission] == [key]
    assert not [change for change in changes(vm_of(spec(), {"bios": "ovmf"}), described, IDENTITY) if change.permission]


def test_cloud_init_and_cds_are_no_data() -> None:
    for drive in ("local-lvm:cloudinit", "none,media=cdrom", "local:iso/a.iso,media=cdrom", "shared:vm-101-disk-4"):
        vm = vm_of(spec(), {"unused0": "local-lvm:vm-101-disk-9"})
        assert [change.permission for change in changes(vm, spec(extra={"ide0": drive}), IDENTITY)] == [""]


def test_a_detaching_that_waits_for_a_stop_is_taken_back() -> None:
    """PVE would make a second volume otherwise."""
    vm = vm_of(spec())
    waiting = replace(vm, config=dict(vm.config), active=vm.config, pending=("scsi0",))
    waiting.config.pop("scsi0")  # type: ignore[attr-defined]
    assert params_of(update(waiting, spec(), IDENTITY)) == {"scsi0": vm.config["scsi0"]}


def test_the_plan_says_what_is_set_aside() -> None:
    vm = vm_of(spec(), {"unused0": "local-lvm:vm-101-disk-9"})
    (line,) = leftovers(vm, spec(), IDENTITY)
    assert line.startswith("unused0: local-lvm:vm-101-disk-9 was detached") and "--delete unused0" in line


def test_what_goes_with_a_vm_is_what_it_owns_and_we_did_not_make() -> None:
    vm = vm_of(
        spec(),
        {
            "unused0": "local-lvm:vm-101-disk-9",
            "unused1": "local:101/vm-101-disk-2.qcow2",
            "scsi4": "local-lvm:vm-101-disk-5,serial=data,size=1G",
            "scsi5": "local-lvm:vm-300-disk-0,size=1G",
            "ide0": "local-lvm:vm-101-cloudinit,media=cdrom",
        },
    )
    assert [line.partition(":")[0] for line in losses(vm, IDENTITY)] == ["unused0", "unused1", "scsi4"]
    assert losses(vm_of(spec()), IDENTITY) == ()
    assert spared(vm) == ("scsi5: local-lvm:vm-300-disk-0",), "PVE keeps it for VM 300"


def same(vm: Vm, described: MachineSpec, identity: Identity = IDENTITY) -> bool:
    return changes(vm, described, identity) == ()


@pytest.mark.parametrize(
    ("want", "have", "what"),
    [
        ("local-lvm:8", "local-lvm:vm-101-disk-4,size=8G", ""),
        ("local-lvm:8", "local-lvm:vm-101-disk-4,size=8196M,backup=0", ""),
        ("local-lvm:8,backup=0", "local-lvm:vm-101-disk-4,backup=0,size=8G", ""),
        ("local-lvm:8,backup=0", "local-lvm:vm-101-disk-4,size=8G", "value"),
        ("local-lvm:9", "local-lvm:vm-101-disk-4,size=8G", "size"),
        ("local-lvm:7", "local-lvm:vm-101-disk-4,size=8G", "forbidden"),
        ("shared:8", "local-lvm:vm-101-disk-4,size=8G", "forbidden"),
        ("local-lvm:8", "none,media=cdrom", "forbidden"),
        ("local-lvm:0,import-from=local:import/a.raw", "local-lvm:vm-101-disk-4,size=3G", ""),
        ("local-lvm:cloudinit", "local-lvm:vm-101-cloudinit,media=cdrom,size=4M", ""),
        ("local:cloudinit", "local:101/vm-101-cloudinit.qcow2,media=cdrom", ""),
        ("local:cloudinit", "local-lvm:vm-101-cloudinit,media=cdrom", "value"),
        ("local-lvm:cloudinit", "local-lvm:vm-101-disk-4,size=8G", "forbidden"),
        ("none,media=cdrom", "none,media=cdrom", ""),
        ("none,media=cdrom", "local:iso/a.iso,media=cdrom,size=1M", "value"),
        ("local:iso/a.iso,media=cdrom", "local:iso/a.iso,media=cdrom,size=1M", ""),
        ("local:iso/a.iso,media=cdrom", "local-lvm:vm-101-disk-4,size=8G", "forbidden"),
        ("local-lvm:vm-101-disk-4", "local-lvm:vm-101-disk-4,size=8G", ""),
        ("volume=local-lvm:vm-101-disk-4", "local-lvm:vm-101-disk-4,size=8G", ""),
        ("local-lvm:vm-101-disk-4", "local-lvm:vm-101-disk-5,size=8G", "forbidden"),
    ],
)
def test_a_drive_in_pves_own_words_settles_and_never_takes_a_disks_place(want: str, have: str, what: str) -> None:
    described = spec(extra={"ide0": want})
    vm = vm_of(spec(), {"ide0": have})
    found = changes(vm, described, IDENTITY)
    assert bool(found) is bool(what)
    made = update(vm, described, IDENTITY)
    assert ("forbidden" if any(change.forbidden for change in found) else what) == what
    assert bool(made.resize) is (what == "size")
    if what == "value":
        value = str(params_of(made)["ide0"])
        assert value == want or value.startswith(have.partition(",")[0])
    else:
        assert not made.calls
