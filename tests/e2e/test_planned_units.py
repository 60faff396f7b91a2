"""A plan says what becomes of the units of a machine that runs, and a deploy does just that."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

# With a kernel, and with NixOS's check of what may not change while the machine runs.
WITH_KERNEL = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  builder = import DEMO/builder.nix;
  base = import DEMO/system.nix {
    name = "web";
    hosts = { };
    service = { port = 80; handler = "echo hello"; };
  };
  kernel = builder "linux-6.12.${from "VERSION" "1"}" { } ''mkdir $out; head -c 100000 /dev/zero >$out/bzImage'';
in
{
  web = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
    };
    toplevel = builder "web" { } ''
      cp -a ${base} $out
      chmod -R u+w $out
      ln -s ${kernel}/bzImage $out/kernel
      echo '{"dbus": "${from "DBUS" "dbus"}"}' >$out/switch-inhibitors
      sed -i "s|${base}|$out|g" $out/activate $out/bin/switch-to-configuration
      mv $out/bin/switch-to-configuration $out/bin/checked
      cat >$out/bin/switch-to-configuration <<EOF
      #!/bin/sh
      current=/run/current-system/switch-inhibitors
      case "\\$1" in boot | dry-activate) exec $out/bin/checked "\\$1" ;; esac
      if [ -e "\\$current" ] && ! cmp -s "\\$current" "$out/switch-inhibitors"; then
        echo "Pre-switch check 'switchInhibitors' failed"
        exit 1
      fi
      exec $out/bin/checked "\\$@"
      EOF
      chmod +x $out/bin/switch-to-configuration
    '';
  };
}
"""
PIDS = 'for file in /run/services/*.pid; do echo "${file##*/} $(cat $file)"; done; readlink -f /run/current-system'


def planned(bed: "Bed", *arguments: str, version: str = "1") -> Any:
    return json.loads(bed.run("plan", "--json", *arguments, VERSION=version).stdout)["machines"][0]


def test_units_are_told_where_the_system_is_on_the_machine_and_a_plan_changes_nothing(bed: "Bed") -> None:
    bed.run("deploy")
    before = bed.ssh("web", PIDS)
    plan = planned(bed, version="2")
    assert plan["units"] is None and plan["units unknown"] == "the new system is not on the machine"
    assert bed.ssh("web", f"ls -d {plan['system']} 2>/dev/null || echo none").strip() == "none"
    told = bed.run("plan", VERSION="2")
    assert told.stderr.splitlines()[0] == "a new system for web"
    assert "a new system" not in bed.run("plan").stderr
    lines = told.stdout
    assert (
        "units: unknown, because the new system is not on the machine; `nixops-proxmox plan --copy` copies it" in lines
    )

    bed.forget_calls()
    plan = planned(bed, "--copy", version="2")
    assert plan["units"] == {"restarts": ["web.service"], "stops": [], "reloads": [], "starts": [], "keeps": []}
    assert plan["units unknown"] is None
    assert "    restarts web.service\n" in bed.run("plan", VERSION="2").stdout, "it is there now"
    assert [call for call in bed.calls() if call["method"] != "GET"] == []
    assert bed.ssh("web", PIDS) == before

    bed.run("deploy", VERSION="2")
    assert bed.ssh("web", PIDS) != before
    assert planned(bed, version="2")["units"] is None, "nothing is left to do"
    plan = planned(bed)
    assert plan["units"]["restarts"] == ["web.service"], "the old system is still there"


def test_what_waits_for_a_boot_is_told_and_so_is_what_cannot_go_live(bed: "Bed", tmp_path: Path) -> None:
    from tests.e2e.bed import DEMO

    network = tmp_path / "network.nix"
    network.write_text(WITH_KERNEL.replace("DEMO", str(DEMO)))
    bed = replace(bed, network=network)
    bed.run("deploy")
    boot = bed.ssh("web", "cat /proc/sys/kernel/random/boot_id")
    told = bed.run("plan", VERSION="2").stdout
    assert "    at the next restart: kernel 6.12.1 → 6.12.2\n" in told
    assert "    linux 6.12.1 → 6.12.2\n" in told and re.search(r"1 package changes, at most \d+ KiB to copy", told)
    bed.run("deploy", VERSION="2")
    assert bed.ssh("web", "cat /proc/sys/kernel/random/boot_id") == boot, "nobody restarts it for a kernel"

    assert "    at the next restart: kernel 6.12.1 → 6.12.3\n" in bed.run("plan", VERSION="3").stdout, "2 still waits"
    told = bed.run("plan", VERSION="2", DBUS="broker").stdout
    assert "    at the next restart: kernel 6.12.1 → 6.12.2\n" in told
    assert "    cannot go live: dbus: dbus → broker; " in told and "`nixops-proxmox reboot web` boots it" in told
    done = bed.run("deploy", check=False, VERSION="2", DBUS="broker")
    assert done.returncode and "takes effect only after a reboot" in done.stderr, done.stderr
    bed.run("reboot", "web", VERSION="2", DBUS="broker")
    bed.run("deploy", VERSION="2", DBUS="broker")
    assert bed.ssh("web", "cat /run/current-system/switch-inhibitors").strip() == '{"dbus": "broker"}'
    assert "nothing to do" in bed.run("plan", VERSION="2", DBUS="broker").stdout

    told = bed.run("plan", "--allow-reboot", VERSION="3", DBUS="dbus").stdout
    assert "it restarts once: kernel 6.12.2 → 6.12.3, dbus: broker → dbus (down " in told, told
    assert "cannot go live: dbus: broker → dbus; the restart boots it" in told
    boot = bed.ssh("web", "cat /proc/sys/kernel/random/boot_id")
    done = bed.run("deploy", "--allow-reboot", VERSION="3", DBUS="dbus")
    assert "defect" not in done.stderr, done.stderr
    assert bed.ssh("web", "cat /proc/sys/kernel/random/boot_id") != boot
    assert "6.12.3" in bed.ssh("web", "readlink /run/booted-system/kernel")
    assert "nothing to do" in bed.run("plan", "--allow-reboot", VERSION="3", DBUS="dbus").stdout
