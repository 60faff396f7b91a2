"""PVE's own cloud-init drive: what is said of it in PVE's words, and what does not fit together."""

from typing import Any
from urllib.parse import unquote

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import MachineSpec, parse_machine, parse_network
from nixops_proxmox.spec.cloud_init import ip_config, with_cloud_init
from tests.spec.build import options

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJiHc3Lvb2vM1t0i3gJ9uTJ0pJ6v8O6m8H0qk0hZ5k1a me+you@home"
FIXED = {"ipv4": {"address": "192.0.2.10/24", "gateway": "192.0.2.1"}, "ipv6": {"method": "none"}, "dns": ["192.0.2.1"]}


def told(cloud_init: Any, *, network: Any = None, **more: Any) -> MachineSpec:
    install = {"from": "image", "image": "local:import/fedora.qcow2", "cloudInit": cloud_init}
    nics = [{"bridge": "vmbr0", **FIXED}] if network is None else network
    return parse_machine("web", {"proxmox": options(install=install, network=nics, **more)})


@pytest.mark.parametrize(
    ("nic", "said"),
    [
        ({}, "ip=dhcp,ip6=auto"),
        (FIXED, "ip=192.0.2.10/24,gw=192.0.2.1"),
        ({"ipv4": {"address": "192.0.2.10/24"}, "ipv6": "dhcp"}, "ip=192.0.2.10/24,ip6=dhcp"),
        (
            {"ipv4": "none", "ipv6": {"address": "2001:db8::2/64", "gateway": "fe80::1"}},
            "ip6=2001:db8::2/64,gw6=fe80::1",
        ),
        ({"ipv4": "none", "ipv6": "none"}, ""),
    ],
)
def test_the_addresses_of_a_nic_are_said_as_pve_wants_them(nic: dict[str, Any], said: str) -> None:
    (parsed,) = told({}, network=[{"bridge": "vmbr0", **nic}]).network
    assert ip_config(parsed) == said


def test_a_drive_says_who_logs_in_and_where() -> None:
    spec = told({"searchDomains": ["example.org", "lan"]}, ssh={"user": "fedora", "authorizedKeys": [KEY]})
    extra = dict(spec.extra)
    assert unquote(str(extra.pop("sshkeys"))) == KEY
    assert extra == {
        "ide0": "local-lvm:cloudinit",
        "citype": "nocloud",
        "ciuser": "fedora",
        "ciupgrade": "0",
        "nameserver": "192.0.2.1",
        "searchdomain": "example.org lan",
        "ipconfig0": "ip=192.0.2.10/24,gw=192.0.2.1",
    }


@pytest.mark.parametrize(
    ("machine", "disk", "slot"),
    [
        (None, "scsi0", "ide0"),
        ("q35", "scsi0", "scsi30"),
        ("pc-q35-9.0", "scsi0", "scsi30"),
        ("q35", "virtio0", "ide0"),
    ],
)
def test_on_a_q35_the_drive_is_where_the_disks_are(machine: str | None, disk: str, slot: str) -> None:
    disks = [{"slot": disk, "storage": "local-lvm", "size": "8G"}]
    spec = told({}, disks=disks, **({"machine": machine} if machine else {}))
    assert [key for key, value in spec.extra.items() if "cloudinit" in str(value)] == [slot]
    assert with_cloud_init(spec) == spec


def test_keys_are_encoded_once_and_each_is_there_once() -> None:
    spec = with_cloud_init(told({"sshKeys": [KEY]}), [KEY, "ssh-ed25519 AAAAC3Nz ours\n"])
    text = str(spec.extra["sshkeys"])
    assert " " not in text and "+" not in text and "%2B" in text and "%0A" in text, "PVE refuses other spellings"
    assert unquote(text).split("\n") == [KEY, "ssh-ed25519 AAAAC3Nz ours"]


def test_what_is_known_later_takes_the_place_of_what_was_said_before() -> None:
    spec = told({}, extra={"tablet": False})
    nic = spec.network[0].model_copy(update={"ipv4": spec.network[0].ipv4.model_copy(update={"gateway": None})})
    again = with_cloud_init(spec.model_copy(update={"network": (nic,)}))
    assert again.extra["ipconfig0"] == "ip=192.0.2.10/24" and again.extra["tablet"] is False
    assert with_cloud_init(again) == again


def test_name_servers_of_the_node_are_warned_of() -> None:
    nic = {"bridge": "vmbr0", **FIXED, "dns": []}
    install = {"from": "image", "image": "local:import/a.qcow2", "cloudInit": {}}
    data = {"machines": {"web": {"proxmox": options(install=install, network=[nic])}}}
    (warning,) = parse_network("demo", data).warnings
    assert "install.cloudInit.nameservers" in warning and "those of the node" in warning


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        (
            {"install": {"cloudInit": {}}},
            "install.cloudInit",
            "has no meaning for a machine that the installer installs",
        ),
        (
            {"install": {"from": "image", "image": "a:import/b.raw", "cloudInit": {}, "identity": "cloud-init"}},
            "install.cloudInit",
            "a system reads one drive",
        ),
        (
            {"install": {"from": "image", "image": "a:import/b.raw", "cloudInit": {}}, "extra": {"ciuser": "x"}},
            "extra.ciuser",
            "is set by install.cloudInit",
        ),
        (
            {"install": {"from": "image", "image": "a:import/b.raw", "cloudInit": {}}, "agent": False},
            "agent",
            "gets its identity through the guest agent",
        ),
        (
            {"install": {"from": "template", "template": 9, "cloudInit": {}}, "disks": []},
            "cloudInit.storage",
            "must be",
        ),
        (
            {"install": {"from": "image", "image": "a:import/b.raw", "cloudInit": {"sshKeys": ["x\ny"]}}},
            "install.cloudInit.sshKeys",
            "",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_machine("web", {"proxmox": options(**changes)})
    assert path in str(refused.value) and said in str(refused.value)
