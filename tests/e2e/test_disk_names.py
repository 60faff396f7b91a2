"""On PVE 9, a SCSI disk tells udev its slot and not its serial: the names that Nix knows are there all the same."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nixops_proxmox.spec.serials import derived_serial, disk_path, serials_of
from tests.nixes import find_obstacle

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
{
  web.deployment.proxmox = {
    disks = [ { storage = "local-lvm"; size = "1G"; } { storage = "local-lvm"; size = "1G"; } ];
    install = { iso = "local:iso/lab-installer.iso"; method = "configuration"; partition = PARTITION; };
    memory = 256;
    network = [ { bridge = "vmbr0"; } ];
  };
}
"""
ROOT, DATA = (disk_path(slot, derived_serial(serials_of("named", "web"), slot)) for slot in ("scsi0", "scsi1"))
WELL = f"set -e; ls /dev/disk/by-id; mkfs.ext4 -q {ROOT}; mkfs.ext4 -q -L data {DATA}; mount {ROOT} /mnt"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator["Bed"]:
    from tests.e2e.bed import start_bed

    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    with start_bed(tmp_path / "user", tmp_path / "named" / "network.nix", "--simulated", "--pve", "9.1") as bed:
        yield replace(bed, home=tmp_path / "user")


def test_an_installer_lays_out_the_disks_by_the_names_that_nix_knew_before(lab: "Bed") -> None:
    bed = lab.with_network("named", NETWORK.replace("PARTITION", f"''{WELL}''"))
    bed.run("deploy")
    seen = bed.ssh("web", "lsblk -d -n -o NAME,SERIAL,FSTYPE; ls /dev/disk/by-id")
    assert "drive-scsi0" in seen and derived_serial(serials_of("named", "web"), "scsi1") in seen
