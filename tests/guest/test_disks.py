"""Which disk is which, and what must not be written."""

import json
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixops_proxmox.errors import CommandFailed, WrongDisk
from nixops_proxmox.guest.disks import HEADER, check_disks, list_disks, match_disks, parse_disks
from nixops_proxmox.model import Completed, GuestDisk
from nixops_proxmox.spec import Disk
from nixops_proxmox.spec.serials import derived_serial

UUID = "0f0c1a2b-0000-4000-8000-000000000001"
GIB = 1 << 30


def disk(slot: str, size: int = 8 * GIB, serial: str | None = None) -> Disk:
    return Disk(slot=slot, storage="local", size=size, serial=serial)


def named(*disks: Disk) -> list[tuple[Disk, str]]:
    return [(disk, disk.serial or derived_serial(UUID, disk.slot)) for disk in disks]


def seen(
    device: str, size: int = 8 * GIB, serial: str = "", *links: str, signatures: tuple[str, ...] = ()
) -> GuestDisk:
    return GuestDisk(device, size, serial, links, signatures)


def printed(rows: Any, signatures: str = "", links: str = "") -> str:
    lsblk = json.dumps({"blockdevices": rows}, indent=1)
    return f"noise\n{HEADER} lsblk\n{lsblk}\n{HEADER} signatures\n{signatures}{HEADER} links\n{links}{HEADER} end\n"


ROWS = [
    {"name": "loop0", "type": "loop", "size": 5, "serial": None},
    {"name": "sr0", "type": "rom", "size": 1000, "serial": "QM00003", "fstype": "iso9660"},
    {"name": "zram0", "type": "disk", "size": 100, "serial": None},
    {"name": "sdb", "type": "disk", "size": "0", "serial": None},
    {"name": "sda", "type": "disk", "size": str(8 * GIB), "serial": "root-1 ", "pttype": "gpt", "children": [
        {"name": "sda1", "type": "part", "size": 5, "fstype": "vfat"},
        {"name": "sda2", "type": "part", "size": 5, "fstype": None},
    ]},
    {"name": "vda", "type": "disk", "size": GIB, "serial": "data"},
]  # fmt: skip


def test_disks_are_read_with_everything_that_is_on_them() -> None:
    links = "/dev/sda /dev/disk/by-id/scsi-0QEMU_root-1\n/dev/sda1 /dev/disk/by-id/scsi-0QEMU_root-1-part1\n"
    assert parse_disks(printed(ROWS, "sda gpt\nsda PMBR\nvda ext4\n", links)) == (
        GuestDisk(
            "/dev/sda", 8 * GIB, "root-1", ("/dev/disk/by-id/scsi-0QEMU_root-1",), ("gpt", "PMBR", "vfat", "partition")
        ),
        GuestDisk("/dev/vda", GIB, "data", (), ("ext4",)),
    )


@pytest.mark.skipif(shutil.which("lsblk") is None, reason="needs lsblk")
def test_the_script_runs_here_and_is_understood() -> None:
    def run(script: str) -> Completed:
        done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True)
        return Completed(done.returncode, done.stdout, done.stderr)

    assert all(disk.device.startswith("/dev/") for disk in list_disks(run))


def test_a_guest_without_the_tools_is_told_apart_from_one_without_disks() -> None:
    with pytest.raises(CommandFailed, match="could not be listed: lsblk: not found"):
        list_disks(lambda script: Completed(1, "", "lsblk: not found\n"))


@pytest.mark.parametrize(
    "text",
    ["", "rubbish", printed([]).replace(f"{HEADER} end", ""), printed(5), printed([{"name": "sda"}]), printed("x")],
)
def test_a_broken_list_is_our_own_error(text: str) -> None:
    with pytest.raises(CommandFailed, match="cannot be read"):
        parse_disks(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ROW = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON,
        "type": JSON | st.just("disk"),
        "size": JSON,
        "serial": JSON,
        "children": JSON,
        "pttype": JSON,
    },
)


@settings(max_examples=400, deadline=None)
@given(JSON | st.lists(ROW | JSON, max_size=4), st.text(max_size=40), st.text(max_size=40))
def test_any_list_is_disks_or_our_own_error(rows: Any, signatures: str, links: str) -> None:
    try:
        found = parse_disks(printed(rows, signatures + "\n", links + "\n"))
    except CommandFailed:
        return
    assert all(isinstance(entry, GuestDisk) for entry in found)


def test_disks_are_told_apart_by_serial_whatever_their_names() -> None:
    first, second = disk("scsi0"), disk("scsi1", serial="data")
    found = [seen("/dev/sda", serial="data"), seen("/dev/sdb", serial=derived_serial(UUID, "scsi0"))]
    assert [entry.device for entry in match_disks("web", named(first, second), found)] == ["/dev/sdb", "/dev/sda"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (disk("virtio0", serial="v1"), seen("/dev/vda", 8 * GIB, "", "/dev/disk/by-id/virtio-v1")),
        (disk("scsi0", serial="s1"), seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_s1")),
        (disk("sata0", serial="s1"), seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/ata-QEMU_HARDDISK_s1")),
        (disk("virtio0", serial="v1"), seen("/dev/vda", 8 * GIB + 4096, "v1")),
    ],
)
def test_the_ways_in_which_a_guest_names_a_disk(wanted: Disk, found: GuestDisk) -> None:
    other = seen("/dev/sdz", 3 * GIB, "other")
    assert match_disks("web", named(wanted), [other, found]) == (found,)


@pytest.mark.parametrize(
    ("wanted", "found", "words"),
    [
        ([disk("scsi0", serial="s1")], [seen("/dev/sda", serial="s2")], "no disk in the guest has the serial s1"),
        ([disk("scsi0")], [seen("/dev/sda", serial="s2")], "no disk in the guest has the serial"),
        ([disk("scsi0")], [seen("/dev/sda")], "no disk in the guest has the serial"),
        ([disk("scsi0")], [seen("/dev/sda", serial="drive-scsi0")], "no disk in the guest has the serial"),
        ([disk("scsi0", serial="s1")], [seen("/dev/sda", serial="s10")], "no disk in the guest has the serial s1"),
        ([disk("scsi0", serial="s10")], [seen("/dev/sda", serial="s1")], "no disk in the guest has the serial s10"),
        (
            [disk("scsi0", serial="s1")],
            [seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_my_s1")],
            "no disk in the guest has the serial s1",
        ),
        (
            [disk("scsi0", serial="s1")],
            [seen("/dev/sda", 8 * GIB, "other", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_s1")],
            "no disk in the guest has the serial s1",
        ),
        ([disk("scsi0")], [], "no disks at all"),
        ([disk("scsi0", serial="s")], [seen("/dev/sda", 4 * GIB, "s")], "not the declared"),
        ([disk("scsi0", serial="s")], [seen("/dev/sda", 9 * GIB, "s")], "not the declared"),
        (
            [disk("scsi0", serial="s")],
            [seen("/dev/sda", 8 * GIB, "s"), seen("/dev/sdb", 8 * GIB, "s")],
            "several disks",
        ),
        ([disk("scsi0", serial="s"), disk("scsi1", serial="s")], [seen("/dev/sda", 8 * GIB, "s")], "are the same"),
    ],
)
def test_a_wrong_disk_is_refused_with_the_reason(wanted: list[Disk], found: list[GuestDisk], words: str) -> None:
    with pytest.raises(WrongDisk, match=words):
        match_disks("web", named(*wanted), found)


@pytest.mark.parametrize("told", [None, "drive-scsi0", "data"])
def test_what_a_disk_says_itself_is_its_serial_whatever_udev_knows(told: str | None) -> None:
    text = printed([{"name": "sda", "type": "disk", "size": GIB, "serial": told}])
    said = f"{HEADER} serials\nsda data\nsdb \nnonsense\n{HEADER} end"
    (one,) = parse_disks(text.replace(f"{HEADER} end", said))
    assert one.serial == "data"


@pytest.mark.parametrize("serial", ["data", ""])
def test_a_serial_counts_where_udev_has_pves_name_of_the_drive(serial: str) -> None:
    """PVE 9 tells udev its own name of a drive, also of one with a serial."""
    wanted = disk("scsi0", serial=serial) if serial else disk("scsi0")
    told = serial or derived_serial(UUID, "scsi0")
    drives = [seen(f"/dev/sd{x}", 8 * GIB, s, f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_drive-scsi{n}")
              for x, n, s in (("a", 0, "other"), ("b", 1, told))]  # fmt: skip
    assert match_disks("web", named(wanted), drives) == (drives[1],)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (disk("scsi0"), seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_drive-scsi0")),
        (disk("scsi0"), seen("/dev/sda", serial="drive-scsi0")),
        (disk("virtio0"), seen("/dev/vda", 8 * GIB + 4096)),
    ],
)
def test_a_disk_that_the_original_made_has_other_names(wanted: Disk, found: GuestDisk) -> None:
    other = seen("/dev/sdz", 3 * GIB, "other")
    assert match_disks("web", named(wanted), [other, found], nameless=True) == (found,)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([disk("virtio0"), disk("virtio1")], [seen("/dev/vda"), seen("/dev/vdb")]),
        ([disk("virtio0")], [seen("/dev/vda"), seen("/dev/vdb")]),
        ([disk("scsi0")], [seen("/dev/sda", serial="s2")]),
    ],
)
def test_disks_without_serials_that_could_be_each_other_are_refused(wanted: list[Disk], found: list[GuestDisk]) -> None:
    with pytest.raises(WrongDisk, match="cannot be told apart"):
        match_disks("web", named(*wanted), found, nameless=True)


def test_data_that_nobody_accounts_for_is_never_written_over() -> None:
    wanted, full = named(disk("scsi0", serial="s")), seen("/dev/sda", 8 * GIB, "s", signatures=("gpt", "ext4"))
    with pytest.raises(WrongDisk, match="holds gpt, ext4") as caught:
        check_disks("web", wanted, [full], accounted=())
    assert "wipefs" in caught.value.hint
    assert check_disks("web", wanted, [full], accounted={"scsi0"}) == (full,)
    with pytest.raises(WrongDisk, match="holds ext4"):
        check_disks("web", wanted, [replace(full, signatures=("ext4",))], accounted=())
    blank = replace(full, signatures=())
    assert check_disks("web", wanted, [blank], accounted=()) == (blank,)


def test_a_disk_that_was_moved_is_known_by_what_we_put_on_it() -> None:
    table = "0fc63daf-8483-4772-8e79-3d69d8477de4"
    wanted, moved = named(disk("scsi0", serial="s")), seen("/dev/sda", 8 * GIB, "s", signatures=("gpt",))
    ours = replace(moved, content=table)
    assert check_disks("web", wanted, [ours], accounted=(), contents={"scsi0": table}) == (ours,)
    for other, contents in (
        (replace(moved, content=table[:-1] + "5"), {"scsi0": table}),
        (ours, {"scsi1": table}),
        (ours, {}),
        (moved, {"scsi0": ""}),
        (moved, {}),
    ):
        with pytest.raises(WrongDisk, match="not blank") as caught:
            check_disks("web", wanted, [other], accounted=(), contents=contents)
        assert "put the machine's own disk back" in caught.value.hint and "wipefs -a /dev/sda" in caught.value.hint


@pytest.mark.parametrize(
    ("row", "content"),
    [
        ({"ptuuid": "0FC63DAF-8483", "uuid": "x"}, "0fc63daf-8483"),
        ({"ptuuid": None, "uuid": "0fc63daf"}, "0fc63daf"),
        ({"ptuuid": "1"}, ""),
        ({"ptuuid": "'; rm -rf / #"}, ""),
        ({}, ""),
    ],
)
def test_what_tells_a_disk_is_a_number_that_was_drawn(row: dict[str, Any], content: str) -> None:
    (one,) = parse_disks(printed([{"name": "sda", "type": "disk", "size": GIB, **row}]))
    assert one.content == content


@pytest.mark.parametrize(
    "found",
    [
        seen("/dev/sda", serial="x_drive-scsi0"),
        seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_x_drive-scsi0"),
        seen("/dev/sda", 8 * GIB, "DATA", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_x_drive-scsi0"),
        seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_drive-scsi00"),
    ],
)
def test_a_serial_that_ends_as_a_drive_is_called_is_none(found: GuestDisk) -> None:
    """A rival of the same size beside it: nothing else could tell the two."""
    beside = [seen("/dev/sdb"), seen("/dev/sdc")]
    with pytest.raises(WrongDisk, match="cannot be told apart"):
        match_disks("web", named(disk("scsi0")), [found, *beside], nameless=True)


def test_an_undeclared_disk_beside_is_nobodys_business() -> None:
    found = [seen("/dev/sda", serial="s"), seen("/dev/sdb", serial="alien", signatures=("xfs",))]
    assert len(check_disks("web", named(disk("scsi0", serial="s")), found, accounted=())) == 1


@pytest.mark.parametrize(
    "size", ["Infinity", "-Infinity", "NaN", "1e999", "-1", "1e30", "[]", "{}", '"x"', "null", "9" * 5000]
)
def test_a_size_that_no_disk_has_is_refused(size: str) -> None:
    text = f'{HEADER} lsblk\n{{"blockdevices": [{{"name": "sda", "size": {size}, "type": "disk"}}]}}\n'
    text += f"{HEADER} signatures\n{HEADER} links\n{HEADER} end\n"
    with pytest.raises(CommandFailed, match="cannot be read"):
        parse_disks(text)
