"""What evaluates and cannot boot, or is not reached, is refused or warned of; its neighbours are not."""

from typing import Any

import pytest

from tests.nix.conftest import ROOT, Evaluate, Nixos

pytestmark = pytest.mark.nix

REFUSED = {
    "secureBootUnsigned": "neither boot.loader.systemd-boot nor boot.loader.grub is signed",
    "secureBootOurIso": "refuse the installer local:iso/nixops-proxmox-installer.iso, which is not signed",
    "zfs": 'fileSystems."/data" is zfs, which the installer local:iso/nixops-proxmox-installer.iso cannot make: build '
    "one that can (nix build .#installer-iso-zfs), upload it, and name it in install.iso: "
    "STORAGE:iso/nixops-proxmox-installer-zfs.iso",
    "encryptedByName": "http://tang.example.org has a host name, and systemd's first stage has no DNS",
    "encryptedStaticInScripts": "set boot.initrd.systemd.enable = true",
    "bcachefs": 'installer.fileSystems = [ "zfs" "bcachefs" ]), upload it, and name it in install.iso: '
    "STORAGE:iso/nixops-proxmox-installer-zfs-bcachefs.iso",
}
# What NixOS's own modules may say beside, whatever we say.
NIXOS_TOO = {"bcachefs": "Linux 6.7", "anotherIso": "Linux 6.7"}
WARNED = {"silentNic": "neither IPv4 nor IPv6", "staticWithoutNames": "no name server is known"}


@pytest.fixture(scope="module")
def told(evaluate: Evaluate, nixos: Nixos) -> dict[str, Any]:
    machines: dict[str, Any] = evaluate(
        ROOT / "tests" / "nix" / "refusals.nix", {"nixpkgs": str(nixos.tree)}, search=nixos.search
    )
    return machines


def test_what_cannot_boot_is_refused_with_the_way_out_and_nothing_else_is(told: dict[str, Any]) -> None:
    for name, machine in told.items():
        others = [message for message in machine["failed"] if message not in machine["refused"]]
        assert [part for part in others if NIXOS_TOO.get(name, "no more") not in part] == [], name
        if name in REFUSED:
            (message,) = machine["refused"]
            assert REFUSED[name] in message and message in machine["failed"]
        else:
            assert machine["refused"] == [], name


def test_a_machine_that_hears_nothing_is_warned_of(told: dict[str, Any]) -> None:
    for name, machine in told.items():
        ours = [warning for warning in machine["warnings"] if "deployment.proxmox" in warning]
        assert len(ours) == (name in WARNED), name
        assert WARNED.get(name, "") in "".join(ours)
