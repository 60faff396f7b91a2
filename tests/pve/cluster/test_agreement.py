"""A description that names its hypervisor, its user or its token is not carried out by another."""

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.pve.cluster.agreement import refuse_other_profile
from nixops_proxmox.pve.wire.profiles import parse_profile
from nixops_proxmox.spec import parse_machine
from tests.pve.specs import spec

BY_TOKEN = {"endpoint": "https://pve1:8006", "token": "me@example.org@ldap!ci=secret"}
BY_PASSWORD = {"endpoint": "https://pve1:8006", "username": "root@pam", "password": "x"}
BY_COMMAND = {"endpoint": "https://pve1:8006", "token_command": "pass pve"}


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (BY_TOKEN, {"username": "me@example.org@ldap", "token_name": "ci", "server_url": "pve1"}),
        (BY_TOKEN, {"username": "me@example.org"}),
        (BY_PASSWORD, {"username": "root@pam"}),
        (BY_PASSWORD, {"username": "root"}),
        (BY_COMMAND, {}),
    ],
)
def test_who_agrees_goes_on(profile: dict[str, str], said: dict[str, str]) -> None:
    refuse_other_profile(spec(**said), parse_profile("x", profile))


@pytest.mark.parametrize(
    ("profile", "said", "words"),
    [
        (BY_TOKEN, {"username": "you@ldap"}, "username = 'you@ldap'.*logs in as me@example.org@ldap"),
        (BY_TOKEN, {"token_name": "cd"}, "tokenName = 'cd'.*me@example.org@ldap!ci"),
        (BY_PASSWORD, {"token_name": "ci"}, "has no API token"),
        (BY_COMMAND, {"token_name": "ci"}, "add `token_id`"),
        (BY_COMMAND, {"username": "root@pam"}, "add `token_id`"),
        (BY_TOKEN, {"server_url": "pve2"}, "serverUrl = 'pve2'"),
    ],
)
def test_who_does_not_is_refused_before_anything_is_asked(
    profile: dict[str, str], said: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        refuse_other_profile(spec(**said), parse_profile("x", profile))
    assert "secret" not in f"{refused.value.message}{refused.value.hint}"


def test_a_user_of_a_directory_may_have_an_at_sign() -> None:
    options = {
        "username": "user@example.org@realm",
        "disks": [{"storage": "local", "size": "4G"}],
        "network": [{"bridge": "vmbr0"}],
    }
    assert parse_machine("web", {"proxmox": options}).username == "user@example.org@realm"
