"""The example with templates, on real guests: a template that was made as with `qm`, and machines cloned from it."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_copies import wait_for_tasks
from tests.qemu.test_images import build_disk_image, upload

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [
    *(pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.slow, pytest.mark.weekly),
    pytest.mark.timeout(600),
]

EXAMPLE = Path(__file__).parents[2] / "examples" / "templates" / "network.nix"
TEMPLATE = 9000


def make_template(bed: "GuestBed") -> None:
    put = upload(bed, build_disk_image(bed))
    node = put["node"]
    bed.api(
        "POST",
        f"/nodes/{node}/qemu",
        vmid=TEMPLATE,
        name="base",
        scsihw="virtio-scsi-pci",
        scsi0=f"local-lvm:0,import-from={put['volume']}",
        ide2="local-lvm:cloudinit",
        boot="c",
        bootdisk="scsi0",
        serial0="socket",
        vga="serial0",
        net0="virtio,bridge=vmbr0",
        agent="1",
    )
    wait_for_tasks(bed, "qmcreate", TEMPLATE, 60)
    bed.api("POST", f"/nodes/{node}/qemu/{TEMPLATE}/template")
    wait_for_tasks(bed, "qmtemplate", TEMPLATE, 60)
    bed.api("POST", "/cluster/ha/resources", sid=f"vm:{TEMPLATE}", state="stopped")


def test_the_example_is_deployed_from_a_template_that_qm_made(guest_bed: "GuestBed") -> None:
    make_template(guest_bed)
    bed = guest_bed.named("templates", EXAMPLE.read_text())
    bed.run("deploy")
    for name, address in (("runner", "10.77.0.61"), ("cache", "10.77.0.62")):
        machine = bed.machine(name)
        said = bed.ssh(name, "hostname; cat /etc/ssh/ssh_host_ed25519_key.pub; ip -4 address; df -B1 --output=size /")
        assert said.splitlines()[0] == name and address in said
        assert said.splitlines()[1].split()[:2] == machine["host_key"].split()[:2]
        assert int(said.split()[-1]) > 400 << 20
        assert "media=cdrom" not in str(bed.config(machine["vmid"])), "a CD or PVE's cloud-init drive is still in it"
    disks = {name: bed.disk_file(bed.machine(name)["vmid"], "scsi0") for name in ("runner", "cache")}
    assert {name: b"base-9000-disk-0" in file.read_bytes()[:4096] for name, file in disks.items()} == {
        "runner": True,
        "cache": False,
    }, "the first is a linked clone, the second is not"
    assert bed.run("plan", "--check", check=False).returncode == 0
    bed.run("destroy", "--yes")
    assert str(TEMPLATE) in bed.vms()
