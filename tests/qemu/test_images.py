"""Machines from a disk image, on real guests: uploaded once, imported, grown, and told who they are."""

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.bed import command
from tests.pace import patience

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.slow, pytest.mark.timeout(600)]

NETWORK = """\
{
  copy = {
    deployment.proxmox = {
      memory = 512;
      disks = [ { storage = "local-lvm"; size = "512M"; } ];
      network = [ { bridge = "vmbr0"; } ];
      install = { INSTALL };
    };
    toplevel = import DEMO/system.nix {
      name = "copy";
      hosts = { };
      service = { port = 80; handler = "echo copy"; };
    };
  };
  told = {
    deployment.proxmox = {
      memory = 512;
      agent = false;
      disks = [ { storage = "local-lvm"; size = "512M"; } ];
      network = [ { bridge = "vmbr0"; ipv4 = { address = "10.77.0.40/24"; gateway = "10.77.0.1"; }; } ];
      install = { INSTALL identity = "cloud-init"; };
    };
    toplevel = null;
  };
}
"""
LOOK = """
cat /etc/hostname /sys/class/dmi/id/product_uuid /etc/ssh/ssh_host_ed25519_key.pub
df -B1 --output=size / | tail -n 1
"""
FROM_THE_START = 400 << 20  # bytes; the image's file system has less, the grown one has more


def build_disk_image(bed: "GuestBed") -> str:
    done = subprocess.run(
        command("lab", "image", "--disk"),
        env=bed.environment,
        capture_output=True,
        text=True,
        timeout=patience(600),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def upload(bed: "GuestBed", file: str) -> dict[str, object]:
    done = subprocess.run(
        command("iso", "upload", file, "--profile", "lab", "--json"),
        env=bed.environment,
        capture_output=True,
        text=True,
        timeout=patience(120),
    )
    assert done.returncode == 0, done.stderr
    put: dict[str, object] = json.loads(done.stdout)
    return put


def test_machines_from_an_image_are_told_who_they_are_and_fill_their_disks(guest_bed: "GuestBed") -> None:
    image = build_disk_image(guest_bed)
    put = upload(guest_bed, image)
    assert not upload(guest_bed, image)["uploaded"], "the same content travelled twice"
    bed = guest_bed.named("images", NETWORK.replace("INSTALL", f'from = "image"; image = "{put["volume"]}";'))
    bed.run("deploy")
    for name in ("copy", "told"):
        machine = bed.machine(name)
        said, uuid, key, size = bed.ssh(name, LOOK).splitlines()
        assert (said, uuid, machine["phase"]) == (name, machine["uuid"], "ready")
        assert key.split()[:2] == machine["host_key"].split()[:2]
        assert int(size) > FROM_THE_START
    assert bed.ssh("copy", "fetch-http http://127.0.0.1/ 20").strip() == "copy"
    assert bed.run("plan", "--check", check=False).returncode == 0, "a machine without a system is never finished"
    vmid = bed.machine("told")["vmid"]
    files = bed.api("GET", f"/nodes/{bed.node(vmid)}/storage/local/content", content="iso")
    assert not [file["volid"] for file in files if "nixops-px" in file["volid"]], "a private key lies around"
    assert "nixops-px" not in json.dumps(bed.config(vmid)), "its CD is still in it"
    assert bed.ssh("told", "hostname").strip() == "told" and "10.77.0.40" in bed.ssh("told", "ip -4 address")
    bed.run("stop", "copy")
    bed.run("start", "copy")
    assert bed.ssh("copy", "hostname").strip() == "copy", "it does not know its name after a boot"
    bed.run("destroy", "--yes")
