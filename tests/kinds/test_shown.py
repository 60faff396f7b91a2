"""What each kind that a network describes must have been shown to do. One that lacks it fails here.

Made, changed, asked again, and removed, each on the lab: the examples of NixOps 4's types, which are of the same kinds.
Broken at every boundary: the benches. Taken over: what stands in its place, or a reason why there is nothing to take.
"""

from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.core.kind import Thing
from nixops_proxmox.kinds.registry import find_described, find_resource_types
from tests.kinds.benches import BENCHES
from tests.kinds.machine.cluster import Fuse
from tests.nixops4.test_things import EXAMPLES

DESCRIBED = {entry.name: entry for entry in find_described().values()}
NOT_TAKEN_OVER = {
    "backup-job": "a job that others made goes on beside ours",
    "network": "a machine can use a vnet as it is, as a bridge",
    "reservation": "remove the entry there: a deploy makes ours before the next boot",
    "storage": "it needs no mark",
    "template": "a machine can use one as it is, by its name",
}
PAGES = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("kind", sorted(DESCRIBED))
def test_each_kind_is_made_changed_removed_and_broken_in_a_test(kind: str) -> None:
    types = {one.thing for name, one in find_resource_types().items() if name in EXAMPLES}
    assert kind in types and kind in BENCHES


@pytest.mark.parametrize("kind", sorted(DESCRIBED))
def test_each_kind_is_taken_over_or_says_why_not(kind: str) -> None:
    described = DESCRIBED[kind].described
    assert described is not None
    assert (described.stranger is None) == (kind in NOT_TAKEN_OVER)


@pytest.mark.parametrize("kind", sorted(DESCRIBED))
def test_each_kind_is_on_the_page_of_resources(kind: str) -> None:
    described = DESCRIBED[kind].described
    assert described is not None
    assert f"`resources.{described.spec.option}`" in (PAGES / "resources.md").read_text()


@pytest.mark.parametrize("kind", sorted(name for name in DESCRIBED if BENCHES[name].made_again))
def test_what_somebody_removed_is_seen_and_made_again(kind: str) -> None:
    before: Any = BENCHES[kind]()
    after: Any = BENCHES[kind]()
    before.run(Fuse(), wanted=True)
    after.record.thing = before.record.thing  # the record says that it is there, and the world has nothing of it
    after.run(Fuse(), wanted=True)
    after.check(wanted=True)
    assert isinstance(after.record.thing, Thing) and after.record.thing.phase == before.record.thing.phase
