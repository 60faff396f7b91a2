"""What people copy: the examples, the template and the documents' Nix, evaluated whole by the stand-in for NixOS, and
by NixOS's own modules where they are."""

import re
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.spec import parse_network
from tests.nix.conftest import ROOT, Evaluate, Nixos

pytestmark = pytest.mark.nix

ISO = "local:iso/nixops-proxmox-installer.iso"
ON_THE_LAB = [  # with the lab's installer
    "docs/with-nixops2.md 0",
    "examples/behind-a-gateway/network.nix",
    "examples/laboratory/network.nix",
]
FILES = [
    "examples/behind-a-gateway/network.nix",
    "examples/containers/network.nix",
    "examples/encrypted/network.nix",
    "examples/laboratory/network.nix",
    "examples/nixops4/flake.nix",
    "examples/proxmox/network.nix",
    "nix/template/flake.nix",
]
# Documents and the number of a block in them, from the first.
BLOCKS = ["README.md 0", "docs/with-flakes.md 0", "docs/with-nixops2.md 0"]
FRAGMENTS = [
    "docs/addresses.md 0",
    "docs/addresses.md 1",
    "docs/addresses.md 2",
    "docs/adopt.md 0",
    "docs/check.md 0",
    "docs/encryption.md 0",
    "docs/encryption.md 1",
    "docs/encryption.md 2",
    "docs/encryption.md 3",
    "docs/encryption.md 4",
    "docs/containers.md 0",
    "docs/containers.md 1",
    "docs/firewall.md 0",
    "docs/firewall.md 1",
    "docs/gateway.md 0",
    "docs/ha.md 0",
    "docs/images.md 0",
    "docs/images.md 1",
    "docs/images.md 2",
    "docs/images.md 3",
    "docs/many-machines.md 0",
    "docs/mappings.md 0",
    "docs/moving.md 0",
    "docs/disks.md 0",
    "docs/probation.md 0",
    "docs/disks.md 1",
    "docs/networks.md 0",
    "docs/replication.md 0",
    "docs/reservations.md 0",
    "docs/resources.md 0",
    "docs/resources.md 1",
    "docs/rolling.md 0",
    "docs/routing.md 0",
    "docs/secrets.md 0",
    "docs/secrets.md 1",
    "docs/secrets.md 2",
    "docs/storages.md 0",
    "docs/templates.md 0",
    "docs/templates.md 1",
    "docs/templates.md 2",
    "docs/tenants.md 0",
    "docs/volumes.md 0",
    "docs/volumes.md 1",
    "docs/with-nixops2.md 1",
    "docs/with-nixops2.md 2",
    "docs/with-nixops4.md 0",
    "docs/with-nixops4.md 1",
]


RESOURCES = [
    "docs/firewall.md 0",
    "docs/firewall.md 1",
    "docs/ha.md 0",
    "docs/mappings.md 0",
    "docs/replication.md 0",
    "docs/routing.md 0",
    "docs/storages.md 0",
    "docs/tenants.md 0",
]


def _block(name: str) -> str:
    document, _, number = name.partition(" ")
    blocks: list[str] = re.findall(r"(?s)```nix\n(.*?)```", (ROOT / document).read_text())
    return blocks[int(number)]


def test_every_block_of_nix_in_the_documents_is_looked_at() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    found = {
        f"{path.relative_to(ROOT)} {number}"
        for path in documents
        for number in range(path.read_text().count("```nix\n"))
    }
    assert found == {*BLOCKS, *FRAGMENTS}


@pytest.mark.parametrize("name", FRAGMENTS)
def test_parts_of_a_configuration_parse(evaluate: Evaluate, name: str) -> None:
    names = "providers: members: hardware: system: "
    assert evaluate(f"builtins.isFunction ({names}{{ {_block(name)} }})")


@pytest.mark.parametrize("name", RESOURCES)
def test_resources_in_the_documents_are_what_a_network_may_have(evaluate: Evaluate, name: str) -> None:
    told: dict[str, Any] = evaluate(f"{{ {_block(name)} }}")
    resources = told.pop("resources")
    told.setdefault("probe", {"deployment": {"proxmox": {}}})
    needed = {"disks": [{"storage": "local-lvm", "size": "4G"}], "network": [{"bridge": "vmbr0"}]}
    machines = {one: {"proxmox": {**needed, **said["deployment"]["proxmox"]}} for one, said in told.items()}
    assert parse_network("written", {"machines": machines, "resources": resources}).resources


@pytest.mark.parametrize("name", [*FILES, *BLOCKS])
def test_it_evaluates_as_it_stands(evaluate: Evaluate, nixos: Nixos, tmp_path: Path, name: str) -> None:
    file = ROOT / name
    if name in BLOCKS:
        file = tmp_path / "written.nix"
        file.write_text(_block(name))
    told: dict[str, Any] = evaluate(
        ROOT / "tests" / "nix" / "written.nix",
        {"nixpkgs": str(nixos.tree), "file": str(file)},
        search=nixos.search,
    )
    assert told
    for machine, system in told.items():
        assert system["failed"] == [], machine
        assert system["evaluates"] and system["saysStateVersion"], machine
        if system["proxmox"]["kind"] == "vm":
            iso = system["proxmox"]["install"]["iso"]
            assert iso in (ISO, "local:iso/lab-installer.iso") and ("lab" in iso) == (name in ON_THE_LAB)
        keys = system["proxmox"]["ssh"].get("authorizedKeys", [])
        system["proxmox"]["ssh"]["authorizedKeys"] = [key for key in keys if "AAAA…" not in key]
    spec = {name: {"deployment": {"proxmox": system["proxmox"]}} for name, system in told.items()}
    assert parse_network("written", {"network": {}, "machines": spec}).warnings == ()
