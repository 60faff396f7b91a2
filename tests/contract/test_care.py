"""Hypervisors that are changed with care, and the resources there: by word, and while a window is open."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import NeedsPermission
from nixops_proxmox.operations import Deployed
from nixops_proxmox.options import Agreed
from nixops_proxmox.spec.pool import PoolSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment

FRONT, REF = PoolSpec(name="front"), Ref("pool", "front")


@pytest.fixture(scope="module")
def lab() -> Iterator[Bench]:
    with start_bench("9.1") as made:
        yield made


@pytest.fixture
def made(lab: Bench, tmp_path: Path) -> Deployment:
    lab.empty()
    return Deployment(lab, tmp_path)


def careful(made: Deployment, line: str) -> None:
    made.profiles.write_text(f"{made.profiles.read_text()}{line}\n")


def ensure(deployed: Deployed) -> None:
    with deployed.record.lease() as lease:
        deployed._keep(lease)
        deployed.resources.ensure(REF)


def test_a_resource_is_made_and_removed_by_word_where_its_hypervisor_asks_for_one(made: Deployment) -> None:
    careful(made, "confirm = true")
    with made.opened(bare(), beside=(FRONT,)) as deployed:
        assert [(str(one.ref), one.profile) for one in deployed.asking_resources()] == [(str(REF), "default")]
        with pytest.raises(NeedsPermission, match="pool front: changes on default need a word"):
            ensure(deployed)
        assert deployed.list_resources()[0].phase is Presence.ABSENT
        deployed.agree()
        ensure(deployed)
    with made.opened(bare(), beside=(FRONT,)) as deployed:
        ensure(deployed)  # nothing is done, so nothing is asked
        assert deployed.asking_resources() == []
        (outcome,) = deployed.remove_resources([REF])
        assert isinstance(outcome.error, NeedsPermission)
        assert deployed.list_resources()[0].phase is Presence.PRESENT
        deployed.agree()
        assert [one.error for one in deployed.remove_resources([REF])] == [None]


def test_a_resource_is_changed_only_while_a_window_is_open(made: Deployment) -> None:
    careful(made, 'windows = ["Sat 22:00-23:00 UTC"]')
    closed = Agreed(moment=lambda: datetime.fromisoformat("2026-11-28T12:00:00+00:00"))
    opened = Agreed(moment=lambda: datetime.fromisoformat("2026-11-28T22:30:00+00:00"))
    told = pytest.raises(NeedsPermission, match=r"pool front: .* only in its windows")
    with made.opened(bare(), beside=(FRONT,), agreed=closed) as deployed, told:
        ensure(deployed)
    with made.opened(bare(), beside=(FRONT,), agreed=opened) as deployed:
        ensure(deployed)
        assert deployed.list_resources()[0].phase is Presence.PRESENT


def test_taking_over_asks_for_the_word_too(made: Deployment) -> None:
    careful(made, "confirm = true")
    made.by_hand("POST", "/pools", poolid="front", comment="by hand")
    with made.opened(bare(), beside=(FRONT,)) as deployed:
        with pytest.raises(NeedsPermission, match="need a word of yours"):
            deployed.adopt_resources(["resources.pools.front"])
        assert made.pools()[0]["comment"] == "by hand"
