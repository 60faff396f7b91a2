"""`examples/two-tenants` on real guests: each reaches its own tenant's machines, and no other's."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.weekly, pytest.mark.timeout(1500)]

MACHINES = ("red-web", "red-db", "blue-web")
EXAMPLE = Path(__file__).parents[2] / "examples" / "two-tenants" / "network.nix"


def test_a_guest_reaches_its_own_tenant_and_no_other(guest_bed: "GuestBed") -> None:
    bed = guest_bed.named("tenants", EXAMPLE.read_text().replace("memory = 256", "memory = 512"))
    try:
        for name in MACHINES:  # one after another: without KVM, three installs at once take long
            bed.run("deploy", name)
        seen = {name: [one["ip"] for one in bed.facts(name)["addresses"]] for name in MACHINES}
        addresses = {name: next(ip for ip in ips if ip.startswith("10.78.")) for name, ips in seen.items()}
        assert addresses["red-db"].startswith("10.78.20.") and addresses["blue-web"].startswith("10.78.30.")

        def reaches(machine: str, other: str) -> bool:
            said = bed.ssh(machine, f"ping -c 1 -W 3 {addresses[other]} >/dev/null 2>&1 && echo yes || echo no")
            return said.strip() == "yes"

        assert reaches("red-web", "red-db") and reaches("red-db", "red-web"), "inside"
        assert not reaches("red-web", "blue-web") and not reaches("blue-web", "red-db"), "across"
    finally:
        bed.run("destroy", "--yes", check=False)
