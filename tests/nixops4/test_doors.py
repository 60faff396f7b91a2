"""One definition, two doors: the command line and NixOps 4 make the same VM of it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nixops4.conftest import SYSTEM, Build
from tests.nixops4.dialogue import Provider, create
from tests.pace import patience

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
{
  web = {
    deployment.proxmox = {
      profile = "lab";
      bios = "ovmf";
      efi.storage = "local-lvm";
      cpu = { cores = 2; type = "host"; };
      disks = [
        { storage = "local-lvm"; size = "1G"; discard = true; ssd = true; }
        { slot = "scsi4"; storage = "local-lvm"; size = "2G"; serial = "data"; }
      ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 768;
      network = [
        {
          bridge = "vmbr0";
          mac = "bc:24:11:00:00:07";
          ipv4 = { method = "static"; address = "10.77.0.17"; prefix = 24; };
          ipv6 = { method = "static"; address = "fd77:77::17"; prefix = 64; };
        }
        { bridge = "vmbr2"; tag = 20; firewall = true; }
      ];
      onboot = true;
      tags = [ "shop" "web" ];
    };
    toplevel = import SYSTEM { version = "1"; };
  };
}
"""


def evaluate(file: Path, attribute: str) -> Any:
    argv = ["nix-instantiate", "--eval", "--strict", "--json", str(file), "-A", attribute]
    return json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=patience(60)).stdout)


def comparable(bed: "Bed") -> dict[str, str]:
    """The only VM's configuration, without what differs between any two VMs: identities, and what is named by them."""
    ((vmid, machine),) = bed.vms().items()
    config = {key: str(value) for key, value in machine["config"].items()}
    (uuid,) = re.findall(r"uuid=([0-9a-fA-F-]{36})", config["smbios1"])
    for key in ("digest", "vmgenid", "meta"):
        config.pop(key, None)
    for key, value in config.items():
        value = value.replace(uuid, "UUID").replace(vmid, "VMID")
        value = re.sub(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", "MAC", value) if key == "net1" else value
        config[key] = re.sub(r"serial=(?!data)[0-9A-Za-z_-]+", "serial=SERIAL", value)
    return config


def test_both_doors_make_the_same_vm(
    bed: "Bed", start: Callable[..., Provider], build_system: Build, tmp_path: Path
) -> None:
    system = build_system("1")
    file = tmp_path / "shop" / "network.nix"
    file.parent.mkdir()
    file.write_text(NETWORK.replace("SYSTEM", str(SYSTEM)))

    command = [sys.executable, "-m", "nixops_proxmox", "-f", str(file), "deploy"]
    done = subprocess.run(command, env=bed.environment, capture_output=True, text=True, timeout=patience(120))
    assert done.returncode == 0, done.stderr
    by_command = comparable(bed)
    bed.reset()

    provider = start(NIXOPS_PROXMOX_STATE=str(tmp_path / "another.sqlite"))
    web = {"name": "web", "deployment": "shop"}
    made = provider.ask_outputs(create("vm", {**web, "proxmox": evaluate(file, "web.deployment.proxmox")}))
    nixos = {**web, "vm": made["uuid"], "system": system}
    assert provider.ask_outputs(create("nixos", nixos))["system"] == system
    assert comparable(bed) == by_command
    assert by_command["memory"] == "768" and "scsi4" in by_command, "the description was followed at all"
