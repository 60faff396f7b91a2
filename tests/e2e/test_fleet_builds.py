"""Many machines and one Nix: what cannot be built, or evaluated, is one machine's own misfortune."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.bed import DEMO
from tests.nixes import store_folder
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

HARDWARE = (
    'disks = [ { storage = "local-lvm"; size = "1G"; } ]; install.iso = "local:iso/lab-installer.iso"; memory = 512;'
    ' network = [ { bridge = "vmbr0"; } ];'
)
NETWORK = f"""\
let
  make = import {DEMO}/builder.nix;
  hardware.deployment.proxmox = {{
    {HARDWARE}
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


CACHED = f"""\
let
  hardware = url: {{
    {HARDWARE}
    deploy.copying.cache = {{ push = "file://FOLDER"; inherit url; }};
  }};
  service = {{ port = 80; handler = "echo hello"; }};
  make = name: url: {{
    deployment.proxmox = hardware url;
    toplevel = import {DEMO}/system.nix {{ inherit name service; hosts = {{ }}; }};
  }};
in
{{ app = make "app" "URL"; far = make "far" "http://127.0.0.1:1"; }}
"""


def test_machines_and_their_installers_fetch_from_a_cache_or_get_a_copy(bed: "Bed", tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    folder.mkdir()
    port = free_port()
    server = [sys.executable, "-m", "http.server", "--bind", "::", "--directory", str(folder), str(port)]
    fleet = bed.with_network(
        "cached", CACHED.replace("FOLDER", str(folder)).replace("URL", f"http://[fd77:77::1]:{port}")
    )
    with log.open("w") as file, subprocess.Popen(bed.running.enter_argv(server), stderr=file) as process:
        try:
            done = fleet.run("deploy", check=False)
        finally:
            process.terminate()
    assert done.returncode == 0, done.stderr
    assert {one["machine"]: one["phase"] for one in fleet.status()} == {"app": "ready", "far": "ready"}
    assert log.read_text().count(".narinfo") > 2 and "app  warning" not in done.stderr
    assert "far  warning: it could not fetch" in done.stderr and "so it is copied from here" in done.stderr


BUILT_THERE = f"""\
let
  make = import {DEMO}/builder.nix;
  hardware.deployment.proxmox = {{
    {HARDWARE}
    deploy.buildOn = "guest";
  }};
  system = name: import {DEMO}/system.nix {{
    inherit name;
    hosts = {{ }};
    service = {{ port = 80; handler = "echo WORD"; }};
  }};
in
{{
  own = hardware // {{ toplevel = system "own"; }};
  lame = hardware // {{ toplevel = LAME; }};
}}
"""


def test_a_machine_that_runs_builds_its_own_next_system(bed: "Bed") -> None:
    """A simulated installer cannot mount what Nix needs for a store below a root, so it is installed from here."""
    first = BUILT_THERE.replace("WORD", "first").replace("LAME", 'system "lame"')
    assert bed.with_network("built-there", first).run("deploy", "--build-on", "here").returncode == 0
    broken = 'make "lame" { } "echo there is no schema >&2; exit 3"'
    fleet = bed.with_network("built-there", BUILT_THERE.replace("WORD", "second").replace("LAME", broken))
    before = {one["machine"]: one["system"] for one in fleet.status()}
    done = fleet.run("deploy", check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 7 and "lame: its system could not be built there" in said, said
    assert "there is no schema" in said and "nix-store --read-log /nix/store/" in said, said
    now = {one["machine"]: one["system"] for one in fleet.status()}
    assert now["lame"] == before["lame"] and now["own"] != before["own"]
    assert not (store_folder() / Path(now["own"]).name).exists(), "it was not built here"
    assert "second" in fleet.run("ssh", "own", "--", "cat", f"{now['own']}/bin/*", "/nix/store/*own-handler").stdout


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
