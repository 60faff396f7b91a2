"""A whole Debian with a real cloud-init and systemd, as Ansible's users have it: we make it reachable, and no more."""

import json
from typing import TYPE_CHECKING

import pytest

from tests.qemu.debian import build_debian, find_obstacle
from tests.qemu.test_images import upload

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [
    *(pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly),
    pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle()),
    pytest.mark.timeout(1500),
]

MACHINE = """\
    toplevel = null;
    deployment.proxmox = {
      memory = 768;
      efi.storage = "local-lvm";
      disks = [ { storage = "local-lvm"; size = "3G"; } ];
      network = [
        { bridge = "vmbr0"; dns = [ "10.77.0.1" ]; ipv4 = { address = "ADDRESS/24"; gateway = "10.77.0.1"; }; }
      ];
      ssh.user = "admin";
      MORE
    };
"""
LOOK = """
hostname; cat /etc/ssh/ssh_host_ed25519_key.pub; df -B1 --output=size / | tail -n 1; sudo id -u; cloud-init status
"""


def network(image: str, **machines: tuple[str, str]) -> str:
    parts = (
        f"  {name} = {{\n{MACHINE.replace('ADDRESS', address).replace('MORE', more)}  }};\n"
        for name, (address, more) in machines.items()
    )
    return ("{\n" + "".join(parts) + "}\n").replace("IMAGE", image)


def test_a_cloud_image_learns_from_our_cd_or_pves_drive_who_it_is_and_keeps_it(guest_bed: "GuestBed") -> None:
    from nixops_proxmox.lab.image import default_cache

    image = str(upload(guest_bed, str(build_debian(default_cache())))["volume"])
    by_disc = 'agent = false; install = { from = "image"; image = "IMAGE"; identity = "cloud-init"; };'
    by_drive = 'install = { from = "image"; image = "IMAGE"; cloudInit = { }; };'
    bed = guest_bed.named(
        "debian",
        network(
            image,
            told=("10.77.0.81", by_disc),
            modern=("10.77.0.82", f'machine = "q35"; {by_disc}'),
            driven=("10.77.0.83", f'machine = "q35"; {by_drive}'),
        ),
    )
    for name in ("told", "modern", "driven"):  # one after another: without KVM, each needs a processor for itself
        bed.run("deploy", name)
        machine = bed.machine(name)
        said, key, size, user, state = bed.ssh(name, LOOK).splitlines()
        assert (said, user, state, machine["phase"]) == (name, "0", "status: done", "ready")
        assert key.split()[:2] == machine["host_key"].split()[:2]
        assert int(size) > 2 << 30, "the root file system has not grown"
        assert "nixops-px" not in json.dumps(bed.config(machine["vmid"])), "its CD is still in it"
        first = bed.ssh(name, "cat /etc/machine-id /var/lib/cloud/data/instance-id")
        bed.run("reboot", name, "--yes")
        again = bed.ssh(name, "cat /etc/machine-id /var/lib/cloud/data/instance-id; cloud-init status --wait >&2")
        assert again == first and bed.ssh(name, "sudo cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1] in key
        bed.run("stop", name)
    assert bed.run("plan", "--check", check=False).returncode in (0, 2)
    bed.run("destroy", "--yes")
