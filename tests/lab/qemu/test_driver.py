"""What the driver needs from the host, said in words when it is not there."""

from pathlib import Path

import pytest

from nixops_proxmox.lab.machines.qemu.driver import check_tun
from nixops_proxmox.lab.network import NamespaceError, Privilege


def test_a_host_without_tap_devices_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NamespaceError, match="modprobe tun"):
        check_tun(Privilege.ROOT, tmp_path / "tun")


@pytest.mark.parametrize("privilege", list(Privilege))
def test_a_usable_device_is_fine(tmp_path: Path, privilege: Privilege) -> None:
    device = tmp_path / "tun"
    with pytest.raises(NamespaceError):
        check_tun(privilege, device)
    device.touch(0o666)
    check_tun(privilege, device)
