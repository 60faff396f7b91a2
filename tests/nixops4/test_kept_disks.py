"""A volume as a resource of NixOps 4: made once, given to a machine by its name, grown, and never made again."""

from typing import TYPE_CHECKING, Any

import pytest

from nixops_proxmox.spec.volume import serial_of
from tests.nixops4.dialogue import Provider, create, update

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns]

DATA = {"name": "data", "profile": "lab", "storage": "local-lvm", "size": "1G"}
SERIAL = serial_of("nixops4", "data")


def disks(bed: "Bed") -> dict[str, str]:
    return {
        f"{vmid} {slot}": str(drive)
        for vmid, vm in bed.vms().items()
        for slot, drive in vm["config"].items()
        if f"serial={SERIAL}" in str(drive)
    }


def test_it_is_made_once_and_grows(bed: "Bed", provider: Provider) -> None:
    outputs = provider.ask_outputs(create("volume", DATA))
    assert outputs == {
        "volume": "data",
        "serial": SERIAL,
        "device": f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{SERIAL}",
    }
    assert provider.ask_outputs(create("volume", DATA)) == outputs
    assert list(disks(bed)) == ["900000 scsi0"]
    assert provider.ask_outputs(update("volume", DATA, outputs, DATA | {"size": "2G"})) == outputs
    assert "size=2G" in disks(bed)["900000 scsi0"]
    assert "a volume that exists" in provider.ask_error(update("volume", DATA, outputs, DATA | {"name": "date"}))


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"size": "much"}, "resources.volumes.data.size"), ({"colour": "red"}, "volume.colour: unknown input")],
)
def test_wrong_inputs_are_named(bed: "Bed", provider: Provider, changed: dict[str, Any], says: str) -> None:
    assert says in provider.ask_error(create("volume", DATA | changed))
    assert disks(bed) == {}


def test_a_machine_gets_it_before_its_system_boots(bed: "Bed", provider: Provider, image: str) -> None:
    outputs = provider.ask_outputs(create("volume", DATA))
    proxmox = {
        "profile": "lab",
        "disks": [{"storage": "local-lvm", "size": "1G"}],
        "install": {"from": "image", "image": image},
        "memory": 512,
        "network": [{"bridge": "vmbr0"}],
        "volumes": [outputs["volume"]],
    }
    made = provider.ask_outputs(create("vm", {"name": "web", "proxmox": proxmox}))
    assert list(disks(bed)) == [f"{made['vmid']} scsi30"]
    grown = provider.ask_outputs(update("volume", DATA, outputs, DATA | {"size": "2G"}))
    assert grown == outputs and "size=2G" in disks(bed)[f"{made['vmid']} scsi30"], "where it is"


def test_a_machine_whose_volume_nothing_made_is_refused(bed: "Bed", provider: Provider, image: str) -> None:
    proxmox = {
        "profile": "lab",
        "disks": [{"storage": "local-lvm", "size": "1G"}],
        "install": {"from": "image", "image": image},
        "network": [{"bridge": "vmbr0"}],
        "volumes": ["date"],
    }
    assert "there is no volume 'date'" in provider.ask_error(create("vm", {"name": "web", "proxmox": proxmox}))
    assert bed.vms() == {}


@pytest.fixture
def image(provider: Provider, tmp_path: Any) -> str:
    """An image of a system, on the storage."""
    path = tmp_path / "plain.raw"
    path.write_bytes(b"a plain system" * 1000)
    inputs = {"path": str(path), "profile": "lab", "storage": "local"}
    return str(provider.ask_outputs(create("image", inputs))["volume"])
