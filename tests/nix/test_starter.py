"""The network that `init` writes: it evaluates as it stands, with whatever names a cluster has."""

from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.messages.starter import flake_texts, lab_text, network_text
from nixops_proxmox.operations.beginning import FirstChoice, first_machine
from nixops_proxmox.spec import parse_network
from tests.nix.conftest import ROOT, Evaluate, Nixos

pytestmark = pytest.mark.nix

USUAL = FirstChoice("local-lvm", "vmbr0", "local:iso/nixops-proxmox-installer.iso", has_iso=True)
HOSTILE = FirstChoice('a"; b = "${x}', "vmbr0\\", "${y}:iso/'' z.iso", has_iso=True)


@pytest.mark.parametrize("form", ["file", "flake"])
def test_it_evaluates_to_the_machine_that_was_chosen(
    evaluate: Evaluate, nixos: Nixos, tmp_path: Path, form: str
) -> None:
    texts = (
        flake_texts(USUAL, "default")
        if form == "flake"
        else {"network.nix": network_text(USUAL, "default", has_nixpkgs=False)}
    )
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    told: dict[str, Any] = evaluate(
        ROOT / "tests" / "nix" / "written.nix",
        {"nixpkgs": str(nixos.tree), "file": str(tmp_path / [*texts][-1])},
        search=nixos.search,
    )
    (web,) = told.values()
    assert web["failed"] == [] and web["evaluates"] and web["saysStateVersion"]
    network = {"network": {}, "machines": {"web": {"deployment": {"proxmox": web["proxmox"]}}}}
    (machine,) = parse_network("shop", network).machines
    promised = first_machine(USUAL, "default")
    assert (machine.disks, machine.network, machine.install.iso) == (
        promised.disks,
        promised.network,
        promised.install.iso,
    ), "what init tested the rights of"


@pytest.mark.parametrize("make", [network_text, lab_text], ids=["a network", "for the lab"])
def test_a_stranger_s_names_stay_texts(evaluate: Evaluate, make: Any) -> None:
    more: dict[str, Any] = {"has_nixpkgs": True} if make is network_text else {"system": "/nowhere.nix"}
    told: Any = evaluate(f"let it = {make(HOSTILE, 'a ${b}', **more)}; in [ (it.defaults or {{ }}) it.web.deployment ]")
    merged = {**told[0].get("deployment", {}).get("proxmox", {}), **told[1]["proxmox"]}
    assert merged["disks"][0]["storage"] == HOSTILE.storage and merged["network"][0]["bridge"] == HOSTILE.bridge
    assert merged["install"]["iso"] == HOSTILE.iso and merged["profile"] == "a ${b}"
