"""A volume through the life, the end and the return of its machine, by the command line."""

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from nixops_proxmox.spec.volume import serial_of

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  machine = volumes: {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ]
        ++ (if from "OWN" "" == "" then [ ] else [ { storage = "local-lvm"; size = "1G"; keep = true; } ]);
      install = { iso = "local:iso/lab-installer.iso"; method = "configuration"; };
      memory = 256;
      network = [ { bridge = "vmbr0"; } ];
      inherit volumes;
    };
  };
  has = name: if from "HOLDER" "db" == name then [ "data" ] else [ ];
in
{
  resources.volumes.data = {
    storage = "local-lvm";
    size = from "SIZE" "1G";
    protect = from "PROTECT" "yes" == "yes";
  };
  db = machine (has "db");
}
// (if from "SECOND" "" == "" then { } else { spare = machine (has "spare"); })
"""
SERIAL = serial_of("store", "data")
DEVICE = f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{SERIAL}"
MOUNT = f"mkdir -p /data; grep -qs ' /data ' /proc/self/mounts || mount {DEVICE} /data; cat /data/ledger"


@pytest.fixture
def store(bed: "Bed") -> "Bed":
    """The lab, with a network of a machine and a volume."""
    return bed.with_network("store", NETWORK)


def disks(bed: "Bed") -> dict[str, str]:
    """Where a disk with the volume's serial is, on the whole cluster: `VMID slot`, and its drive."""
    found: dict[str, str] = {}
    for guest in bed.api("GET", "/cluster/resources", type="vm"):
        config = bed.api("GET", f"/nodes/{guest['node']}/qemu/{guest['vmid']}/config")
        found |= {
            f"{guest['vmid']} {slot}": drive for slot, drive in config.items() if f"serial={SERIAL}" in str(drive)
        }
    return found


def volume(bed: "Bed") -> dict[str, Any]:
    (found,) = json.loads(bed.run("volume", "list", "--json").stdout)["volumes"]
    return dict(found)


def test_the_data_outlives_the_machine(store: "Bed") -> None:
    told = store.run("plan").stdout
    assert "volume data: new, 1.0 GiB on local-lvm, then attached to db" in told
    store.run("deploy")
    (here,) = disks(store)
    assert here == f"{store.status()[0]['vmid']} scsi30"
    assert "backup=0" in disks(store)[here]
    store.ssh("db", f"mkfs.ext4 -q {DEVICE} && mkdir -p /data && mount {DEVICE} /data && echo precious > /data/ledger")
    assert "nothing to do" in store.run("plan", "--check").stdout

    store.run("destroy", "--yes")
    (parked,) = disks(store)
    assert parked.startswith("900000 "), "the VM that keeps volumes"
    assert volume(store)["phase"] == "parked"
    store.run("deploy")
    assert store.ssh("db", MOUNT).strip() == "precious"

    store.run("reinstall", "--yes")
    assert store.ssh("db", MOUNT).strip() == "precious"
    assert len(disks(store)) == 1


def test_it_moves_to_another_machine_and_grows(store: "Bed") -> None:
    store.run("deploy", SECOND="yes")
    store.ssh("db", f"mkfs.ext4 -q {DEVICE} && mkdir -p /data && mount {DEVICE} /data && echo precious > /data/ledger")

    def run(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return store.run(*words, check=check, SECOND="yes", HOLDER="spare", SIZE="2G")

    plan = run("plan").stdout
    assert "- volume data: attached → (none)  [at the next restart: PVE parks disks of a stopped VM only]" in plan
    refused = run("deploy", check=False)
    assert refused.returncode == 3 and "PVE only parks disks of a VM that is stopped" in refused.stderr
    run("deploy", "--allow-reboot")
    assert store.ssh("spare", MOUNT).strip() == "precious"
    assert "size=2G" in next(iter(disks(store).values()))
    assert volume(store)["machine"] == "spare"

    def larger(*words: str) -> str:
        return str(store.run(*words, SECOND="yes", HOLDER="spare", SIZE="3G").stdout)

    told = larger("plan")
    assert "volume data: 1 GiB → 3 GiB; in the guest, ext4 /data then grow, live" in told, "it was not mounted before"
    larger("deploy")
    assert "size=3G" in next(iter(disks(store).values()))
    assert "nothing to do" in larger("plan", "--check")
    assert store.ssh("spare", MOUNT).strip() == "precious"


def test_only_its_own_word_deletes_it(store: "Bed") -> None:
    store.run("deploy")
    attached = store.run("volume", "delete", "data", "--confirm", "data", check=False, PROTECT="no")
    assert attached.returncode == 3 and "volume detach data" in attached.stderr
    running = store.run("volume", "detach", "data", check=False)
    assert running.returncode == 3 and "stop db" in running.stderr
    store.run("stop")
    store.run("volume", "detach", "data")
    protected = store.run("volume", "delete", "data", "--confirm", "data", check=False)
    assert protected.returncode == 3 and "resources.volumes.data.protect = false" in protected.stderr
    store.run("volume", "delete", "data", "--confirm", "dat", PROTECT="no")
    assert len(disks(store)) == 1, "another word does nothing"
    unasked = store.run("volume", "delete", "data", check=False, PROTECT="no")
    assert unasked.returncode == 3 and "volume delete data --confirm data" in unasked.stderr
    store.run("volume", "delete", "data", "--confirm", "data", PROTECT="no")
    assert not disks(store)
    assert [guest["vmid"] for guest in store.api("GET", "/cluster/resources", type="vm")] == [store.status()[0]["vmid"]]


def test_a_lost_record_makes_no_second_volume(store: "Bed") -> None:
    store.run("deploy")
    state = store.home / "state" / "nixops-proxmox"
    for left in state.glob("state.sqlite*"):
        os.rename(left, left.with_name(f"{left.name}.{time.time_ns()}"))
    store.run("recover", "--yes")
    refused = store.run("deploy", check=False)
    assert refused.returncode == 3 and "volume adopt data" in refused.stderr
    store.run("volume", "adopt", "data")
    store.run("deploy")
    assert len(disks(store)) == 1


def test_a_disk_of_a_machine_becomes_a_volume_where_it_is(store: "Bed") -> None:
    store.run("deploy", OWN="yes", HOLDER="nobody")
    own = "/dev/sdb"
    store.ssh("db", f"mkfs.ext4 -q {own} && mkdir -p /data && mount {own} /data && echo precious > /data/ledger")
    store.run("volume", "delete", "data", "--confirm", "data", PROTECT="no")  # nothing had it
    runs = store.run("volume", "adopt", "data", "--disk", "db:scsi1", check=False)
    assert runs.returncode == 3 and "stop db" in runs.stderr
    store.run("stop")
    still = store.run("volume", "adopt", "data", "--disk", "db:scsi1", check=False, OWN="yes")
    assert still.returncode == 2 and "still has it as one of the machine's own" in still.stderr
    store.run("volume", "adopt", "data", "--disk", "db:scsi1")
    assert [place.split()[1] for place in disks(store)] == ["scsi1"]
    store.run("deploy")
    assert store.ssh("db", MOUNT).strip() == "precious"
    store.run("destroy", "--yes")
    assert volume(store)["phase"] == "parked" and len(disks(store)) == 1
