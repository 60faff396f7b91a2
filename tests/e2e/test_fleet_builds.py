"""Many machines and one Nix: what cannot be built, or evaluated, is one machine's own misfortune."""

from typing import TYPE_CHECKING

import pytest

from tests.e2e.bed import DEMO

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = f"""\
let
  make = import {DEMO}/builder.nix;
  hardware.deployment.proxmox = {{
    disks = [ {{ storage = "local-lvm"; size = "1G"; }} ];
    install.iso = "local:iso/lab-installer.iso";
    memory = 512;
    network = [ {{ bridge = "vmbr0"; }} ];
  }};
  service = {{ port = 80; handler = "echo hello"; }};
  part = make "database" {{ }} "echo the schema is missing >&2; exit 3";
in
{{
  app = hardware // {{ toplevel = import {DEMO}/system.nix {{ name = "app"; hosts = {{ }}; inherit service; }}; }};
  db = hardware // {{ toplevel = make "db" {{ }} "echo ${{part}} >$out"; }};
  odd = hardware // {{ toplevel = throw "the odd one is not written yet"; }};
}}
"""


def test_what_cannot_be_built_or_evaluated_stops_its_machine_and_no_other(bed: "Bed") -> None:
    fleet = bed.with_network("builds", NETWORK)
    done = fleet.run("deploy", check=False)
    assert done.returncode == 7, done.stderr
    assert {one["machine"]: one["phase"] for one in fleet.status()} == {"app": "ready"}, (
        "nothing was made for the others"
    )
    said = done.stdout + done.stderr
    assert "db: its system could not be built" in said
    assert "-database.drv' failed with exit code 3" in said and "the schema is missing" in said
    assert "machine odd: the evaluation failed" in said and "the odd one is not written yet" in said
    assert fleet.run("deploy", "app").returncode == 0, "the others go on as if nothing had happened"
