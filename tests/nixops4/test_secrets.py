"""Keys and files of a `nixos`: where a secret is, and never what it is."""

from dataclasses import replace
from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.model import Facts, Machine
from nixops_proxmox.nixops4.inputs import NixosInputs, parse_inputs
from nixops_proxmox.nixops4.secrets import SECRETS, recorded_secrets, said_secrets, with_secrets
from nixops_proxmox.spec import NetworkSpec
from tests.kinds.machine.cluster import COPIES, SPEC

SYSTEM = f"/nix/store/{'a' * 32}-web"
NETWORK = NetworkSpec(name="nixops4", machines=(SPEC,))


def inputs(**said: Any) -> NixosInputs:
    return parse_inputs(NixosInputs, "nixos", {"name": "web", "vm": "0f0e", "system": SYSTEM, **said})


def test_the_record_says_where_they_are_and_a_vm_has_them_from_there() -> None:
    key = {"keyFile": "/home/me/token", "keyCommand": None, "user": "app", "path": "/run/keys/token"}
    kept = said_secrets(inputs(keys={"token": key}, files={"/etc/x": {"command": ["pass", "x"], "uid": 7}}))
    found = recorded_secrets(NETWORK, SPEC, Machine("nixops4", "web", facts=replace(Facts(), extra=kept)))
    (token,), (file,) = found.sent_keys["web"], found.placed_files["web"]
    assert (token.path, token.user, token.key_file) == ("/run/keys/token", "app", "/home/me/token")
    assert (file.name, file.uid, file.command) == ("/etc/x", 7, ("pass", "x"))
    assert recorded_secrets(NETWORK, SPEC, Machine("nixops4", "web")) == NETWORK
    assert with_secrets(found, SPEC, said_secrets(inputs())).sent_keys["web"] == ()
    assert SECRETS in kept


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"keys": {"token": {"text": "hunter2"}}}, "nixos.keys.token.text"),
        ({"files": {"/a": {"text": "hunter2"}}}, "nixos.files./a.text"),
        ({"keys": {"token": "hunter2"}}, "nixos.keys.token"),
        ({"keys": {"token": {"keyFile": "hunter2"}}}, "nixos.keys.token.keyFile"),
    ],
)
def test_a_secret_that_is_said_is_refused_and_not_repeated(said: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as refused:
        said_secrets(inputs(**said))
    assert refused.value.path == path and "hunter2" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"keys": {"token": {}}}, "expected one of text, keyFile and keyCommand"),
        ({"keys": {"token": {"keyFile": "/x", "mode": "1"}}}, "web.deployment.keys.token.mode"),
        ({"files": {"/run/x": {"file": "/x"}}}, "/run is no place"),
    ],
)
def test_mistakes_are_those_of_the_other_doors(said: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        with_secrets(NETWORK, SPEC, said_secrets(inputs(**said)))


def test_a_machine_without_an_installer_has_no_files() -> None:
    with pytest.raises(SpecError, match="made without it"):
        with_secrets(NETWORK, COPIES["image"], said_secrets(inputs(files={"/a": {"file": "/x"}})))
