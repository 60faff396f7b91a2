"""Which disk is ours: by the whole serial and by nothing that merely looks like it."""

import pytest

from nixops_proxmox.errors import WrongDisk
from nixops_proxmox.guest.disks import match_disks
from nixops_proxmox.model import GuestDisk
from nixops_proxmox.spec.serials import derived_serial
from tests.guest.test_disks import GIB, UUID, disk, named, seen

OWN = derived_serial(UUID, "scsi0")


@pytest.mark.parametrize(
    "other",
    [
        seen("/dev/sda", serial="DATA-10"),
        seen("/dev/sda", serial="XDATA-1"),
        seen("/dev/sda", serial="X_DATA-1"),
        seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_X_DATA-1"),
        seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/virtio-X_DATA-1"),
        seen("/dev/sda", serial="data-1"),
        seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/virtio-DATA-10"),
        seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/virtio-DATA-1-part1"),
        seen("/dev/sda", 8 * GIB, "", "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_DATA-10"),
    ],
    ids=lambda one: one.serial or one.by_id[0].rpartition("/")[2],
)
def test_a_disk_whose_serial_only_looks_like_ours_is_not_ours(other: GuestDisk) -> None:
    with pytest.raises(WrongDisk, match="no disk in the guest has the serial DATA-1;"):
        match_disks("web", named(disk("scsi0", serial="DATA-1")), [other])


def test_of_two_serials_that_begin_alike_each_is_its_own() -> None:
    first, second = disk("scsi0", serial="DATA-1"), disk("scsi1", serial="DATA-10")
    found = [seen("/dev/sda", serial="DATA-10"), seen("/dev/sdb", serial="DATA-1")]
    assert [one.device for one in match_disks("web", named(first, second), found)] == ["/dev/sdb", "/dev/sda"]


@pytest.mark.parametrize("serial", ["drive-scsi10", "drive-scsi", "drive-sata0", OWN[:-1], OWN + "0", "BY-HAND"])
def test_a_disk_added_by_hand_that_has_a_serial_never_stands_in_for_one_that_is_missing(serial: str) -> None:
    """It is of the right size, and the only disk there is."""
    with pytest.raises(WrongDisk, match="no disk in the guest has the serial"):
        match_disks("web", named(disk("scsi0")), [seen("/dev/sda", serial=serial)])


def test_a_disk_added_by_hand_beside_ours_changes_nothing() -> None:
    ours, by_hand = seen("/dev/sdb", serial=OWN), seen("/dev/sda", serial="BY-HAND")
    assert match_disks("web", named(disk("scsi0")), [by_hand, ours]) == (ours,)
