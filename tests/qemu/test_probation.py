"""Systems on probation on a real guest, which break what a system can break: each costs nothing."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.e2e.breaking import BREAKING

if TYPE_CHECKING:
    from tests.qemu.bed import GuestBed

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.nix, pytest.mark.slow, pytest.mark.timeout(1800)]

WEEKLY = pytest.mark.weekly

LONG = "300"  # seconds, for what is confirmed: a busy machine without KVM may need a minute for a login
CURRENT = "readlink -f /run/current-system; readlink -f /nix/var/nix/profiles/system; hostname"


@pytest.fixture(scope="module")
def web(guest_bed: "GuestBed") -> Iterator["GuestBed"]:
    bed = guest_bed.named("probation", BREAKING)
    try:
        bed.run("deploy", PROBATION="40")
        yield bed
    finally:
        bed.run("destroy", "--yes", check=False)


def verdict(bed: "GuestBed") -> str:
    (machine,) = bed.status()
    return str(machine["probation"]["verdict"])


def system(bed: "GuestBed") -> tuple[str, str]:
    """What runs, and what boots."""
    running, boots, _ = bed.ssh("web", CURRENT).split()
    return running, boots


@pytest.mark.parametrize(
    ("broken", "told", "said"),
    [
        ("sshd", "reverted by the guest", ["no confirmation came within 40 s", "ssh: "]),
        ("network", "reverted by the guest", ["no confirmation came within 40 s", "ssh: "]),
        ("service", "reverted by us", ["health: http 80/: "]),
        pytest.param("status", "reverted by the guest", ["its activation ended with status"], marks=WEEKLY),
        pytest.param(
            "machine",
            "reverted by a restart",
            ["the machine was restarted before it was confirmed"],
            marks=WEEKLY,
        ),
    ],
)
def test_what_breaks_the_machine_does_not_stay(web: "GuestBed", broken: str, told: str, said: list[str]) -> None:
    before = system(web)
    done = web.run("deploy", check=False, BREAK=broken, PROBATION="40")
    assert done.returncode == 7, done.stderr
    for text in [f"does not stay ({told})", *said]:
        assert text in done.stderr, done.stderr
    assert (verdict(web), system(web)) == (told, before)
    assert len(set(before)) == 1
    assert web.ssh("web", "fetch-http http://[::1]/ 20").strip() == "version 1"


@pytest.mark.parametrize("broken", [*(pytest.param(one, marks=WEEKLY) for one in ("connection", "supervisor")), "both"])
def test_what_only_breaks_the_deploy_is_confirmed(web: "GuestBed", broken: str) -> None:
    generation = web.facts("web")["generation"]
    web.run("deploy", BREAK=broken, PROBATION=LONG)
    running, boots = system(web)
    assert (verdict(web), running) == ("confirmed", boots)
    assert web.facts("web")["generation"] > generation
    web.run("deploy", PROBATION=LONG)


@WEEKLY
def test_a_deploy_that_is_killed_leaves_the_guest_to_itself_and_the_next_one_says_what_came_of_it(
    web: "GuestBed",
) -> None:
    from tests.qemu.bed import kill

    before = system(web)
    process = web.start("deploy", "-v", BREAK="service", PROBATION="40")
    web.wait_until_said("not well yet", process)
    kill(process)
    done = web.run("deploy", VERSION="2", PROBATION="40")
    assert "is reverted by us: another system is wanted by now" in done.stderr
    assert system(web) != before
    assert json.loads(web.run("status", "--json").stdout)["machines"][0]["phase"] == "ready"
