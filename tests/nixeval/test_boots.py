"""What of a system waits for a boot, and what NixOS does not switch to."""

from pathlib import Path

import pytest

from nixops_proxmox.nixeval.boots import find_later, find_refusals, read_boots

OLD = {
    "kernel": f"/nix/store/{'1' * 32}-linux-6.12.55/bzImage",
    "initrd": f"/nix/store/{'2' * 32}-initrd-linux-6.12.55/initrd",
    "kernel-modules": f"/nix/store/{'3' * 32}-kernel-modules",
    "kernel-params": "loglevel=4",
}


def make_system(folder: Path, version: str) -> None:
    """As NixOS lays it out: links that lead into other store paths, and small files."""
    folder.mkdir()
    (folder / "kernel").symlink_to(f"/nix/store/{'1' * 32}-linux-{version}/bzImage")
    (folder / "initrd").symlink_to(f"/nix/store/{'2' * 32}-initrd-linux-{version}/initrd")
    (folder / "kernel-params").write_text("loglevel=4\n")
    (folder / "inhibitors").write_text('{"dbus": "broker"}')
    (folder / "switch-inhibitors").symlink_to(folder / "inhibitors")
    (folder / "initrd-secrets").write_bytes(b"\xff")


def test_what_a_boot_takes_up_is_read_from_the_system(tmp_path: Path) -> None:
    make_system(tmp_path / "system", "6.12.55")
    expected = {**OLD, "switch-inhibitors": '{"dbus": "broker"}'}
    del expected["kernel-modules"]
    assert read_boots(tmp_path / "system") == expected
    assert read_boots(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ()),
        ({"kernel": f"/nix/store/{'9' * 32}-linux-6.12.60/bzImage"}, ("kernel 6.12.55 → 6.12.60",)),
        ({"kernel": f"/nix/store/{'9' * 32}-linux-zen-6.18/bzImage"}, ("kernel 6.12.55 → 6.18",)),
        ({"kernel": f"/nix/store/{'9' * 32}-linux-6.12.55/bzImage"}, ("kernel",)),
        ({"kernel": "elsewhere"}, ("kernel",)),
        ({"initrd": "/other", "kernel-modules": "/other"}, ("initrd", "kernel modules")),
        ({"kernel-params": "quiet"}, ("kernel parameters",)),
        ({"switch-inhibitors": "{}"}, ()),
    ],
)
def test_what_waits_for_a_boot_is_named(change: dict[str, str], expected: tuple[str, ...]) -> None:
    assert find_later(OLD, OLD | change) == expected


def test_what_is_not_known_of_one_of_them_is_no_change() -> None:
    assert find_later({}, OLD) == find_later(OLD, {}) == ()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ('{"dbus": "dbus", "old": "1"}', '{"dbus": "broker", "new": "1"}', ("dbus: dbus → broker",)),
        ('{"dbus": "dbus"}', '{"dbus": "dbus", "x": "y"}', ()),
        ("{}", '{"dbus": "dbus"}', ()),
        ("/nix/store/a", "/nix/store/b", ("switch inhibitors",)),
        ("/nix/store/a", "/nix/store/a", ()),
        ("[1]", "[" * 100_000, ("switch inhibitors",)),
    ],
)
def test_inhibitors_are_compared_as_nixos_compares_them(before: str, after: str, expected: tuple[str, ...]) -> None:
    assert find_refusals({"switch-inhibitors": before}, {"switch-inhibitors": after}) == expected
    assert find_refusals({}, {"switch-inhibitors": after}) == ()


def test_another_init_is_no_switch() -> None:
    assert find_refusals({"init-interface-version": "systemd 2"}, {"init-interface-version": "systemd 3"}) == (
        "init: interface systemd 2 → systemd 3",
    )
