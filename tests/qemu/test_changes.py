"""Eight changes to a real guest that runs: the plan's words, what the deploy did, what the guest then sees, and how
long its service was away. The table of them is in docs/measured-changes.md."""

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

import pytest

from tests.measured import Change, check, check_sights, measure, publish

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(1500)]

ONE = """\
let
  given = builtins.fromJSON (let text = builtins.getEnv "GIVEN"; in if text == "" then "{}" else text);
  optional = wanted: value: if wanted then [ value ] else [ ];
  second = given.bridge or "";
in
{
  web = {
    deployment.proxmox = {
      memory = given.memory or 512;
      balloon = given.balloon or null;
      cpu = { cores = given.cores or 1; };
      disks = [ { storage = "local-lvm"; size = given.size or "1G"; } ]
        ++ optional (given ? second) { storage = "local-lvm"; size = "64M"; };
      network = [ { bridge = "vmbr0"; } ] ++ optional (second != "") { bridge = second; };
      install.iso = "local:iso/lab-installer.iso";
    };
    toplevel = import DEMO/system.nix { name = "web"; hosts = { }; service = { port = 80; handler = "echo web"; }; };
  };
}
"""
LOOK = """\
echo "$(cat /proc/sys/kernel/random/boot_id) $(kill -0 "$(cat /run/services/web.pid)" && cat /run/services/web.pid)"
sed -n 's/^MemTotal: *//p' /proc/meminfo
cat /sys/block/sd*/size | sort -n | tail -n 1
ls -d /sys/block/sd* | wc -l
ls /sys/class/net | grep -c -v '^lo$'
"""
SEES = ("memory", "scsi0", "scsi1", "net1", "cores")
PAUSE = 5.0  # seconds between two questions: each costs a guest without KVM some seconds of its processor
SLACK = 120.0  # seconds: without KVM, a busy computer boots a guest in half a minute, or in two
REBOOT = ("--allow-reboot",)
CHANGES = (
    Change("a larger disk", {"size": "1100M"}),
    Change("a second disk", {"second": True}),
    Change("a second NIC", {"bridge": "vmbr0"}),
    Change("the second NIC on another bridge", {"bridge": "vmbr1"}),
    Change("the second NIC taken away", {"bridge": ""}),
    Change("less memory when the node is short of it", {"balloon": 256}),
    Change("more memory", {"memory": 640}, words=REBOOT),
    Change("a second core", {"cores": 2}, words=REBOOT),
)


@pytest.fixture(scope="module")
def bed(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    bed = guest_bed.named("changes", ONE)
    try:
        bed.run("deploy")
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def look(bed: "GuestBed") -> dict[str, str]:
    """What the guest sees: its boot together with the process of its service, so that a service that runs on is known
    without asking it (without KVM, a busy computer lets a guest wait for long). And the processors that it was started
    with: without KVM, it has one of them."""
    vmid = bed.facts("web")["vmid"]
    running = bed.api("GET", f"/nodes/{bed.node(vmid)}/qemu/{vmid}/config?current=1")
    return dict(zip(("boot", *SEES[:-1]), bed.ssh("web", LOOK).splitlines(), strict=True)) | {
        "cores": str(running.get("cores", 1))
    }


def test_each_change_is_what_the_plan_said_and_what_the_guest_sees(bed: "GuestBed") -> None:
    assert len(CHANGES) == 8
    address = bed.facts("web")["endpoint"]["host"]
    rows = measure(bed, "web", CHANGES, address, pause=PAUSE, look=lambda: look(bed))
    check(rows, inf, SLACK)
    check_sights(rows, SEES)
    publish("qemu", rows, inf)
