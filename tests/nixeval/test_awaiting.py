"""What a guest says about what waits for its boot."""

import os
import subprocess
from pathlib import Path

import pytest

from nixops_proxmox.model import Completed
from nixops_proxmox.nixeval.awaiting import awaiting_script, parse_awaiting

HASH = "0" * 32
OLD, NEW = (f"/nix/store/{HASH}-linux-6.12.{number}/bzImage" for number in (1, 2))


@pytest.mark.parametrize(
    ("said", "known", "changes"),
    [
        (f"boot - b\nnow kernel {OLD}\nnext kernel {NEW}\n", {}, ("kernel 6.12.1 → 6.12.2",)),
        (f"boot - b\nnow kernel {OLD}\nnext kernel {OLD}\n", {}, ()),
        (f"boot - b\nnow kernel {OLD}\n", {"kernel": NEW}, ("kernel 6.12.1 → 6.12.2",)),
        (f"boot - b\nnow kernel {OLD}\n", {}, ()),
        ("boot - b\nnow kernel-params a b \nnext kernel-params a  \n", {}, ("kernel parameters",)),
        ("boot - b\nnow kernel-params a b \nnext kernel-params a b\n", {"kernel-params": "a b"}, ()),
        (
            'boot - b\nnow switch-inhibitors {"dbus": "dbus"} \n',
            {"switch-inhibitors": '{"dbus": "broker"}'},
            ("dbus: dbus → broker",),
        ),
        ("boot - b\nnow init-interface-version 1 \nnext init-interface-version 2 \n", {}, ("init: interface 1 → 2",)),
        ("boot - b\nand much\nelse\n", {}, ()),
    ],
)
def test_only_what_both_know_and_what_differs_waits(said: str, known: dict[str, str], changes: tuple[str, ...]) -> None:
    found = parse_awaiting(Completed(0, said), known)
    assert (found.boot, found.changes) == ("b", changes)


def test_a_real_shell_reads_a_system_and_changes_nothing(tmp_path: Path) -> None:
    system = tmp_path / "a system"
    system.mkdir()
    (system / "kernel").symlink_to(NEW)
    (system / "kernel-params").write_text("quiet\nloglevel=4")
    before = sorted(os.listdir(system))
    done = subprocess.run(["sh", "-c", awaiting_script(str(system))], capture_output=True, text=True, check=True)
    assert f"next kernel {NEW}\n" in done.stdout and "next kernel-params quiet loglevel=4\n" in done.stdout
    assert (
        parse_awaiting(Completed(0, done.stdout), {}).boot
        == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    )
    assert sorted(os.listdir(system)) == before
