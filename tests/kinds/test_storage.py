"""A storage: what is switched on, what is never switched off, and what is told."""

from dataclasses import replace

import pytest

from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.storage.kind import StorageKind, outline, remarks
from tests.kinds.machine.cluster import Fuse
from tests.kinds.storage_bench import StorageBench


@pytest.fixture
def bench() -> StorageBench:
    return StorageBench()


def test_what_is_missing_is_switched_on_and_nothing_is_ever_switched_off(bench: StorageBench) -> None:
    found = bench.store.there["local"]
    assert StorageKind().diff(bench.world(Fuse()), found) == ["content: backup,iso becomes backup,iso,import"]
    bench.run(Fuse(), wanted=True)
    assert bench.store.there["local"].content == ("backup", "iso", "import")
    bench.run(Fuse(), wanted=True, content=("snippets",))
    bench.run(Fuse(), wanted=False)
    assert ",".join(bench.store.there["local"].content) == "backup,iso,import,snippets"


def test_a_storage_that_has_it_all_is_not_written(bench: StorageBench) -> None:
    bench.run(Fuse(), wanted=True, content=("iso",))
    assert bench.store.there["local"].digest == "1"


def test_a_storage_that_is_not_there_is_an_error_with_what_to_do(bench: StorageBench) -> None:
    bench.store.there.clear()
    assert [*outline(bench.world(Fuse()))] == [
        "default has no storage local, or shows us none: add it in PVE, because a deploy makes none"
    ]
    with pytest.raises(StateError, match="default has no storage local") as raised:
        bench.run(Fuse(), wanted=True)
    assert "resources.storages.local" in raised.value.hint
    bench.run(Fuse(), wanted=False)


def test_what_the_release_does_not_know_is_not_asked_for(bench: StorageBench) -> None:
    bench.store.knows.clear()
    with pytest.raises(StateError, match="this release of PVE has no content type import"):
        bench.run(Fuse(), wanted=True)
    assert bench.store.there["local"].content == ("backup", "iso")


def test_a_storage_that_is_off_or_silent_somewhere_is_told(bench: StorageBench) -> None:
    found = bench.store.there["local"]
    told = []
    for seen in (found, replace(found, silent=("pve2", "pve3")), replace(found, disabled=True, silent=("pve2",))):
        bench.store.there["local"] = seen
        told.append([*remarks(bench.world(Fuse()))])
    assert told == [
        [],
        ["local is not active on pve2, pve3"],
        ["local is switched off in PVE, so nothing can use it"],
    ]
