"""A guest gets the address that we reserved from a DHCP server that nobody here wrote, from its first boot on."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.routers.real import serving
from tests.routers.test_servers import find_obstacle

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(900)]

NETWORK = """\
{
  web = {
    deployment.proxmox = {
      memory = 512;
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      network = [ { bridge = "vmbr5"; ipv4 = { method = "dhcp"; address = "10.77.5.23"; }; } ];
    };
    toplevel = import DEMO/system.nix {
      name = "web";
      hosts = { };
      service = { port = 80; handler = "echo web"; };
    };
  };
  resources.reservations.lan = { };
}
"""
GIVEN = {"dnsmasq": r"DHCPACK\(vmbr5\) (\S+) {mac}", "kea": r"DHCP4_LEASE_ALLOC .*{mac}.* lease (\S+) has been"}


@pytest.mark.parametrize("kind", ["dnsmasq", "kea"])
def test_a_guest_gets_its_reserved_address_from_a_real_server(guest_bed: "GuestBed", kind: str, tmp_path: Path) -> None:
    if obstacle := find_obstacle(kind):
        pytest.skip(f"a real {kind} is not asked: {obstacle}")
    bed = guest_bed.named(f"lan-{kind}", NETWORK)
    with serving(bed, kind, tmp_path):
        try:
            assert "reserve 10.77.5.23 for net0, whose MAC follows from its UUID" in bed.run("plan").stdout
            bed.run("deploy")
            facts = bed.facts("web")
            assert facts["endpoint"]["host"] == "10.77.5.23"
            seen = bed.ssh("web", "ip -4 -o address show scope global").split()
            assert "10.77.5.23/24" in seen
            (mac,) = facts["macs"]
            given = re.findall(GIVEN[kind].format(mac=mac), (tmp_path / "log").read_text())
            assert len(given) >= 2 and set(given) == {"10.77.5.23"}, "the installer, and the system; no other lease"
            assert "2 reservations, 1 of them ours" in bed.run("doctor").stdout
        finally:
            bed.run("destroy", "--yes", check=False)
        assert "1 reservations, 0 of them ours" in bed.run("doctor").stdout
