"""A gateway on real guests: one deploy from nothing, two hops deep and IPv6 alone at the end. OpenSSH in the guest lets
the jump user forward, and nothing else. NAT and sites are not shown: the lab's system has neither nft nor nginx."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixes import SMALL_LIB, SMALL_NIXOS
from tests.pace import patience, wait_until

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(1800)]

GATEWAYS = Path(__file__).parents[1] / "nix" / "gateway.nix"
NETWORK = """\
let
  machine = name: network: endpoint: {
    deployment.proxmox = {
      inherit network endpoint;
      memory = 512;
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
    };
    toplevel = import DEMO/system.nix {
      inherit name;
      hosts = { };
      service = { port = 80; handler = "echo ${name}"; };
    };
  };
in
{
  gate = machine "gate" [ { bridge = "vmbr0"; } { bridge = "vmbr1"; } ] { };
  web = machine "web" [ { bridge = "vmbr1"; } { bridge = "vmbr4"; } ] { through = "gate"; families = [ "ipv4" ]; };
  deep = machine "deep" [ { bridge = "vmbr4"; } ] { through = "web"; };
}
"""
SETUP = """
set -e
[ ! -e /var/lib/gateway ] || exit 0
echo 'jump:x:990:65534::/var/empty:/bin/false' >> /etc/passwd
cat > /etc/ssh/authorized_keys.d/jump <<'KEY'
restrict,port-forwarding {key}
KEY
cat >> /etc/ssh/sshd_config <<'BLOCK'
{block}
BLOCK
/usr/sbin/sshd -t
kill -HUP "$(pgrep -o -x sshd)"
touch /var/lib/gateway
"""


def block() -> str:
    """What the module tells sshd of an inside 10.77.1.0/24. The guest has no nologin."""
    argv = ["nix-instantiate", "--eval", "--strict", "--json", str(GATEWAYS), "-A", "lab.sshd"]
    argv += ["--arg", "nixpkgs", str(SMALL_NIXOS), "-I", f"nixpkgs-lib={SMALL_LIB}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=patience(60))
    text: str = json.loads(done.stdout)
    return text.replace("/run/current-system/sw/bin/nologin", "/bin/false")


@pytest.fixture(scope="module")
def inside(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    bed = guest_bed.named("inside", NETWORK)
    try:
        bed.run("deploy")
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def endpoint(bed: "GuestBed", name: str) -> dict[str, Any]:
    found: dict[str, Any] = bed.facts(name)["endpoint"]
    return found


def test_one_deploy_makes_guests_two_hops_behind_a_gateway(inside: "GuestBed") -> None:
    gate, web, deep = (endpoint(inside, name) for name in ("gate", "web", "deep"))
    assert not gate["jump"] and web["host"].startswith("10.77.1.") and deep["host"].startswith("fd77:77:4:")
    assert web["jump"].count(",") == 0 and deep["jump"].count(",") == 1
    assert inside.ssh("deep", "hostname; fetch-http http://[::1]/ 20").split() == ["deep", "deep"]
    reached = [entry["machine"] for entry in inside.history() if entry["to"] == "ready"]
    assert reached == ["gate", "web", "deep"]


def test_the_jump_user_may_forward_and_do_nothing_else(inside: "GuestBed") -> None:
    gate, web = endpoint(inside, "gate")["host"], endpoint(inside, "web")["host"]
    key = inside.home / ".ssh" / "id_ed25519"
    public = key.with_name("id_ed25519.pub").read_text().strip()
    inside.ssh("gate", SETUP.format(key=public, block=block()))

    def jump(*words: str) -> "subprocess.CompletedProcess[str]":
        options = ["-F", "none", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        argv = inside.running.enter_argv(["ssh", *options, "-o", "BatchMode=yes", "-l", "jump", *words])
        environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
        return subprocess.run(
            argv, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=patience(60)
        )

    def forwards() -> bool:
        return jump("-W", f"{web}:22", gate).stdout.startswith("SSH-2.0-OpenSSH")

    wait_until(forwards, 60, "sshd, which was told to read its configuration anew")
    for words in ([gate, "id"], [gate], ["-tt", gate, "sh"], ["-s", gate, "sftp"]):
        refused = jump(*words)
        assert refused.returncode != 0 and "uid=" not in refused.stdout, words
    for place in ("10.77.0.1:22", "127.0.0.1:22", f"{web}:80"):
        refused = jump("-W", place, gate)
        assert refused.stdout == "" and "administratively prohibited" in refused.stderr, place
