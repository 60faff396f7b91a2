"""Changes to a real guest that runs: what it sees of each, and when, is what the plan said."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(1500)]

ONE = """\
let
  given = builtins.fromJSON (let text = builtins.getEnv "GIVEN"; in if text == "" then "{}" else text);
  optional = wanted: value: if wanted then [ value ] else [ ];
in
{
  web = {
    deployment.proxmox = {
      memory = given.memory or 512;
      cpu = { cores = given.cores or 1; };
      disks = [ { storage = "local-lvm"; size = given.size or "1G"; } ]
        ++ optional (given.second or false) { storage = "local-lvm"; size = "64M"; };
      network = [ { bridge = "vmbr0"; } ] ++ optional (given.nic or false) { bridge = "vmbr0"; };
      install.iso = "local:iso/lab-installer.iso";
    };
    toplevel = import DEMO/system.nix { name = "web"; hosts = { }; service = { port = 80; handler = "echo web"; }; };
  };
}
"""
LOOK = """\
cat /proc/sys/kernel/random/boot_id
sed -n 's/^MemTotal: *//p' /proc/meminfo
cat /sys/block/sd*/size | sort -n | tail -n 1
ls -d /sys/block/sd* | wc -l
ls /sys/class/net | grep -c -v '^lo$'
"""
MIB = 1 << 20
LIVE, RESTART = "live", "at the next restart"
SEES = ("boot", "memory", "scsi0", "scsi1", "net1")  # what LOOK prints, by PVE's key
WANTED = {"memory": 640, "cores": 2, "size": "1100M", "second": True, "nic": True}
TAKEN_BACK = WANTED | {"second": False}  # a NIC leaves when the guest lets go of it, which a busy host makes late


@pytest.fixture(scope="module")
def bed(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    bed = guest_bed.named("changes", ONE)
    try:
        bed.run("deploy")
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def look(bed: "GuestBed") -> dict[str, str]:
    """What the guest sees; and the processors that it was started with: without KVM, it has one of them."""
    vmid = bed.facts("web")["vmid"]
    running = bed.api("GET", f"/nodes/{bed.node(vmid)}/qemu/{vmid}/config?current=1")
    return dict(zip(SEES, bed.ssh("web", LOOK).splitlines(), strict=True)) | {"cores": str(running.get("cores", 1))}


def run(bed: "GuestBed", given: dict[str, Any], *words: str) -> str:
    return bed.run(*words, GIVEN=json.dumps(given)).stdout


def plan(bed: "GuestBed", given: dict[str, Any], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(bed, given, "plan", "--json", *words))["machines"][0]
    return found


def said(found: dict[str, Any]) -> dict[str, str]:
    return {one["key"]: one["when"] for one in found["changes"]}


def test_what_is_changed_takes_effect_when_the_plan_says(bed: "GuestBed") -> None:
    before, promised = look(bed), plan(bed, WANTED)
    assert said(promised) == {"memory": RESTART, "cores": RESTART, "scsi0": LIVE, "scsi1": LIVE, "net1": LIVE}
    assert promised["restart"] == []
    run(bed, WANTED, "deploy")
    now = look(bed)
    seen = {key for key in before if now[key] != before[key]}
    assert seen == {key for key, when in said(promised).items() if when == LIVE}, f"{before}, then {now}"
    assert int(now["scsi0"]) * 512 == 1100 * MIB

    assert sorted(plan(bed, WANTED, "--allow-reboot")["restart"]) == ["cores", "memory"]
    run(bed, WANTED, "deploy", "--allow-reboot")
    last = look(bed)
    assert {key for key in now if last[key] != now[key]} == {"boot", "cores", "memory"}, f"{now}, then {last}"
    assert last["cores"] == "2"

    promised = plan(bed, TAKEN_BACK)
    assert said(promised) == {"scsi1": LIVE} and promised["restart"] == []
    run(bed, TAKEN_BACK, "deploy")
    assert look(bed) == last | {"scsi1": before["scsi1"]}
