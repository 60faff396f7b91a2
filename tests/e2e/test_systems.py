"""Two machines through their whole life by the command line: what fails, what is kept, what comes back."""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixes import find_obstacle
from tests.pace import wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
# `web` has a second disk that a reinstall must keep, and its first partitioning wants a reboot; `bad` fails if told to.
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  machine = name: more: {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      memory = builtins.fromJSON (from "MEMORY" "512");
      network = [ { bridge = "vmbr0"; } ];
      protection = from "PROTECT" "" != "";
    } // more // {
      install = { iso = "local:iso/lab-installer.iso"; generation = builtins.fromJSON (from "GENERATION" "0"); }
        // (more.install or { });
    };
    toplevel = import DEMO/system.nix {
      inherit name;
      hosts = { };
      service = { port = 80; handler = "echo version ${from "VERSION" "1"}"; };
    };
  };
in
{
  web = machine "web" {
    disks = [
      { storage = "local-lvm"; size = "1G"; }
      { storage = "local-lvm"; size = from "DATA" "2G"; keep = true; }
    ];
    install.partition = ''
      set -e
      [ "$PASS" = 2 ] || [ -n "$REINSTALL" ] || exit 100
      echo "pass $PASS, keep $KEEP"
      part() { echo "$(readlink -f "$1")$2"; }
      sgdisk --zap-all "$DISK_0"; sgdisk -n 1:0:+2M -t 1:ef02 -n 2:0:0 -A 2:set:2 "$DISK_0"
      mkfs.ext4 -q -F "$(part "$DISK_0" 2)"
      mkdir -p /mnt && mount "$(part "$DISK_0" 2)" /mnt
      if [ -z "$REINSTALL" ]; then
        sgdisk --zap-all "$DISK_1"; sgdisk -n 1:0:0 "$DISK_1"
        mkfs.ext4 -q -F "$(part "$DISK_1" 1)"
      fi
    '';
  };
  bad = machine "bad" {
    install.partition = ''
      set -e
      ${if from "FAIL" "" == "" then "" else "echo 'no such disk layout'; exit 3"}
      sgdisk --zap-all "$DISK_0"; sgdisk -n 1:0:+2M -t 1:ef02 -n 2:0:0 -A 2:set:2 "$DISK_0"
      disk=$(readlink -f "$DISK_0")
      mkfs.ext4 -q -F "''${disk}2"
      mkdir -p /mnt && mount "''${disk}2" /mnt
    '';
  };
}
"""
MOUNT = "mkdir -p /data; grep -qs ' /data ' /proc/self/mounts || mount {} /data"


@dataclass
class Story:
    """What happened, by the name of the chapter."""

    bed: "Bed"
    said: dict[str, "CompletedProcess[str]"]
    seen: dict[str, Any]

    def tell(self, chapter: str, *arguments: str, check: bool = True, **environment: str) -> None:
        self.said[chapter] = self.bed.run(*arguments, check=check, **environment)
        self.seen[chapter] = {machine["machine"]: machine for machine in self.bed.status()}

    def ask(self, chapter: str, machine: str, script: str) -> None:
        self.seen[chapter] = self.bed.ssh(machine, script).strip()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    from tests.e2e.bed import DEMO, start_bed

    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    home = tmp_path_factory.mktemp("story")
    network = home / "network.nix"
    network.write_text(NETWORK.replace("DEMO", str(DEMO)))
    with start_bed(home / "user", network) as bed:
        story = Story(bed, {}, {})
        live(story)
        yield story


def live(story: Story) -> None:
    """The whole life, once."""
    bed = story.bed
    story.tell("one fails", "deploy", check=False, FAIL="1")
    story.tell("both", "deploy")
    data = data_partition(bed)
    story.ask("system at first", "web", "readlink -f /run/current-system")
    story.ask("boot", "web", "cat /proc/sys/kernel/random/boot_id")
    story.ask("written", "web", f"{MOUNT.format(data)}; head -c 100000 /dev/urandom > /data/kept; sync; {CHECKSUM}")
    bed.forget_calls()
    story.tell("changed", "deploy", VERSION="2")
    story.seen["calls of the change"] = [call for call in bed.calls() if call["method"] != "GET"]
    story.ask("boot after the change", "web", "cat /proc/sys/kernel/random/boot_id")
    story.ask("system 2", "web", "readlink -f /run/current-system")
    story.tell("back", "deploy")
    story.ask("system 1", "web", "readlink -f /run/current-system")
    story.tell("stopped", "stop", "bad")
    story.tell("started", "start", "bad")
    story.tell("rescue", "rescue", "web")
    story.ask("in rescue", "web", "ls -d /etc/nixops-proxmox-installer")
    story.tell("rescued", "start", "web")
    story.tell("rebooted", "reboot", "web")
    story.ask("boot after the reboot", "web", "cat /proc/sys/kernel/random/boot_id")
    story.tell("protected", "deploy", "bad", PROTECT="1")
    story.tell("refused", "destroy", "--yes", "bad", check=False)
    story.tell("wrong size", "deploy", "web", check=False, DATA="1G")
    story.tell("generation", "deploy", "web", GENERATION="1")
    story.ask("kept", "web", f"{MOUNT.format(data_partition(bed))}; {CHECKSUM}")
    story.tell("reinstalled", "reinstall", "--yes", "web", GENERATION="1")
    story.ask("kept again", "web", f"{MOUNT.format(data_partition(bed))}; {CHECKSUM}")
    vmid = story.seen["both"]["web"]["vmid"]
    story.seen["vm before"] = bed.vms()[str(vmid)]
    bed.api("POST", f"/nodes/{story.seen['vm before']['node']}/qemu/{vmid}/status/stop")
    wait_for_tasks(bed)
    story.tell("found off", "deploy", "web", GENERATION="1")
    unmark(bed, vmid)
    story.tell("unmarked", "destroy", "--yes", "web", check=False)
    story.seen["vms at the end"] = dict(bed.vms())


CHECKSUM = "sha256sum /data/kept | cut -d' ' -f1"


def data_partition(bed: "Bed") -> str:
    """The second disk's first partition, in the guest."""
    disks = bed.ssh("web", "lsblk -b -d -n -o NAME,SIZE,TYPE").splitlines()
    (name,) = [row.split()[0] for row in disks if row.split()[1:] == [str(2 << 30), "disk"]]
    return f"/dev/{name}1"


def wait_for_tasks(bed: "Bed") -> None:
    wait_until(lambda: all(task["status"] != "running" for task in bed.control("GET", "state")["tasks"]))


def unmark(bed: "Bed", vmid: int) -> None:
    """Somebody gives the VM another identity: it is not ours any more."""
    node = bed.vms()[str(vmid)]["node"]
    other = "uuid=00000000-1111-2222-3333-444444444444"
    bed.api("PUT", f"/nodes/{node}/qemu/{vmid}/config", smbios1=other, description="")


def test_one_failing_machine_does_not_stop_the_other(story: Story) -> None:
    seen = story.seen["one fails"]
    assert (seen["web"]["phase"], seen["bad"]["phase"]) == ("ready", "reachable")


def test_the_summary_says_which_machine_failed_where_why_and_what_to_do(story: Story) -> None:
    done = story.said["one fails"]
    said = done.stdout + done.stderr
    assert done.returncode == 5
    for wanted in ("bad", "reachable", "no such disk layout", "exit status 3", "install.partition", "the same command"):
        assert wanted in said, said
    assert "Traceback" not in said


def test_the_same_command_again_goes_on_where_it_failed(story: Story) -> None:
    assert {machine["phase"] for machine in story.seen["both"].values()} == {"ready"}
    assert len({task["id"] for task in story.bed.tasks("qmcreate")}) == 2
    assert len(story.bed.tasks("qmcreate")) == 2


def test_a_partition_script_may_ask_for_a_reboot_of_the_installer(story: Story) -> None:
    assert "asked to reboot the installer" in story.said["one fails"].stderr
    history = story.bed.run("history", "web").stdout
    assert "Partition the disks" in history


def test_a_changed_system_is_only_activated(story: Story) -> None:
    written = [call for call in story.seen["calls of the change"] if "/agent/" not in call["path"]]
    assert written == []
    assert story.seen["boot"] == story.seen["boot after the change"]
    assert story.seen["system 1"] != story.seen["system 2"]


def test_an_older_description_brings_the_older_system_back(story: Story) -> None:
    assert story.seen["back"]["web"]["phase"] == "ready"
    assert story.seen["system 1"] == story.seen["system at first"]
    assert story.seen["system 1"] != story.seen["system 2"]


def test_a_machine_stops_and_starts(story: Story) -> None:
    assert story.seen["stopped"]["bad"]["phase"] == "stopped"
    assert story.seen["started"]["bad"]["phase"] == "ready"


def test_rescue_boots_the_installer_beside_the_system_and_back(story: Story) -> None:
    assert story.seen["rescue"]["web"]["phase"] == "rescue"
    assert story.seen["in rescue"] == "/etc/nixops-proxmox-installer"
    assert story.seen["rescued"]["web"]["phase"] == "ready"


def test_a_reboot_is_another_boot(story: Story) -> None:
    assert story.seen["boot after the reboot"] != story.seen["boot"]


def test_a_protected_machine_is_not_destroyed(story: Story) -> None:
    done = story.said["refused"]
    assert done.returncode == 3
    assert "protect" in done.stderr
    assert story.seen["refused"]["bad"]["phase"] == "ready"


def test_a_disk_never_shrinks(story: Story) -> None:
    done = story.said["wrong size"]
    assert done.returncode == 3
    assert "scsi1" in done.stderr


def test_a_raised_generation_installs_anew_and_keeps_identity_and_data(story: Story) -> None:
    before, after = story.seen["back"]["web"], story.seen["generation"]["web"]
    assert after["phase"] == "ready"
    assert (before["vmid"], before["uuid"]) == (after["vmid"], after["uuid"])
    assert story.seen["kept"] == story.seen["written"]
    assert len(story.seen["written"]) == 64


def test_reinstall_by_word_keeps_the_data_too(story: Story) -> None:
    assert story.seen["reinstalled"]["web"]["phase"] == "ready"
    assert story.seen["kept again"] == story.seen["written"]


def test_a_machine_that_was_switched_off_is_started_again(story: Story) -> None:
    assert story.seen["found off"]["web"]["phase"] == "ready"


def test_a_vm_without_our_mark_is_left_alone(story: Story) -> None:
    done = story.said["unmarked"]
    assert str(story.seen["both"]["web"]["vmid"]) in story.seen["vms at the end"]
    assert "somebody else's" in done.stderr


def test_no_more_is_left_of_keys_than_ours(story: Story) -> None:
    """Private keys are for their owner alone."""
    for path in (story.bed.home / "state").rglob("*"):
        if path.is_file() and "PRIVATE KEY" in path.read_text(errors="replace"):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, path


def test_status_is_told_as_json(story: Story) -> None:
    told = json.loads(story.bed.run("status", "--json").stdout)
    assert {machine["machine"] for machine in told["machines"]} >= {"bad"}
    assert Path(story.bed.network).exists()
