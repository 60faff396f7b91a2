"""A `vm` that is a container: made, reached, given a system, and applied again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.test_containers import write_archive
from tests.nixops4.conftest import Build
from tests.nixops4.dialogue import Provider, create, update

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.nix]


def inputs(template: Path, **changes: Any) -> dict[str, Any]:
    proxmox = {
        "profile": "lab",
        "kind": "container",
        "memory": 512,
        "network": [{"bridge": "vmbr0"}],
        "container": {"template": str(template), "root": {"storage": "local-lvm", "size": "1G"}},
    }
    return {"name": "web", "proxmox": proxmox | changes}


def test_a_container_is_a_vm_whose_kind_says_so(
    bed: "Bed", provider: Provider, build_system: Build, tmp_path: Path
) -> None:
    template, system = tmp_path / "nixos.tar.gz", build_system("1")
    write_archive(template, ("etc/ssh", "nix/store", "root", "sbin"))
    made = provider.ask_outputs(create("vm", inputs(template)))
    assert provider.ask_outputs(create("vm", inputs(template))) == made
    nixos = provider.ask_outputs(create("nixos", {"name": "web", "vm": made["uuid"], "system": system}))
    assert (nixos["system"], [nixos["sshHostKey"]]) == (system, made["sshHostKeys"])
    more = inputs(template, memory=768)
    assert provider.ask_outputs(update("vm", inputs(template), made, more))["uuid"] == made["uuid"]
    assert len(bed.tasks("vzcreate")) == 1
