"""A volume in the hands of the real NixOps: it outlives its machine, goes to another, and only its verb deletes it."""

import pytest

from nixops_proxmox.spec.volume import serial_of
from tests.nixops.bed import Nixops, machine, network
from tests.nixops.conftest import MakeNixops

pytestmark = [pytest.mark.nixops, pytest.mark.nix, pytest.mark.netns, pytest.mark.slow]

STORAGE = "network.storage.legacy = { };"


def shop(*, holder: str = "db", size: str = "1G", protect: bool = True) -> str:
    has = {name: 'volumes = [ "data" ];' if name == holder else "" for name in ("db", "spare")}
    protected = "true" if protect else "false"
    volume = f'resources.volumes.data = {{ storage = "local-lvm"; size = "{size}"; protect = {protected}; }};'
    machines = {
        "db": machine(ipv4="10.77.0.61/24", proxmox=has["db"]),
        "spare": machine(ipv4="10.77.0.62/24", proxmox=has["spare"]),
    }
    if holder != "spare":
        del machines["spare"]
    return network(machines, more=f"{STORAGE}\n  {volume}")


def disks(one: Nixops) -> dict[str, str]:
    """Where the disk with the volume's serial is: `VMID slot`, and its drive."""
    uuid = one.query("select uuid from Deployments")[0][0]
    mark = f"serial={serial_of(uuid, 'data')}"
    return {
        f"{vmid} {slot}": str(drive)
        for vmid, vm in one.bed.vms().items()
        for slot, drive in vm["config"].items()
        if mark in str(drive)
    }


def vmid_of(one: Nixops, name: str) -> str:
    return str(one.records()[name]["facts"]["vmid"])


def test_the_volume_outlives_its_machine_and_goes_to_another_one(make_nixops: MakeNixops) -> None:
    one = make_nixops(shop(), deployment="volumes")
    planned = one.deploy("--plan-only").stderr
    assert "volume data: new, 1.0 GiB on local-lvm, then attached to db" in planned
    assert disks(one) == {}

    one.deploy()
    assert list(disks(one)) == [f"{vmid_of(one, 'db')} scsi30"]
    rows = {line.split("\t")[0]: line.split("\t") for line in one.run("info", "--plain").stdout.splitlines()}
    assert rows["data"][1] == "attached to db" and rows["data"][3].startswith("npv-")
    assert "data" in one.run("check").stdout

    destroyed = one.run("destroy", "--confirm", "--include", "db")
    assert "kept: volume data" in destroyed.stderr
    (parked,) = disks(one)
    assert parked.startswith("9000"), "in the VM that keeps volumes"
    kept = one.run("destroy", "--confirm")
    assert "it is kept, with its data; `nixops proxmox volume delete data` deletes it" in kept.stderr
    assert list(disks(one)) == [parked]

    one.deploy()
    assert list(disks(one)) == [f"{vmid_of(one, 'db')} scsi30"]

    one.write(shop(holder="spare", size="2G"))
    refused = one.deploy(check=False)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert list(disks(one)) == [f"{vmid_of(one, 'db')} scsi30"]
    one.deploy("--allow-reboot")
    assert list(disks(one)) == [f"{vmid_of(one, 'spare')} scsi30"] and "size=2G" in next(iter(disks(one).values()))

    one.write(shop(holder="nobody", size="2G", protect=False))
    one.run("destroy", "--confirm", "--include", "spare")
    assert "parked (9000" in one.run("proxmox", "volume", "list").stdout
    unasked = one.run("proxmox", "volume", "delete", "data", check=False)
    assert unasked.returncode == 3 and "nixops proxmox volume delete data --confirm data" in unasked.stderr
    one.run("proxmox", "volume", "delete", "data", "--confirm", "data")
    assert disks(one) == {}
    one.run("destroy", "--confirm")
    assert one.query("select name from Resources") == []


def test_a_volume_that_no_machine_has_is_made_and_parked_and_a_wrong_name_is_told(make_nixops: MakeNixops) -> None:
    text = shop(holder="nobody").replace("db =", "wrong =")
    one = make_nixops(text, deployment="parked")
    one.deploy("--include", "data", "--create-only")
    (parked,) = disks(one)
    assert parked.startswith("9000")
    one.write(shop().replace('volumes = [ "data" ]', 'volumes = [ "date" ]'))
    done = one.deploy("--include", "db", check=False)
    assert "there is no volume date in resources.volumes" in done.stderr and "Traceback" not in done.stderr
    one.write(shop().replace("resources.volumes.data", "resources.volumes.db"))
    done = one.deploy(check=False)
    assert "a machine has the same name" in done.stderr
