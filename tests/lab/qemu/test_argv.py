"""QEMU's command line out of hardware: what each option of the configuration becomes."""

from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.lab.machines.base import DiskSlot, Hardware, NicSlot, Volume
from nixops_proxmox.lab.machines.qemu import argv
from nixops_proxmox.lab.machines.qemu.accel import Accel

TCG, KVM = Accel(False, "for this test"), Accel(True, "for this test")
DISK = Volume("local-lvm:vm-101-disk-0", Path("/s/vm-101-disk-0"), 8 << 30, "raw")
ISO = Volume("local:iso/nixos.iso", Path("/s/nixos.iso"), 1 << 20, "raw")
MEDIA = {"scsi0": argv.Media(DISK.path, "qcow2"), "ide2": argv.Media(ISO.path, "raw")}
NET = NicSlot("net0", "virtio", "BC:24:11:00:00:01", "vmbr0")


def make_hardware(**changes: object) -> Hardware:
    plain = Hardware(
        vmid=101,
        node="pve1",
        name="web",
        uuid="11111111-2222-3333-4444-555555555555",
        memory=512,
        cores=2,
        sockets=2,
        cpu="kvm64",
        bios="seabios",
        machine="pc",
        agent=True,
        boot=("scsi0", "ide2"),
        disks=(DiskSlot("scsi0", DISK), DiskSlot("ide2", ISO, cdrom=True)),
        nics=(NET,),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def build(hardware: Hardware, **changes: object) -> list[str]:
    setup = argv.Setup(TCG, MEDIA, {"net0": "tap101i0"})
    return argv.qemu_argv(hardware, replace(setup, **changes))  # type: ignore[arg-type]


def values(words: list[str], option: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == option]


def device(words: list[str], name: str) -> dict[str, str]:
    """The properties of the one device of that id."""
    [found] = [text for text in values(words, "-device") if f"id={name}" in text.split(",")]
    driver, *pairs = found.split(",")
    return {"driver": driver, **dict(pair.split("=", 1) for pair in pairs)}


def test_without_kvm_a_guest_gets_one_processor_of_the_quickest_kind() -> None:
    words = build(make_hardware())
    assert values(words, "-accel") == ["tcg,thread=multi,tb-size=64"]
    assert (values(words, "-cpu"), values(words, "-smp")) == (["qemu64"], ["1"])


def test_with_kvm_a_guest_gets_what_was_configured() -> None:
    words = build(make_hardware(), accel=KVM)
    assert (values(words, "-accel"), values(words, "-cpu"), values(words, "-smp")) == (["kvm"], ["host"], ["4"])


@pytest.mark.parametrize(("memory", "given"), [(512, "512"), (4096, "1024")])
def test_memory_is_capped(memory: int, given: str) -> None:
    assert values(build(make_hardware(memory=memory)), "-m") == [given]


@pytest.mark.parametrize(
    ("machine", "given"),
    [("pc", "q35"), ("", "q35"), ("q35", "q35"), ("pc-i440fx-7.2", "pc-i440fx-7.2"), ("pc-q35-7.2", "pc-q35-7.2")],
)
def test_only_a_versioned_machine_type_is_taken_by_its_word(machine: str, given: str) -> None:
    assert values(build(make_hardware(machine=machine)), "-machine") == [given]


def test_a_q35_has_ports_for_what_is_plugged_in_later_and_an_i440fx_needs_none() -> None:
    assert sum("pcie-root-port" in word for word in build(make_hardware(machine="q35"))) == argv.HOTPLUG_PORTS
    assert not any("pcie-root-port" in word for word in build(make_hardware(machine="pc-i440fx-7.2")))


def test_the_boot_order_is_each_devices_boot_index_and_nothing_else_boots() -> None:
    words = build(make_hardware(boot=("ide2", "scsi0")))
    assert device(words, "ide2")["bootindex"] == "100"
    assert device(words, "scsi0")["bootindex"] == "101"
    assert values(words, "-boot") == ["menu=off,strict=on"]
    assert "bootindex" not in device(build(make_hardware(boot=("scsi0",))), "ide2")


@pytest.mark.parametrize(
    ("key", "options", "expected"),
    [
        ("scsi0", {}, {"driver": "scsi-hd", "bus": "scsihw0.0", "scsi-id": "0", "device_id": "drive-scsi0"}),
        ("scsi3", {"serial": "DATA1"}, {"scsi-id": "3", "serial": "DATA1", "device_id": "DATA1"}),
        ("scsi1", {"ssd": "1", "wwn": "0x5000c50015ea71aa"}, {"rotation_rate": "1", "wwn": "0x5000c50015ea71aa"}),
        ("virtio0", {"serial": "ROOT"}, {"driver": "virtio-blk-pci", "serial": "ROOT"}),
        ("sata2", {}, {"driver": "scsi-hd", "bus": "satahw0.0", "scsi-id": "10", "device_id": "drive-sata2"}),
        ("ide1", {}, {"driver": "scsi-hd", "bus": "satahw0.0", "scsi-id": "1"}),
    ],
)
def test_a_disk_is_on_its_bus_with_its_serial(key: str, options: dict[str, str], expected: dict[str, str]) -> None:
    words = build(make_hardware(disks=(DiskSlot(key, DISK, options=options),)), media={key: MEDIA["scsi0"]})
    found = device(words, key)
    assert {name: found[name] for name in expected} == expected


def test_from_machine_10_on_a_scsi_disk_says_its_slot_for_an_identity_and_its_serial_beside() -> None:
    slot = DiskSlot("scsi3", DISK, options={"serial": "DATA1"})
    words = build(make_hardware(disks=(slot,), names_drives=True), media={"scsi3": MEDIA["scsi0"]})
    found = device(words, "scsi3")
    assert (found["device_id"], found["serial"]) == ("drive-scsi3", "DATA1")


@pytest.mark.parametrize(
    ("key", "cdrom", "expected"),
    [
        ("ide0", False, {"driver": "ide-hd", "bus": "ide.0", "serial": "ROOT"}),
        ("ide2", True, {"driver": "ide-cd", "bus": "ide.1"}),
        ("sata0", False, {"driver": "ide-hd", "bus": "ahci0.0", "serial": "ROOT"}),
        ("sata5", True, {"driver": "ide-cd", "bus": "ahci0.5"}),
        ("scsi0", False, {"driver": "scsi-hd", "bus": "scsihw0.0"}),
    ],
)
@pytest.mark.parametrize("machine", ["q35", "pc-q35-7.2"])
def test_a_q35_that_was_asked_for_shows_ide_and_sata_by_ahci(
    machine: str, key: str, cdrom: bool, expected: dict[str, str]
) -> None:
    slot = DiskSlot(key, DISK, cdrom=cdrom, options={} if cdrom else {"serial": "ROOT"})
    words = build(make_hardware(machine=machine, disks=(slot,)), media={key: MEDIA["scsi0"]})
    found = device(words, key)
    assert {name: found[name] for name in expected} == expected
    assert "satahw0" not in " ".join(words)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "discard=ignore,detect-zeroes=on"),
        ({"discard": "on"}, "discard=unmap,detect-zeroes=unmap"),
        ({"ro": "1"}, "discard=ignore,readonly=on,detect-zeroes=on"),
    ],
)
def test_discard_and_read_only_reach_the_drive(options: dict[str, str], expected: str) -> None:
    [drive] = values(build(make_hardware(disks=(DiskSlot("scsi0", DISK, options=options),))), "-drive")
    assert drive == f"if=none,id=drive-scsi0,file=/s/vm-101-disk-0,format=qcow2,cache=unsafe,aio=threads,{expected}"


def test_a_cd_rom_is_read_only_and_an_empty_tray_has_no_file() -> None:
    full, empty = DiskSlot("ide2", ISO, cdrom=True), DiskSlot("ide2", None, cdrom=True)
    assert (
        argv.drive_options(full, MEDIA["ide2"])
        == "if=none,id=drive-ide2,media=cdrom,readonly=on,file=/s/nixos.iso,format=raw"
    )
    assert argv.drive_options(empty, None) == "if=none,id=drive-ide2,media=cdrom,readonly=on"


def test_a_disk_without_a_volume_is_refused() -> None:
    with pytest.raises(ValueError, match="scsi0 has no volume"):
        argv.drive_options(DiskSlot("scsi0", None), None)


def test_a_comma_in_a_path_ends_no_option() -> None:
    assert "file=/s/a,,b" in argv.drive_options(DiskSlot("scsi0", DISK), argv.Media(Path("/s/a,b"), "raw"))


def test_uefi_has_its_variables_on_efidisk0_or_else_in_a_file_of_the_machine() -> None:
    on_disk = build(make_hardware(bios="ovmf"), media={**MEDIA, "efidisk0": argv.Media(Path("/s/efi"), "qcow2")})
    assert "if=pflash,unit=1,id=drive-efidisk0,format=qcow2,file=/s/efi" in values(on_disk, "-drive")
    temporary = build(make_hardware(bios="ovmf"))
    assert "if=pflash,unit=1,id=drive-efidisk0,format=raw,file=vars.fd" in values(temporary, "-drive")
    assert not any("pflash" in word for word in build(make_hardware()))


def test_efidisk0_and_tpmstate0_are_no_drives() -> None:
    disks = (DiskSlot("efidisk0", DISK), DiskSlot("tpmstate0", DISK), DiskSlot("scsi0", DISK))
    words = build(make_hardware(disks=disks))
    assert [drive for drive in values(words, "-drive") if "pflash" not in drive] == [
        argv.drive_options(disks[2], MEDIA["scsi0"])
    ]
    assert values(words, "-tpmdev") == ["emulator,id=tpm0,chardev=chrtpm"]


def test_the_smbios_uuid_is_the_machines_and_texts_may_be_base64() -> None:
    assert values(build(make_hardware()), "-smbios") == ["type=1,uuid=11111111-2222-3333-4444-555555555555"]
    encoded = make_hardware(smbios={"base64": "1", "manufacturer": "TWU=", "product": "QSxC"})
    assert values(build(encoded), "-smbios") == [
        "type=1,uuid=11111111-2222-3333-4444-555555555555,manufacturer=Me,product=A,,B"
    ]


@pytest.mark.parametrize(
    ("nic", "expected"),
    [
        (NET, "virtio-net-pci,mac=BC:24:11:00:00:01,netdev=net0,id=net0,romfile="),
        (replace(NET, model="e1000"), "e1000,mac=BC:24:11:00:00:01,netdev=net0,id=net0,romfile="),
        (
            replace(NET, options={"mtu": "1400"}),
            "virtio-net-pci,mac=BC:24:11:00:00:01,netdev=net0,id=net0,romfile=,host_mtu=1400",
        ),
    ],
)
def test_a_nic_has_its_mac_and_no_boot_rom(nic: NicSlot, expected: str) -> None:
    words = build(make_hardware(nics=(nic,)))
    assert expected in values(words, "-device")
    assert values(words, "-netdev") == ["tap,id=net0,ifname=tap101i0,script=no,downscript=no,vhost=off"]


def test_a_nic_that_may_boot_has_its_rom() -> None:
    assert argv.nic_options(NET, 102) == "virtio-net-pci,mac=BC:24:11:00:00:01,netdev=net0,id=net0,bootindex=102"


def test_a_nic_without_a_tap_is_not_plugged_in() -> None:
    assert values(build(make_hardware(), taps={}), "-netdev") == []


def test_the_agents_channel_is_there_only_if_the_agent_is_enabled() -> None:
    assert any("org.qemu.guest_agent.0" in word for word in build(make_hardware()))
    assert not any("guest_agent" in word for word in build(make_hardware(agent=False)))


def test_serial_port_display_and_two_monitors_are_sockets_with_short_names() -> None:
    words = build(make_hardware(vga="serial0"))
    sockets = [word for word in values(words, "-chardev") if word.startswith("socket")]
    assert all("path=/" not in word for word in sockets)
    assert values(words, "-mon") == ["chardev=qmp,mode=control", "chardev=qmptoo,mode=control"]
    assert values(words, "-vga") == ["std"]
    assert values(words, "-vnc") == ["unix:vnc.sock"]


def test_a_reboot_ends_the_process() -> None:
    assert "-no-reboot" in build(make_hardware())


def test_saved_memory_is_read_back() -> None:
    assert values(build(make_hardware(), incoming=Path("/s/state")), "-incoming") == ["exec:cat /s/state"]
