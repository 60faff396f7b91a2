"""No spelling of an SSH option gets round the proof of the machine's host key."""

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import parse_machine

DANGEROUS = {
    "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "GlobalKnownHostsFile": "/tmp/x",
    "UserKnownHostsFile2": "/tmp/x", "KnownHostsCommand": "/bin/echo", "HostKeyAlias": "other",
    "NoHostAuthenticationForLocalhost": "yes", "VerifyHostKeyDNS": "yes", "UpdateHostKeys": "yes", "CheckHostIP": "no",
    "ProxyCommand": "nc other 22", "ProxyJump": "other", "ProxyUseFdpass": "yes", "HostName": "other",
    "ControlPath": "/tmp/socket", "ControlMaster": "auto", "ControlPersist": "yes", "CanonicalizeHostname": "always",
    "CanonicalDomains": "example.org", "Include": "/tmp/x", "Match": "all", "Host": "*", "Port": "23", "User": "x",
    "IdentityFile": "/tmp/x", "IgnoreUnknown": "*",
}  # fmt: skip


def described(options: dict[str, object]) -> dict[str, object]:
    machine = {"disks": [{"storage": "local", "size": "4G"}], "network": [{"bridge": "vmbr0"}]}
    return {"proxmox": {**machine, "ssh": {"options": options}}}


@pytest.mark.parametrize("spelling", [str, str.lower, str.upper, str.swapcase], ids=lambda how: how.__name__)
@pytest.mark.parametrize("name", DANGEROUS)
def test_it_is_refused_in_every_spelling(name: str, spelling: type[str]) -> None:
    with pytest.raises(SpecError, match=spelling(name)):
        parse_machine("web", described({spelling(name): DANGEROUS[name]}))


@pytest.mark.parametrize(
    "name",
    [
        " StrictHostKeyChecking",
        "StrictHostKeyChecking ",
        "StrictHostKeyChecking=no",
        "\u017ftrictHostKeyChecking",
        "",
        "Strict\tHost",
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(SpecError):
        parse_machine("web", described({name: "no"}))


@pytest.mark.parametrize("value", ["x\nStrictHostKeyChecking no", "x\rHost *"])
def test_no_value_brings_a_second_line(value: str) -> None:
    with pytest.raises(SpecError, match="one line"):
        parse_machine("web", described({"SendEnv": value}))


def test_others_are_taken() -> None:
    spec = parse_machine("web", described({"Compression": True, "ServerAliveInterval": 5}))
    assert spec.ssh.options == {"Compression": "yes", "ServerAliveInterval": "5"}
