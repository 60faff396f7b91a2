"""Another volume, put by hand into a machine's slot between any two steps: refused, and never written."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from nixops_proxmox.spec.serials import derived_serial
from tests.pace import wait_until

if TYPE_CHECKING:
    from tests.e2e.field import Field

pytestmark = [pytest.mark.netns, pytest.mark.slow]

STEPS = ("defined", "installer", "reachable", "partitioned", "installed", "running", "ready")
CLAIMED = "partitioned"  # its disks were promised to us; what is there now may have our serial, and was not
NAMES = (*STEPS, "claimed", "reinstalled", "off")
SLOT = "scsi0"


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Field"]:
    from tests.e2e.field import start_field

    with start_field(tmp_path_factory.mktemp("swapped"), [f"n-{name}" for name in NAMES]) as lab:
        yield lab


def machine(lab: "Field", name: str) -> dict[str, Any]:
    return {
        "profile": "lab",
        "node": f"n-{name}",
        "disks": [{"storage": "local-lvm", "size": "1G"}],
        "memory": 256,
        "network": [{"bridge": "vmbr0"}],
        "install": {"iso": lab.running.iso, "method": "configuration"},
    }


class Stranger:
    """Somebody's volume of the same size, with data on it."""

    def __init__(self, lab: "Field", name: str, vmid: int) -> None:
        self.lab, self.node, self.vmid = lab, f"n-{name}", vmid
        upid = lab.api("POST", f"/nodes/{self.node}/qemu", vmid=vmid, scsi0="local-lvm:1")
        wait_until(lambda: lab.api("GET", f"/nodes/{self.node}/tasks/{upid}/status")["status"] == "stopped")
        self.volume = f"local-lvm:vm-{vmid}-disk-0"
        (self.folder,) = (path for path in lab.folder.parent.rglob(f"*vm-{vmid}-disk-0*/now"))
        disk = json.loads((self.folder / "disk.json").read_text())
        disk["table"], disk["fs"] = "gpt", {"0": {"type": "ext4", "uuid": "theirs", "label": "photos"}}
        (self.folder / "disk.json").write_text(json.dumps(disk))
        (self.folder / "parts" / "0").mkdir()
        (self.folder / "parts" / "0" / "photo").write_text("irreplaceable")
        self.before = self.content()

    def content(self) -> str:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()

    def take_the_place_in(self, vmid: int, serial: str = "") -> str:
        """What was there: the drive with its volume."""
        vm = f"/nodes/{self.node}/qemu/{vmid}"
        drive = self.lab.api("GET", f"{vm}/config")[SLOT]
        self.lab.api("PUT", f"{vm}/config", **{SLOT: self.volume + (f",serial={serial}" if serial else "")})
        return str(drive)


@pytest.fixture(scope="module")
def refused(swapped: "Field") -> dict[str, tuple[dict[str, Any], Stranger, str]]:
    lab, found = swapped, {}
    machines = {name: machine(lab, name) for name in NAMES}
    stages = {name: name if name in STEPS else CLAIMED if name == "claimed" else "ready" for name in NAMES}
    vmids: dict[str, int] = {}
    bases: dict[str, str] = {}
    for stage in STEPS:
        names = [name for name in NAMES if stages[name] == stage]
        for name, one in lab.run("deploy", machines, names=names, until=stage).items():
            assert one["phase"] == stage, one
            vmids[name], bases[name] = one["facts"]["vmid"], one["facts"]["serials_from"]
    strangers = {name: Stranger(lab, name, 900 + number) for number, name in enumerate(NAMES)}
    for name in ("claimed", "off"):
        lab.api("POST", f"/nodes/n-{name}/qemu/{vmids[name]}/status/stop")
        wait_until(partial(is_off, lab, f"/nodes/n-{name}/qemu/{vmids[name]}/status/current"))
    drives = {
        name: one.take_the_place_in(vmids[name], derived_serial(bases[name], SLOT) if name == "claimed" else "")
        for name, one in strangers.items()
    }
    for verb, names in (("reinstall", ["reinstalled"]), ("start", ["off"]), ("deploy", [*STEPS, "claimed"])):
        for name, outcome in lab.run(verb, machines, names=names).items():
            found[name] = outcome, strangers[name], f"{vmids[name]} {drives[name]}"
    return found


def is_off(lab: "Field", path: str) -> bool:
    return bool(lab.api("GET", path)["status"] == "stopped")


@pytest.mark.parametrize("name", NAMES)
def test_a_swapped_disk_is_refused_and_untouched(
    refused: dict[str, tuple[dict[str, Any], Stranger, str]], name: str
) -> None:
    outcome, stranger, _ = refused[name]
    assert outcome["error"] in ("WrongDisk", "NeedsPermission"), outcome
    assert stranger.volume in outcome["message"] or "is not blank: it holds gpt" in outcome["message"], outcome
    assert stranger.content() == stranger.before


def test_with_their_own_disks_back_the_machines_get_ready(
    swapped: "Field", refused: dict[str, tuple[dict[str, Any], Stranger, str]]
) -> None:
    for name, (_, _, kept) in refused.items():
        vmid, drive = kept.split(" ")
        swapped.api("PUT", f"/nodes/n-{name}/qemu/{vmid}/config", **{SLOT: drive})
    machines = {name: machine(swapped, name) for name in NAMES}
    again = swapped.run("deploy", machines)
    assert {name: told(one) for name, one in again.items() if one["phase"] != "ready"} == {}
    assert all(stranger.content() == stranger.before for _, stranger, _ in refused.values())


def test_a_disk_that_pve_has_moved_is_installed_anew_without_being_wiped_by_hand(
    swapped: "Field", refused: dict[str, tuple[dict[str, Any], Stranger, str]]
) -> None:
    """Its volume has another name on another storage; its serial and what we put on it are the same."""
    name, lab = "off", swapped
    vm = f"/nodes/n-{name}/qemu/{refused[name][2].split(' ')[0]}"
    upid = lab.api("POST", f"{vm}/move_disk", disk=SLOT, storage="shared", delete=1)
    wait_until(lambda: lab.api("GET", f"/nodes/n-{name}/tasks/{upid}/status")["status"] == "stopped")
    moved = machine(lab, name) | {"disks": [{"storage": "shared", "size": "1G"}]}
    outcome = lab.run("reinstall", {name: moved})[name]
    assert outcome["phase"] == "ready", told(outcome)
    assert outcome["facts"]["round"] == 1 and outcome["facts"]["volumes"][SLOT].startswith("shared:")


def told(outcome: dict[str, Any]) -> str:
    return f"{outcome['phase']}: {outcome['error']} {outcome['message']}"
