"""A disk that is made larger is taken into use by the guest that runs it, and the plan says so until it is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_kill import kill_at
from tests.e2e.test_systems import wait_for_tasks

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
# scsi1 has another partition behind the one with the file system; scsi2 is kept, so only PVE grows it.
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
in
{
  web = {
    deployment.proxmox = {
      disks = [
        { storage = "local-lvm"; size = from "ROOT" "1G"; }
        { storage = "local-lvm"; size = from "DATA" "1G"; }
        { storage = "local-lvm"; size = from "KEPT" "1G"; keep = true; }
      ];
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      install.iso = "local:iso/lab-installer.iso";
      install.partition = ''
        set -e
        part() { echo "$(readlink -f "$1")$2"; }
        sgdisk --zap-all "$DISK_0"; sgdisk -n 1:0:+2M -t 1:ef02 -n 2:0:0 -A 2:set:2 "$DISK_0"
        mkfs.ext4 -q -F "$(part "$DISK_0" 2)"
        sgdisk --zap-all "$DISK_1"; sgdisk -n 1:0:+800M -n 2:0:0 "$DISK_1"
        mkfs.ext4 -q -F "$(part "$DISK_1" 1)"
        mkswap "$(part "$DISK_1" 2)"
        mkdir -p /mnt && mount "$(part "$DISK_0" 2)" /mnt
      '';
    };
    toplevel = import DEMO/system.nix {
      name = "web";
      hosts = { };
      service = { port = 80; handler = "echo web"; };
    };
  };
}
"""
LARGER = {"ROOT": "2G", "DATA": "2G", "KEPT": "2G"}
SIZE = "findmnt -b -n -o SIZE -M /"
BOOT = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture
def web(bed: "Bed", tmp_path: Path) -> "Bed":
    from tests.e2e.bed import DEMO

    network = tmp_path / "shop" / "network.nix"
    network.parent.mkdir()
    network.write_text(NETWORK.replace("DEMO", str(DEMO)))
    return replace(bed, network=network)


def grows(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if "GiB →" in line]


def test_a_larger_disk_is_grown_in_the_guest_that_runs(web: "Bed") -> None:
    web.run("deploy")
    boot, before = web.ssh("web", BOOT), int(web.ssh("web", SIZE))
    plan = web.run("plan", check=True, **LARGER).stdout
    assert "~ scsi0: 1G → 2G  [live]" in plan
    behind = "partition 2 (swap) lies behind partition 1 (ext4), which therefore cannot grow: delete or move partition"
    root, data, kept = grows(plan)
    assert root == "~ scsi0: 1 GiB → 2 GiB; in the guest, partition 2 and ext4 / then grow, live"
    assert data.startswith(f"~ scsi1: 1 GiB → 2 GiB, not in the guest: {behind}")
    assert kept == "~ scsi2: 1 GiB → 2 GiB; the guest is left alone (`keep`; `grow = true` grows it, too)"
    done = web.run("deploy", check=True, **LARGER)
    assert "scsi1 is not grown in the guest: partition 2 (swap) lies behind" in done.stderr
    assert before < 1 << 30 < 2 * (before - (16 << 20)) < int(web.ssh("web", SIZE)) < 2 << 30
    assert web.ssh("web", BOOT) == boot, "nothing was restarted for it"
    again = web.run("plan", "--check", check=False, **LARGER)
    assert again.returncode == 10, "one disk is not as described yet"
    assert [line.partition(",")[0] for line in grows(again.stdout)] == ["~ scsi1: 1 GiB → 2 GiB"]
    (machine,) = json.loads(web.run("plan", "--json", check=False, **LARGER).stdout)["machines"]
    assert machine["effect"] == "change" and machine["changes"] == [] and len(machine["disks in the guest"]) == 1


def test_what_was_made_larger_by_hand_is_grown_when_the_description_says_so(web: "Bed") -> None:
    web.run("deploy")
    ((vmid, vm),) = web.vms().items()
    web.api("PUT", f"/nodes/{vm['node']}/qemu/{vmid}/resize", disk="scsi0", size="2G")
    wait_for_tasks(web)
    web.run("deploy", ROOT="2G")
    assert int(web.ssh("web", SIZE)) > 1.9 * (1 << 30)
    assert web.run("plan", "--check", ROOT="2G").returncode == 0


@pytest.mark.parametrize(
    "action",
    [
        pytest.param("hang", id="before PVE acts", marks=pytest.mark.weekly),
        pytest.param("slow", id="after PVE acted"),
    ],
)
def test_a_deploy_that_was_killed_between_the_two_halves_is_finished_by_the_next(web: "Bed", action: str) -> None:
    web.run("deploy")
    web.network.write_text(web.network.read_text().replace('"ROOT" "1G"', '"ROOT" "2G"'))
    assert kill_at(web, 1, action, "PUT"), "nothing was resized"
    wait_for_tasks(web)
    (line,) = grows(web.run("plan").stdout)
    assert line == "~ scsi0: 1 GiB → 2 GiB; in the guest, partition 2 and ext4 / then grow, live"
    web.run("deploy")
    assert int(web.ssh("web", SIZE)) > 1.9 * (1 << 30)
    assert web.run("plan", "--check").returncode == 0
