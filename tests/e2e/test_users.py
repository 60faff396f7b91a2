"""A machine whose operator logs in as another user than root, from its installation to its end."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  base = import DEMO/system.nix {
    name = "web";
    hosts = { };
    service = { port = 80; handler = "echo version ${from "VERSION" "1"}"; };
  };
in
{
  web = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      ssh.user = "deploy";
      deploy.probation = 20;
    };
    # What NixOS makes of nix/guest.nix: the user, and sudo without a password.
    toplevel = import DEMO/builder.nix "web" { } ''
      cp -a ${base} $out
      chmod -R u+w $out
      sed -i "s|${base}|$out|g" $out/activate $out/bin/switch-to-configuration
      cat >>$out/activate <<'EOF'
      grep -q '^deploy:' /etc/passwd || echo 'deploy:x:1000:100::/home/deploy:/bin/sh' >>/etc/passwd
      mkdir -p /etc/sudoers.d
      echo '${from "SUDOERS" "deploy ALL=(ALL:ALL) NOPASSWD: ALL"}' >/etc/sudoers.d/deploy
      EOF
    '';
  };
}
"""
SYSTEM = "readlink -f /run/current-system"


@pytest.fixture
def own_bed(bed: "Bed", tmp_path: Path) -> "Bed":
    return _with(bed, tmp_path, NETWORK)


def _with(bed: "Bed", folder: Path, text: str) -> "Bed":
    from tests.e2e.bed import DEMO

    network = folder / "network.nix"
    network.write_text(text.replace("DEMO", str(DEMO)))
    return replace(bed, network=network)


def test_another_user_than_root_goes_the_whole_way(own_bed: "Bed", tmp_path: Path) -> None:
    bed = own_bed
    bed.run("deploy")
    said = bed.ssh(
        "web", "echo $USER; touch /etc/mine 2>/dev/null || echo refused; sudo -n touch /etc/mine; ls /etc/mine"
    )
    assert said.split() == ["deploy", "refused", "/etc/mine"]
    first = bed.ssh("web", SYSTEM)
    bed.run("deploy", VERSION="2")
    second = bed.ssh("web", SYSTEM)
    assert first != second
    bed.run("rollback", "web")
    assert bed.ssh("web", SYSTEM) == first
    (tmp_path / "file").write_text("hello")
    bed.run("scp", str(tmp_path / "file"), "web:file")
    assert bed.ssh("web", "cat /home/deploy/file") == "hello"
    bed.run("rescue", "web")
    assert bed.ssh("web", "echo $USER; ls /etc/nixops-proxmox-installer").split()[0] == "root", "the installer's own"
    bed.run("start", "web")
    bed.run("reinstall", "--yes", "web", VERSION="2")
    assert (bed.ssh("web", SYSTEM), bed.ssh("web", "echo $USER")) == (second, "deploy\n")
    refused = bed.run("deploy", SUDOERS="nobody", check=False)
    assert refused.returncode == 7, "the system that takes the right away does not stay"
    assert "does not stay (reverted by the guest)" in refused.stderr, refused.stderr
    assert bed.ssh("web", SYSTEM) == second
    bed.run("destroy", "--yes")


def test_the_user_is_let_in_by_the_configuration_that_comes_before_the_system(bed: "Bed", tmp_path: Path) -> None:
    bed = _with(bed, tmp_path, NETWORK.replace("ssh.user", 'install.method = "configuration"; ssh.user'))
    bed.run("deploy")
    generations = bed.ssh("web", "ls /nix/var/nix/profiles; cat /nix/var/nix/profiles/system-1-link/etc/users")
    assert {"system-1-link", "system-2-link", "deploy"} <= set(generations.split()), "the deployment replaced it"
    bed.run("destroy", "--yes")
