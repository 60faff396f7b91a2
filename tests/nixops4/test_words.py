"""What is said once, by a variable, and never by an input; and machines that another user than root is let into."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.builds import build_with_nix
from tests.e2e.bed import DEMO
from tests.e2e.test_users import NETWORK
from tests.nixops4.dialogue import Provider, create, update
from tests.nixops4.test_lab import BIGGER, PROXMOX, Start, clear_state, cli, config, running_system, vm
from tests.pace import wait_until

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns]
RECREATE, ANOTHER = "NIXOPS_PROXMOX_ALLOW_RECREATE", "NIXOPS_PROXMOX_MAKE_ANOTHER"


def test_a_machine_that_the_record_has_lost_is_not_made_twice(bed: "Bed", start: Start) -> None:
    made = start().ask_outputs(create("vm", vm()))
    clear_state(bed)
    refused = start().ask_error(create("vm", vm()))
    assert f"VM {made['vmid']} on {made['node']}" in refused and len(bed.vms()) == 1
    assert "`nixops-proxmox --deployment nixops4 recover`" in refused and f"{ANOTHER}=1" in refused
    assert "--make-another" not in refused
    assert start(**{ANOTHER: "1"}).ask_outputs(create("vm", vm()))["uuid"] != made["uuid"]
    assert len(bed.vms()) == 2


def test_a_detached_disk_is_replaced_only_by_word(bed: "Bed", start: Start) -> None:
    made = start().ask_outputs(create("vm", vm(BIGGER)))
    path = f"/nodes/{made['node']}/qemu/{made['vmid']}"
    bed.api("POST", f"{path}/config", delete="scsi1")
    wait_until(lambda: "unused0" in config(bed))
    aside = config(bed)["unused0"]
    refused = start().ask_error(update("vm", vm(BIGGER), made, vm(BIGGER, refresh="1")))
    assert aside in refused and f"`nixops4 apply` with {RECREATE}=1 creates a new, empty one" in refused
    assert "scsi1" not in config(bed)
    start(**{RECREATE: "1"}).ask_outputs(update("vm", vm(BIGGER), made, vm(BIGGER, refresh="2")))
    assert "size=2G" in config(bed)["scsi1"] and config(bed)["unused0"] == aside


def test_the_word_for_a_disk_makes_no_vm_anew(bed: "Bed", start: Start) -> None:
    made = start().ask_outputs(create("vm", vm()))
    path = f"/nodes/{made['node']}/qemu/{made['vmid']}"
    bed.api("POST", f"{path}/status/stop")
    wait_until(lambda: bed.vms()[str(made["vmid"])]["status"] == "stopped")
    bed.api("DELETE", path)
    wait_until(lambda: not bed.vms())
    refused = start(**{RECREATE: "1"}).ask_error(create("vm", vm()))
    assert f"nixops-proxmox destroy --uuid {made['uuid']}" in refused and not bed.vms()


@pytest.mark.nix
@pytest.mark.slow
def test_another_user_than_root_goes_the_whole_way(bed: "Bed", provider: Provider, tmp_path: Path) -> None:
    network = tmp_path / "network.nix"
    network.write_text(NETWORK.replace("DEMO", str(DEMO)))

    def build(version: str) -> str:
        expression = f"(import {network}).web.toplevel"
        return build_with_nix("--out-link", str(tmp_path / version), "-E", expression, VERSION=version)

    proxmox: dict[str, Any] = {**PROXMOX, "ssh": {"user": "deploy"}}
    made = provider.ask_outputs(create("vm", vm(proxmox)))
    inputs = {"name": "web", "vm": made["uuid"], "system": build("1")}
    installed = provider.ask_outputs(create("nixos", inputs))
    second = {**inputs, "system": build("2")}
    assert provider.ask_outputs(update("nixos", inputs, installed, second))["system"] == second["system"]
    assert running_system(bed) == second["system"]
    assert cli(bed, "--deployment", "nixops4", "ssh", "web", "--", "echo $USER").stdout == "deploy\n"
