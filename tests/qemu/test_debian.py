"""A whole Debian with a real cloud-init and systemd, as Ansible's users have it: we make it reachable, and no more."""

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from nixops_proxmox.model import Completed, Probation, ProbationState
from nixops_proxmox.nixeval.one_boot import find_booted, keep_system, stage_system, unstage_system
from nixops_proxmox.nixeval.probation import UNIT, begin_probation, confirm_probation, find_probation
from nixops_proxmox.spec import DeploySpec
from tests.nixeval.test_activate import NIX_ENV
from tests.pace import wait_until
from tests.qemu.debian import build_debian, find_obstacle
from tests.qemu.test_encryption import serial
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
IDENTITY = "sudo cat /etc/machine-id /var/lib/cloud/data/instance-id /etc/ssh/ssh_host_ed25519_key.pub"
SYSTEMS = """\
mkdir -p /nix/store /nix/var/nix/profiles
for name in one two; do
  mkdir -p /nix/store/$name/bin
  printf '#!/bin/sh\\nln -sfn /nix/store/%s /run/current-system\\n' $name > /nix/store/$name/bin/switch-to-configuration
  chmod +x /nix/store/$name/bin/switch-to-configuration
done
ln -sfn /nix/store/one /nix/var/nix/profiles/system-1-link
ln -sfn system-1-link /nix/var/nix/profiles/system
ln -sfn /nix/store/one /run/current-system
echo NIX_ENV | base64 -d > /usr/local/bin/nix-env
chmod +x /usr/local/bin/nix-env
"""
# Systems that a boot loader can start: what was booted says so first.
BOOTABLE = """\
WRITER
chmod +x /usr/local/bin/write-menu
for name in one two hangs; do
  system=/nix/store/$name
  mkdir -p $system/bin
  printf '#!/bin/sh\\nexec write-menu %s\\n' $system > $system/bin/switch-to-configuration
  printf '#!/bin/sh\\nln -s %s /run/booted-system\\nln -s %s /run/current-system\\n' $system $system > $system/init
  chmod +x $system/bin/switch-to-configuration $system/init
done
echo 'exec /lib/systemd/systemd "$@"' | tee -a /nix/store/one/init >> /nix/store/two/init
echo 'echo "it hangs" > /dev/console; while :; do sleep 9; done' >> /nix/store/hangs/init
/nix/store/one/bin/switch-to-configuration boot
"""
# As systemd-boot-builder.py does it: an entry for each generation, and a default.
SYSTEMD_BOOT = r"""cat > /usr/local/bin/write-menu <<'END'
#!/bin/sh
loader=/boot/efi/loader
for link in /nix/var/nix/profiles/system-*-link; do
  number=${link##*/system-} number=${number%-link} target=$(readlink "$link")
  { grep -E '^(linux|initrd) ' $loader/entries/debian.conf
    echo "title $target"
    sed -n "s|^options .*|& init=$target/init|p" $loader/entries/debian.conf
  } > $loader/entries/nixos-generation-$number.conf
  [ "$target" != "$1" ] || printf 'timeout 0\ndefault nixos-generation-%s.conf\n' "$number" > $loader/loader.conf
done
END"""
# As install-grub.pl does it: the default, and all generations in a submenu, the newest first.
GRUB = r"""cat > /usr/local/bin/write-menu <<'END'
#!/bin/sh
entry() {
  printf 'menuentry "%s" --class nixos --unrestricted {\nsearch --set=drive1 --label root\n' "$1"
  echo "  linux ($drive1)$kernel root=LABEL=root ro console=ttyS0 systemd.show_status=1 init=$2/init"
  printf '  initrd ($drive1)%s\n}\n' "$initrd"
}
kernel=$(ls /boot/vmlinuz-*) initrd=$(ls /boot/initrd.img-*) drive1='$drive1'
{
  cat <<'HEADER'
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ]; then
  set default="${next_entry}"
  set next_entry=
  save_env next_entry
  set timeout=1
  set boot_once=true
else
  set default=0
  set timeout=0
fi
HEADER
  entry "NixOS - Default" "$1"
  echo 'submenu "NixOS - All configurations" {'
  for link in $(ls -d /nix/var/nix/profiles/system-*-link | sort -rV); do
    entry "NixOS - Configuration ($link)" "$(readlink "$link")"
  done
  echo '}'
} > /boot/grub/grub.cfg
END
mkdir -p /boot/grub
printf 'search --label root --set=root\nset prefix=($root)/boot/grub\n' > /tmp/early
grub-mkimage -O x86_64-efi -o /boot/efi/EFI/BOOT/BOOTX64.EFI -c /tmp/early -p /boot/grub \
  part_gpt ext2 normal linux search search_label configfile loadenv test echo
rm -r /boot/efi/loader /boot/efi/EFI/systemd"""
LOOK = """
hostname; sudo cat /etc/ssh/ssh_host_ed25519_key.pub; df -B1 --output=size / | tail -n 1; sudo id -u
"""
CLOUD_INIT = """
cloud-init status --wait --long | tr -d .
sudo sed -nE "/DEPRECATED/d; /WARN|ERROR|Traceback|Error:/p" /var/log/cloud-init.log
"""


def network(image: str, **machines: tuple[str, str]) -> str:
    parts = (
        f"  {name} = {{\n{MACHINE.replace('ADDRESS', address).replace('MORE', more)}  }};\n"
        for name, (address, more) in machines.items()
    )
    return ("{\n" + "".join(parts) + "}\n").replace("IMAGE", image)


BY_DISC = 'agent = false; install = { from = "image"; image = "IMAGE"; identity = "cloud-init"; };'
BY_DRIVE = 'install = { from = "image"; image = "IMAGE"; cloudInit = { }; };'


@pytest.fixture(scope="module")
def debian(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    from nixops_proxmox.lab.image import default_cache

    image = str(upload(guest_bed, str(build_debian(default_cache())))["volume"])
    bed = guest_bed.named(
        "debian",
        network(
            image,
            told=("10.77.0.81", BY_DISC),
            modern=("10.77.0.82", f'machine = "q35"; {BY_DISC}'),
            driven=("10.77.0.83", f'machine = "q35"; {BY_DRIVE}'),
        ),
    )
    try:
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


@pytest.mark.parametrize("name", ["told", "modern", "driven"])
def test_a_cloud_image_learns_from_our_cd_or_pves_drive_who_it_is_and_keeps_it(debian: "GuestBed", name: str) -> None:
    debian.run("deploy", name)
    machine = debian.machine(name)
    said, key, size, user = debian.ssh(name, LOOK).splitlines()
    assert (said, user, machine["phase"]) == (name, "0", "ready")
    heard = debian.ssh(name, CLOUD_INIT)
    assert "status: done" in heard.splitlines() and "WARN" not in heard, heard
    assert key.split()[:2] == machine["host_key"].split()[:2]
    assert int(size) > 2 << 30, "the root file system has not grown"
    assert "nixops-px" not in json.dumps(debian.config(machine["vmid"])), "its CD is still in it"
    first = debian.ssh(name, IDENTITY)
    debian.run("reboot", name)
    assert debian.ssh(name, IDENTITY) == first
    debian.run("check", name)
    debian.run("stop", name)


@dataclass
class Remote:
    """Runs scripts as root in the Debian."""

    bed: "GuestBed"

    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        del stdin, timeout
        coded = b64encode(script.encode()).decode()
        done = self.bed.run("ssh", "told", "--", f"echo {coded} | base64 -d | sudo sh", check=False)
        return Completed(done.returncode, done.stdout, done.stderr)

    def told(self, script: str) -> str:
        done = self.run(script)
        assert done.status == 0, done.stderr
        return done.stdout.strip()

    def main_pid(self) -> str:
        return self.told(f"systemctl show --property=MainPID --value {UNIT}")

    def wait_for(self, state: ProbationState) -> Probation:
        wait_until(lambda: seen(find_probation(self)).state is state, 120, str(state), 1.0)
        return seen(find_probation(self))


def seen(probation: Probation | None) -> Probation:
    assert probation is not None
    return probation


@pytest.mark.parametrize(("loader", "writer"), [("systemd-boot", SYSTEMD_BOOT), ("GRUB", GRUB)])
def test_a_boot_loader_takes_a_system_once_and_keeps_it_only_when_it_is_told_to(
    debian: "GuestBed", loader: str, writer: str
) -> None:
    debian.run("deploy", "told")
    guest, vmid = Remote(debian), debian.facts("told")["vmid"]
    guest.told(SYSTEMS.replace("NIX_ENV", b64encode(NIX_ENV.encode()).decode()) + BOOTABLE.replace("WRITER", writer))

    def booted() -> str:
        debian.run("reboot", "told")
        return find_booted(guest).system

    assert booted() == "/nix/store/one"
    staged = stage_system("/nix/store/two", guest)
    assert (staged.loader, staged.why) == (loader, "") and staged.generation > 1
    assert [booted(), booted()] == ["/nix/store/two", "/nix/store/one"]
    stage_system("/nix/store/two", guest)
    assert booted() == "/nix/store/two" and keep_system("/nix/store/two", guest) > 1
    assert booted() == "/nix/store/two"

    assert stage_system("/nix/store/hangs", guest).loader == loader
    guest.run("systemctl reboot")
    wait_until(lambda: "it hangs" in serial(debian, vmid), 120, "the system that hangs", 1.0)
    debian.api("POST", f"/nodes/{debian.node(vmid)}/qemu/{vmid}/status/reset")
    wait_until(lambda: find_booted(guest).system == "/nix/store/two", 200, "the system of before", 1.0)
    stage_system("/nix/store/one", guest)
    unstage_system(guest)
    assert booted() == "/nix/store/two"
    debian.run("stop", "told")


def test_the_supervisor_of_a_deploy_is_a_unit_that_outlives_its_login_and_is_started_again(debian: "GuestBed") -> None:
    """NixOS is not to be had here; its systemd is. What the supervisor switches between are two scripts."""
    debian.run("deploy", "told")
    guest, deploy = Remote(debian), DeploySpec.model_validate({"probation": 40})
    guest.told(SYSTEMS.replace("NIX_ENV", b64encode(NIX_ENV.encode()).decode()))
    begun = seen(begin_probation("/nix/store/two", guest, "n1", deploy))
    assert (begun.state, begun.status, begun.alive) == (ProbationState.WAITING, 0, True)
    cgroup = guest.told(f"cat /proc/{guest.main_pid()}/cgroup")
    assert cgroup.endswith(f"/system.slice/{UNIT}.service"), "it would end with the login that began it"
    killed = guest.main_pid()
    guest.run(f"kill -9 {killed}; systemctl stop user.slice")  # which ends this login
    wait_until(lambda: guest.main_pid() not in ("0", killed), 60, "the supervisor's second start", 1.0)
    assert guest.wait_for(ProbationState.REVERTED).why == "no confirmation came within 40 s"
    assert guest.told("readlink -f /run/current-system /nix/var/nix/profiles/system").split() == ["/nix/store/one"] * 2
    wait_until(lambda: guest.main_pid() == "0", 30, "the end of the unit", 1.0)

    begin_probation("/nix/store/two", guest, "n2", deploy)
    assert seen(confirm_probation(guest, "n2")).state is ProbationState.CONFIRMED
    assert guest.told("readlink -f /run/current-system /nix/var/nix/profiles/system").split() == ["/nix/store/two"] * 2
    debian.run("stop", "told")
