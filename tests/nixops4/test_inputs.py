"""What each resource type takes."""

from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import ConfigError, SpecError
from nixops_proxmox.kinds.medium import content_name, refuse_ending
from nixops_proxmox.nixops4.described import refuse_relative
from nixops_proxmox.nixops4.inputs import NixosInputs, StateInputs, VmInputs, parse_inputs, parse_thing
from nixops_proxmox.spec.firewall import SecurityGroup


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00b", "\x1b[2J", "x" * 201, "\ud800"], ids=repr)
def test_an_odd_name_of_a_state_is_refused_in_words(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_inputs(StateInputs, "state", {"name": name})
    assert caught.value.message.startswith("state.name: ")


@pytest.mark.parametrize("name", ["prod", "prod/eu", "Büro 2"])
def test_other_names_are_fine(name: str) -> None:
    assert parse_inputs(StateInputs, "state", {"name": name}).name == name


def test_an_odd_deployment_is_refused_without_a_pattern() -> None:
    with pytest.raises(SpecError, match=r"vm\.deployment: expected letters, digits"):
        parse_inputs(VmInputs, "vm", {"name": "web", "proxmox": {}, "deployment": "../x"})


@pytest.mark.parametrize("value", [None, "", "2026-11-29"])
def test_refresh_may_be_any_text(value: Any) -> None:
    vm = {"name": "web", "proxmox": {}, "refresh": value}
    nixos = {"name": "web", "vm": "u", "system": "/nix/store/" + "0" * 32 + "-x", "refresh": value}
    assert parse_inputs(VmInputs, "vm", vm).refresh == parse_inputs(NixosInputs, "nixos", nixos).refresh == value


@pytest.mark.parametrize("name", ["a\0b.iso", "\ud800.iso", "missing.iso", "."], ids=repr)
def test_what_is_no_file_is_an_error_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        content_name(Path(f"{tmp_path}/{name}"))


@pytest.mark.parametrize(("name", "content"), [("nixos", "iso"), ("nixos.qcow2", "iso"), ("nixos.iso", "import")])
def test_a_file_that_pve_would_refuse_by_its_name_is_not_sent(name: str, content: str) -> None:
    with pytest.raises(ConfigError, match="does not end as"):
        refuse_ending(Path(name), content)


def test_a_long_name_is_cut_and_an_odd_one_is_made_plain(tmp_path: Path) -> None:
    for stem in ("n" * 240, "mein Bild (2) ü"):
        file = tmp_path / f"{stem}.iso"
        file.write_text("x")
        refuse_ending(file, "iso")
        name = content_name(file)
        assert len(name) < 250 and name.isascii() and " " not in name and name.endswith(".iso")


@pytest.mark.parametrize(
    ("file", "fine"),
    [
        ("/home/me/list.yml", True),
        ("~/list.yml", True),
        ("./list.yml", False),
        ("/nix/store/abc-source/list.yml", False),
    ],
)
def test_a_list_of_macs_is_a_file_that_can_be_written_wherever_we_start(file: str, fine: bool) -> None:
    inputs = parse_inputs(VmInputs, "vm", {"name": "web", "proxmox": {}, "macPools": {"campus": {"file": file}}})
    if fine:
        refuse_relative(inputs)
        return
    with pytest.raises(SpecError) as caught:
        refuse_relative(inputs)
    assert caught.value.path == "vm.macPools.campus.file"


def test_the_inputs_of_a_described_thing_are_its_options() -> None:
    told = {"name": "http", "refresh": "1", "rules": [{"macro": "HTTP"}], "group": None}
    common, options = parse_thing("securityGroup", SecurityGroup, told)
    assert (common.name, common.deployment, options) == ("http", "nixops4", {"rules": [{"macro": "HTTP"}]})
    with pytest.raises(SpecError) as caught:
        parse_thing("securityGroup", SecurityGroup, {**told, "rule": []})
    assert caught.value.message == "securityGroup.rule: unknown input (did you mean rules?)"
    assert "name, deployment, refresh, " in caught.value.hint
