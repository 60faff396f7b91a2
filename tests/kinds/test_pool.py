"""A pool: whose it is, and what is never touched."""

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import StateError
from nixops_proxmox.spec.pool import PoolSpec
from tests.kinds.benches import PoolBench
from tests.kinds.machine.cluster import Fuse


def test_a_pool_of_somebody_else_is_neither_changed_nor_removed() -> None:
    bench = PoolBench()
    theirs = PoolSpec(name="web", pool="theirs")
    with pytest.raises(StateError, match="it is not ours"):
        bench.run(Fuse(), wanted=True, spec=theirs)
    bench.run(Fuse(), wanted=False, spec=theirs)
    assert bench.there == {"theirs": "not ours"}


def test_a_comment_that_was_changed_by_hand_is_put_right_and_the_mark_stays() -> None:
    bench = PoolBench()
    bench.run(Fuse(), wanted=True)
    bench.there["web"] = bench.there["web"].replace("front", "back")
    assert bench.run(Fuse(), wanted=True).phase is Presence.PRESENT
    bench.check(wanted=True)


def test_the_record_keeps_the_description() -> None:
    thing = PoolBench().run(Fuse(), wanted=True)
    assert thing.facts.values["spec"] == '{"name":"web","comment":"front"}'
