"""Networks written for the original plugin still read."""

from typing import Any

import pytest

from nixops_proxmox.spec import Efi, NetworkSpec, parse_network
from tests.spec.build import machine, mistakes, options

# What an evaluation of the original plugin's options gives, unset ones and its defaults included.
ORIGINAL: dict[str, Any] = {
    "profile": "production1",
    "serverUrl": "https://192.0.2.1:8006",
    "username": "deploy@pve",
    "tokenName": "nixops",
    "tokenValue": None,
    "password": None,
    "verifySSL": True,
    "usePrivateIPAddress": False,
    "useSSH": False,
    "node": None,
    "pool": "dev",
    "network": [
        {
            "model": "virtio",
            "bridge": "vmbr0",
            "tag": 100,
            "trunks": [100, 200],
            "ip": {"v4": {"address": "192.168.1.10", "prefixLength": "24", "gateway": "192.168.1.254"}, "v6": None},
        },
        {"bridge": "vmbr1", "ip": {"v4": {"address": "dhcp", "prefixLength": None, "gateway": None}}},
    ],
    "partitions": "wipefs -f /dev/sda\n",
    "disks": [
        {"volume": "local-lvm", "size": "20G", "aio": "native", "enableSSDEmulation": True, "enableDiscard": False}
    ],
    "uefi": {"enable": True, "volume": "local"},
    "nbCpus": 1,
    "nbCores": 2,
    "memory": 1024,
    "startOnBoot": True,
    "protectVM": False,
    "hotplugFeatures": "disk,network",
    "cpuLimit": 2,
    "cpuUnits": None,
    "cpuType": "kvm64",
    "arch": "x86_64",
    "expertArgs": None,
    "vmid": None,
    "installISO": "local:iso/nixos.iso",
}


def parsed(**more: Any) -> NetworkSpec:
    return parse_network("old", {"machines": {"web": {"deployment": {"proxmox": {**ORIGINAL, **more}}}}})


def test_every_option_has_a_place() -> None:
    (spec,) = parsed().machines
    assert (spec.profile, spec.server_url, spec.username, spec.token_name) == (
        "production1", "https://192.0.2.1:8006", "deploy@pve", "nixops",
    )  # fmt: skip
    assert (spec.cpu.sockets, spec.cpu.cores, spec.cpu.type, spec.cpu.limit) == (1, 2, "kvm64", 2)
    assert (spec.onboot, spec.protection, spec.hotplug, spec.memory) == (True, False, "disk,network", 1024)
    assert (spec.bios, spec.efi) == ("ovmf", Efi(storage="local"))
    assert (spec.install.iso, spec.install.partition) == ("local:iso/nixos.iso", "wipefs -f /dev/sda\n")
    disk, nic = spec.disks[0], spec.network[0]
    assert (disk.slot, disk.storage, disk.size, disk.ssd, disk.discard) == ("scsi0", "local-lvm", 20 << 30, True, False)
    assert (nic.tag, nic.trunks, nic.ipv4.prefix, str(nic.ipv4.gateway)) == (100, ("100", "200"), 24, "192.168.1.254")
    assert (nic.ipv6.method, spec.network[1].ipv4.method) == ("auto", "dhcp")
    assert spec.endpoint.reaches == ("public", "private"), "it took the public address unless told otherwise"


def test_the_new_names_are_told() -> None:
    warnings = parsed().warnings
    assert "web.deployment.proxmox.nbCores: is now called cpu.cores" in warnings
    assert "web.deployment.proxmox.disks[0].volume: is now called storage" in warnings
    assert "web.deployment.proxmox.network[0].ip.v4: is now called ipv4" in warnings


def test_new_names_need_no_words() -> None:
    assert parse_network("new", {"machines": {"web": {"proxmox": options(cpu={"cores": 2})}}}).warnings == ()


@pytest.mark.parametrize(("option", "word"), [({"verifySSL": False}, "always verified"), ({"useSSH": True}, "HTTPS")])
def test_what_has_no_effect_any_more_is_told(option: dict[str, bool], word: str) -> None:
    assert any(word in warning for warning in parsed(**option).warnings)


def test_both_names_may_be_there_when_they_agree() -> None:
    both = machine(nbCores=2, cpu={"cores": 2}, efi={"storage": "local"}, uefi={"enable": True, "volume": "local"})
    assert both.cpu.cores == 2
    assert mistakes(nbCores=2, cpu={"cores": 3}) == {
        "nbCores": "is the old name of web.deployment.proxmox.cpu.cores, and they differ: set only one"
    }


def test_mistakes_are_told_under_the_name_that_was_written() -> None:
    found = mistakes(nbCores=0, uefi={"enable": True, "volume": "a b", "foo": 1}, disks=[{"volume": 5, "size": 1}])
    assert found == {
        "nbCores": "expected at least 1, got 0",
        "uefi.foo": "there is no such option",
        "uefi.volume": 'expected the name of a storage such as local-lvm, got "a b"',
        "disks[0].volume": "expected a string, got 5",
    }


def test_firmware_that_is_switched_off_says_nothing() -> None:
    assert machine(uefi={"enable": False, "volume": "local"}).bios is None
    assert mistakes(uefi={"enable": True}) == {"uefi.volume": "must be set: the storage of the EFI disk"}


def test_private_addresses_only_may_be_asked_for() -> None:
    assert machine(usePrivateIPAddress=True).endpoint.reaches == ("private",)
    assert machine(usePrivateIPAddress=True, endpoint={"reaches": ["public"]}).endpoint.reaches == ("public",)
