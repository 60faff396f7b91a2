"""A container of the lab as a real one: namespaces of its own, its template's files as its root, and SSH into it."""

import json
import os
from typing import TYPE_CHECKING

import pytest

from nixops_proxmox.spec.volume import PLACE, serial_of
from tests.e2e.bed import DEMO
from tests.lab.test_containers import write_archive

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly]

NETWORK = """\
let
  template = import DEMO/builder.nix "template" { } ''
    mkdir -p $out/tarball; cp ${./nixos.tar.gz} $out/tarball/nixos.tar.gz
  '';
in {
  resources.volumes.data = { kind = "container"; storage = "local-lvm"; size = "1G"; };
  web = {
    toplevel = import DEMO/system.nix {
      name = "web";
      service = { port = 80; handler = "echo web"; };
      hosts.web = { ipv4 = "10.77.0.11"; ipv6 = "fd77:77::11"; };
    };
    deployment.proxmox = {
      kind = "container";
      memory = 256;
      container = { inherit template; root = { storage = "local-lvm"; size = "2G"; }; };
      network = [ { bridge = "vmbr0"; } ];
      volumes = [ "data" ];
    };
  };
}
"""
LEDGER = f"{PLACE}{serial_of('inside', 'data')}/ledger"


def test_it_is_made_entered_made_again_and_its_volume_stays(bed: "Bed") -> None:
    inside = bed.with_network("inside", NETWORK.replace("DEMO", str(DEMO)))
    write_archive(inside.network.parent / "nixos.tar.gz", ("etc/ssh", "nix/store", "root", "sbin"))
    assert "upload the template nixos-" in inside.run("plan").stdout
    inside.run("deploy")
    (guest,) = [one for one in bed.api("GET", "/cluster/resources", type="vm") if one["name"] == "web"]
    assert guest["type"] == "lxc" and guest["status"] == "running"
    inside.ssh("web", f"echo precious > {LEDGER}; echo mine > /root/note")
    spaces = inside.ssh("web", "for space in mnt pid uts net; do readlink /proc/self/ns/$space; done").split()
    assert not set(spaces) & {os.readlink(f"/proc/self/ns/{space}") for space in ("mnt", "pid", "uts", "net")}
    inside.run("reinstall", "--yes", "web")
    again = inside.ssh("web", f"cat {LEDGER}; test -e /root/note || echo new")
    assert again.split() == ["precious", "new"]
    (told,) = json.loads(inside.run("volume", "list", "--json").stdout)["volumes"]
    assert (told["phase"], told["machine"]) == ("attached", "web")
    assert "deleted local:vztmpl/nixos-" in inside.run("destroy", "--yes").stderr
    (kept,) = bed.api("GET", "/cluster/resources", type="vm")
    assert (kept["vmid"], kept["status"]) == (900000, "stopped")
