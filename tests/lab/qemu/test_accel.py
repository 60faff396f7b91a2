"""KVM is used only after it has booted a kernel; the reason is told either way."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from nixops_proxmox.lab.machines.qemu.accel import READY, find_accel


def never(argv: Sequence[str]) -> str:
    raise AssertionError("nothing to probe")


def test_no_device_means_tcg(tmp_path: Path) -> None:
    accel = find_accel(Path("k"), Path("i"), device=tmp_path / "kvm", pvm=tmp_path / "pvm", run=never)
    assert (accel.name, accel.reason) == ("tcg", f"there is no {tmp_path}/kvm")


def test_pvm_means_tcg_without_a_probe(tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    (tmp_path / "pvm").mkdir()
    accel = find_accel(Path("k"), Path("i"), device=tmp_path / "kvm", pvm=tmp_path / "pvm", run=never)
    assert accel.name == "tcg"
    assert "kvm_pvm" in accel.reason


@pytest.mark.parametrize(("said", "name"), [(f"SeaBIOS\n{READY}\n", "kvm"), ("SeaBIOS", "tcg"), ("", "tcg")])
def test_a_device_counts_when_a_kernel_got_to_userspace(tmp_path: Path, said: str, name: str) -> None:
    (tmp_path / "kvm").touch()
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> str:
        asked.append(argv)
        return said

    accel = find_accel(Path("/kernel"), Path("/initrd"), device=tmp_path / "kvm", pvm=tmp_path / "pvm", run=run)
    assert accel.name == name
    [argv] = asked
    assert "/kernel" in argv
    assert "kvm" in argv
