"""`deployment.keys`: what may be written, and what the message says where it may not."""

from typing import Any

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import parse_network

MACHINE = {"disks": [{"storage": "local-lvm", "size": "1G"}], "network": [{"bridge": "vmbr0"}]}


def keys(said: object) -> Any:
    deployment = {"proxmox": MACHINE | {"install": {"iso": "local:iso/x.iso"}}, "keys": said}
    return parse_network("shop", {"machines": {"web": {"deployment": deployment}}}).sent_keys


def test_keys_have_nixopss_words_and_defaults() -> None:
    (key,) = keys({"token": {"text": "a secret", "permissions": "640"}})["web"]
    assert (key.path, key.user, key.group, key.permissions) == ("/run/keys/token", "root", "root", "0640")
    assert "a secret" not in repr(key) and "a secret" not in key.model_dump_json()
    assert keys({}) == {} and keys(None) == {}


@pytest.mark.parametrize("said", ["hunter2", {"a": "hunter2"}, {"a": ["hunter2"]}, {"a": {"text": ["hunter2"]}}])
def test_what_may_be_a_secret_is_not_repeated(said: object) -> None:
    """Older networks for NixOps have the text itself in the place of the attribute set."""
    with pytest.raises(SpecError) as refused:
        keys(said)
    assert "web.deployment.keys" in str(refused.value) and "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([], "web.deployment.keys: expected an attribute set of keys"),
        ({"a": {}}, "web.deployment.keys.a: expected one of text, keyFile and keyCommand"),
        ({"a": {"text": "x", "keyFile": "/y"}}, "web.deployment.keys.a: expected one of text, keyFile and keyCommand"),
        ({"a": {"keyFile": "/nix/store/x"}}, "keys.a.keyFile: a secret must not be in the Nix store"),
        ({"a": {"keyCommand": []}}, "keys.a.keyCommand: expected at least one value"),
        ({"a": {"text": "x", "destDir": "run"}}, "keys.a.destDir: expected an absolute path"),
        ({"a": {"text": "x", "destDir": "/a/../nix/store"}}, "keys.a.destDir: expected an absolute path"),
        ({"a": {"text": "x", "destDir": "/nix/store/a"}}, "keys.a.destDir: a secret must not be in the Nix store"),
        ({"a": {"text": "x", "permissions": "rw"}}, "keys.a.permissions: expected an octal mode"),
        ({"a": {"text": "x", "user": "a b"}}, "keys.a.user: expected a user's name"),
        ({"../a": {"text": "x"}}, "expected a file's name"),
        ({"a": {"txt": "x"}}, "there is no such option"),
    ],
)
def test_mistakes_are_told_with_their_path(said: object, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        keys(said)
    assert message in str(refused.value)
