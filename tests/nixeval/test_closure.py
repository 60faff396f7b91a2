"""How two systems differ, by package: on lists of paths as NixOS has them, and with the Nix that is here."""

from collections.abc import Sequence
from typing import Any

import pytest

from nixops_proxmox.messages.amounts import amount
from nixops_proxmox.nixeval.closure import PackageChange, changed_packages, list_closure
from nixops_proxmox.nixeval.runner import ProcessRunner
from nixops_proxmox.nixeval.tools import find_nix

SYSTEM = "/nix/store/33333333333333333333333333333333-nixos-system-web-25.11"


def store(*names: str) -> dict[str, int]:
    """Each path has a hash of its own, as after any change; and as many bytes as its name has characters."""
    return {f"/nix/store/{number:032}-{name}": len(name) for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (["openssl-3.5.1"], ["openssl-3.5.4"], [("openssl", ("3.5.1",), ("3.5.4",))]),
        (["openssl-3.5.1", "openssl-3.5.1-bin"], ["openssl-3.5.4-bin"], [("openssl", ("3.5.1",), ("3.5.4",))]),
        (["glibc-2.40-66"], ["glibc-2.40-66"], []),
        ([], ["nginx-1.29.3"], [("nginx", (), ("1.29.3",))]),
        (["foo-1.0"], [], [("foo", ("1.0",), ())]),
        (["python3-3.12.9", "python3-3.13.1"], ["python3-3.13.1"], [("python3", ("3.12.9", "3.13.1"), ("3.13.1",))]),
        (["linux-6.9"], ["linux-6.9", "linux-6.10"], [("linux", ("6.9",), ("6.9", "6.10"))]),
        (["etc", "unit-nginx.service"], ["etc", "unit-sshd.service"], []),
        (["gcc-wrapper-14"], ["gcc-wrapper-15"], [("gcc-wrapper", ("14",), ("15",))]),
        (["not a path", "../../x-1"], ["x-2"], [("x", (), ("2",))]),
    ],
)
def test_packages_are_named_as_nix_names_them(before: Sequence[str], after: Sequence[str], expected: Any) -> None:
    old = store(*before) if before[:1] != ["not a path"] else dict.fromkeys(before, 1)
    found = changed_packages(old, store(*after))
    assert [(one.name, one.before, one.after) for one in found] == expected


def test_how_much_larger_a_package_gets_counts_all_of_its_parts() -> None:
    old = {"/nix/store/" + 32 * "1" + "-x-1": 1000, "/nix/store/" + 32 * "2" + "-x-1-lib": 500}
    new = {"/nix/store/" + 32 * "3" + "-x-2": 1700, "/nix/store/" + 32 * "4" + "-y-1": 30}
    assert changed_packages(old, new) == (
        PackageChange("x", ("1",), ("2",), 200),
        PackageChange("y", (), ("1",), 30),
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (10 << 10, "10 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (123_456_789, "118 MiB"),
        (5 << 40, "5.0 TiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_bytes_are_said_in_a_unit_that_fits(count: int, text: str) -> None:
    assert amount(count) == text


@pytest.mark.nix
def test_the_closure_comes_from_the_store_that_is_here(tmp_path: Any) -> None:
    nix = find_nix()
    if nix is None:
        pytest.skip("there is no Nix here")
    file = tmp_path / "tool-1.2"
    file.write_text("a tool")
    run = ProcessRunner()
    added = run(nix.argv("nix-store", "--add", str(file)), timeout=60)
    path = added.stdout.strip()
    found = list_closure(nix, path, run)
    assert found is not None and list(found) == [path] and found[path] > len("a tool")
    assert list_closure(nix, SYSTEM, run) is None
