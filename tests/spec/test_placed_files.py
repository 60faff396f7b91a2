"""`deployment.files`: what may be written, and what the message says where it may not."""

from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import parse_network

MACHINE = {"disks": [{"storage": "local-lvm", "size": "1G"}], "network": [{"bridge": "vmbr0"}]}
ISO = {"iso": "local:iso/x.iso"}
IMAGE = {"from": "image", "image": "local:import/x.qcow2"}


def files(said: object, install: object = ISO) -> Any:
    deployment = {"proxmox": MACHINE | {"install": install}, "files": said}
    return parse_network("shop", {"machines": {"web": {"deployment": deployment}}}).placed_files


def test_a_file_has_a_path_and_defaults_and_shows_nothing_of_what_is_in_it() -> None:
    (file,) = files({"/etc/key": {"text": "a secret", "permissions": "640", "uid": 7}})["web"]
    assert (file.name, file.uid, file.gid, file.permissions) == ("/etc/key", 7, 0, "0640")
    assert "a secret" not in repr(file) and "a secret" not in file.model_dump_json()
    assert files({}) == {} and files(None) == {}


@pytest.mark.parametrize("said", ["hunter2", {"/a": "hunter2"}, {"/a": {"text": ["hunter2"]}}])
def test_what_may_be_a_secret_is_not_repeated(said: object) -> None:
    with pytest.raises(SpecError) as refused:
        files(said)
    assert "web.deployment.files" in str(refused.value) and "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"/a": {}}, "expected one of text, file and command"),
        ({"/a": {"text": "x", "file": "/y"}}, "expected one of text, file and command"),
        ({"/a": {"file": "/nix/store/x"}}, "a secret must not be in the Nix store"),
        ({"/a": {"text": "x", "uid": -1}}, "uid"),
        ({"/a": {"text": "x", "permissions": "rw"}}, "expected an octal mode"),
        ({"a": {"text": "x"}}, "expected the absolute path of a file"),
        ({"/a/../b": {"text": "x"}}, "expected the absolute path of a file"),
        ({"/a/": {"text": "x"}}, "expected the absolute path of a file"),
        ({"/run/key": {"text": "x"}}, "/run is no place for a file that the system is to have when it boots"),
        ({"/nix/store/x": {"text": "x"}}, "/nix/store is no place for a file"),
        ({"/etc/ssh/ssh_host_ed25519_key": {"text": "x"}}, "is written by this tool"),
        ({"/etc/nixops-proxmox/machine": {"text": "x"}}, "is written by this tool"),
    ],
)
def test_mistakes_are_told_with_their_path(said: object, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        files(said)
    assert message in str(refused.value) and "web.deployment.files" in str(refused.value)


def test_what_is_described_as_the_host_key_is_ours() -> None:
    machine = MACHINE | {"install": ISO, "ssh": {"hostKey": "/persist/key"}}
    deployment = {"proxmox": machine, "files": {"/persist/key.pub": {"text": "x"}}}
    with pytest.raises(SpecError, match="is written by this tool"):
        parse_network("shop", {"machines": {"web": {"deployment": deployment}}})


def test_a_machine_without_an_installer_refuses_them() -> None:
    with pytest.raises(SpecError, match="this machine is made without it"):
        files({"/a": {"text": "x"}}, IMAGE)
    assert files({}, IMAGE) == {}
