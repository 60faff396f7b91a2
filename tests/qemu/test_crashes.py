"""Crashes in the middle of an installation on real guests: a second `deploy` finishes it, and installs nothing twice.

Two of them at a time, for a machine's two cores; each has a deployment and a machine of its own.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.slow, pytest.mark.timeout(900)]

AT_ONCE = 2
LINK_DOWN_SECONDS = 20.0  # long enough for TCP to back off for seconds, and short of the client's own 60 s
COUNT = "cd /var/log && cat nixos-install.log | wc -l && cat partitioned | wc -l"
BLOB = 25_000_000  # bytes
NETWORK = """\
# Partitioning takes its time and counts itself; the closure has a file that takes a moment to copy.
{
  one = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      install.iso = "local:iso/lab-installer.iso";
      install.partition = ''
        set -e
        echo partitioning >> /run/partitioned
        echo "begun to partition"
        sleep 3
        wipefs -a "$DISK_0"
        sgdisk --zap-all "$DISK_0"
        sgdisk -n 1:0:+2M -t 1:ef02 -n 2:0:0 -A 2:set:2 "$DISK_0"
        root=$(readlink -f "$DISK_0")2
        mkfs.ext4 -q -F "$root"
        mkdir -p /mnt
        mount "$root" /mnt
        mkdir -p /mnt/var/log
        cp /run/partitioned /mnt/var/log/partitioned
      '';
    };
    toplevel = import DEMO/system.nix {
      name = "one";
      hosts = { };
      service = { port = 80; handler = "wc -c < ${./blob}"; };
    };
  };
}
"""


@dataclass(frozen=True)
class Ended:
    """How a story ended. `installed`, `partitioned`: how often the jobs ran, as the guest itself tells."""

    phase: str
    vmid: int
    installed: int
    partitioned: int
    creations: int
    history: list[dict[str, Any]]
    first_run: str

    def moves(self, to: str) -> list[str]:
        """How the attempts to get to a phase ended."""
        return [entry["outcome"] for entry in self.history if entry["to"] == to]


def kill_when(pattern: str, after: float = 0.0) -> Callable[["GuestBed"], None]:
    """`kill -9` of a deploy when it says that line."""

    def crash(bed: "GuestBed") -> None:
        from tests.qemu.bed import kill

        process = bed.start("deploy", "-v")
        bed.wait_until_said(pattern, process)
        time.sleep(after)
        kill(process)

    return crash


def kill_in_the_reboot(bed: "GuestBed") -> None:
    """`kill -9` while the installer is switched off and the system on: half a second, so the record is asked."""
    from tests.qemu.bed import kill

    process = bed.start("deploy", "-v")
    bed.wait_until_said("installation finished!", process)
    bed.wait_until_begun("running", process)
    time.sleep(0.15)
    kill(process)


INSTALLING = "installing the (base system|boot loader)"  # a busy computer may not see the first


def kill_guest(bed: "GuestBed") -> None:
    """QEMU dies in the middle of the install; the tool notices by itself."""
    process = bed.start("deploy", "-v")
    bed.wait_until_said(INSTALLING, process)
    os.kill(bed.qemu_pid(bed.machine("one")["vmid"]), signal.SIGKILL)
    bed.wait_for_end(process)


def cut_the_network(bed: "GuestBed") -> None:
    """The guest's cable is pulled in the middle of the install, and put back."""
    process = bed.start("deploy", "-v")
    bed.wait_until_said(INSTALLING, process)
    vmid = bed.machine("one")["vmid"]
    nic = bed.config(vmid)["net0"]
    bed.set_config(vmid, net0=f"{nic},link_down=1")
    time.sleep(LINK_DOWN_SECONDS)
    bed.set_config(vmid, net0=nic)
    assert bed.wait_for_end(process) == 0, bed.log.read_text(errors="replace")


CRASHES: dict[str, Callable[["GuestBed"], None]] = {
    "partition": kill_when("begun to partition"),
    "copy": kill_when("copying /nix/store/", after=1.5),
    "install": kill_when(INSTALLING),
    "reboot": kill_in_the_reboot,
    "guest-lost": kill_guest,
    "link-down": cut_the_network,
}


def play(bed: "GuestBed", name: str) -> Ended:
    """The crash, a second deploy, and what is found then."""
    story = bed.named(f"crash-{name}", NETWORK)
    (story.network.parent / "blob").write_bytes(bytes(BLOB))
    try:
        CRASHES[name](story)
        story.run("deploy")
        machine = story.machine("one")
        installed, partitioned = story.ssh(
            "one", "cat /var/log/nixos-install.log | wc -l; cat /var/log/partitioned | wc -l"
        ).split()
        creations = [task for task in story.tasks("qmcreate") if task["id"] == str(machine["vmid"])]
        return Ended(
            machine["phase"],
            machine["vmid"],
            int(installed),
            int(partitioned),
            len(creations),
            story.history(),
            story.log.read_text(errors="replace"),
        )
    finally:
        story.run("destroy", "--yes", check=False)


NO_PARAMETERS = SimpleNamespace(params={})


class Stories:
    """Under way side by side. One that failed is played again when its test is tried again."""

    def __init__(self, start: Callable[[str], Future[Ended]], names: Sequence[str]) -> None:
        self._start, self._under_way = start, {name: start(name) for name in names}
        self._told: set[str] = set()

    def end_of(self, name: str) -> Ended:
        """Raises what went wrong in it, each time of another one."""
        if name in self._told:
            self._under_way[name] = self._start(name)
        self._told.add(name)
        return self._under_way[name].result()


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest, guest_bed: "GuestBed") -> Iterator["Stories"]:
    """Those that were asked for, under way."""
    run = [item for item in request.session.items if item.get_closest_marker("skip") is None]
    wanted = {getattr(item, "callspec", NO_PARAMETERS).params.get("crash") for item in run}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield Stories(lambda name: pool.submit(play, guest_bed, name), [name for name in CRASHES if name in wanted])
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    "crash",
    [*(pytest.param(name, marks=pytest.mark.weekly) for name in ("partition", "copy", "reboot")), "install"],
)
def test_a_deploy_that_was_killed_is_finished_by_the_next_one(stories: "Stories", crash: str) -> None:
    ended = stories.end_of(crash)
    assert ended.phase == "ready"
    assert (ended.installed, ended.partitioned, ended.creations) == (1, 1, 1), ended.first_run
    interrupted = {"partition": "partitioned", "copy": "installed", "install": "installed", "reboot": "running"}[crash]
    assert ended.moves(interrupted) == ["interrupted", "done"], ended.history
    others = [entry["outcome"] for entry in ended.history if entry["to"] != interrupted]
    assert set(others) <= {"done", "seen"}, ended.history


@pytest.mark.weekly
@pytest.mark.parametrize("crash", ["guest-lost"])
def test_a_guest_that_dies_in_the_middle_of_the_install_is_installed_anew(stories: "Stories", crash: str) -> None:
    """Its disk is the same and the VM is the same; only the guest's memory, with the job in it, is gone."""
    ended = stories.end_of(crash)
    assert ended.phase == "ready"
    assert (ended.installed, ended.creations) == (1, 1), ended.first_run
    assert ended.moves("partitioned") == ["done", "done"], ended.history


@pytest.mark.weekly
@pytest.mark.parametrize("crash", ["link-down"])
def test_a_network_that_is_cut_during_the_install_is_waited_for(stories: "Stories", crash: str) -> None:
    ended = stories.end_of(crash)
    assert ended.phase == "ready"
    assert (ended.installed, ended.partitioned, ended.creations) == (1, 1, 1), ended.first_run
    assert {entry["outcome"] for entry in ended.history} <= {"done", "seen"}, ended.history
