"""Storages by the real client against the lab: what is missing is switched on, and nothing of others' is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.core.graph import Ref
from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import PveRefused, StateError
from nixops_proxmox.operations import Deployed
from nixops_proxmox.spec.storage import StorageSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment

SPEC = StorageSpec(name="isos", storage="shared", content=("iso", "snippets", "import"))
REF = Ref("storage", "isos")


@pytest.fixture(scope="module", params=["7.4", "8.4", "9.1"])
def lab(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        yield made


@pytest.fixture
def made(lab: Bench, tmp_path: Path) -> Deployment:
    found = Deployment(lab, tmp_path)
    found.by_hand("PUT", "/storage/shared", content="images,iso,backup")
    lab.skew += 600
    return found


def ensure(deployed: Deployed) -> None:
    with deployed.record.lease() as lease:
        deployed._keep(lease)
        deployed.resources.ensure(REF)


def findings(deployed: Deployed) -> list[str]:
    """What `doctor` says."""
    return [finding.text for _, examine in deployed.resources.examinations() for finding in examine()]


def content(made: Deployment) -> list[str]:
    return sorted(str(made.by_hand("GET", "/storage/shared")["content"]).split(","))


def test_what_is_missing_is_switched_on_where_the_release_has_it(made: Deployment) -> None:
    with made.opened(bare(name="web"), beside=(SPEC,)) as deployed:
        [seen] = deployed.list_resources()
        assert (seen.phase, seen.differences) == (
            Presence.DIFFERS,
            ("content: images,iso,backup becomes images,iso,backup,snippets,import",),
        )
        assert findings(deployed) == ["it does not take snippets, import yet"]
        if not made.bench.lab.cluster.release.since(8, 3):
            with pytest.raises(StateError, match="no content type import"):
                ensure(deployed)
            with pytest.raises(PveRefused, match="invalid content type"):
                made.by_hand("PUT", "/storage/shared", content="import")
            assert content(made) == ["backup", "images", "iso"]
            return
        ensure(deployed)
        assert content(made) == ["backup", "images", "import", "iso", "snippets"]
        assert findings(deployed) == []
        [seen] = deployed.list_resources()
        assert (seen.phase, seen.differences, seen.remarks) == (Presence.PRESENT, (), ())
        assert [one.error for one in deployed.remove_resources([REF])] == [None]
        assert content(made) == ["backup", "images", "import", "iso", "snippets"]


def test_what_somebody_changed_meanwhile_is_not_overwritten(made: Deployment) -> None:
    store = made.bench.hypervisor.storage_store
    found = store.find("shared")
    assert found is not None
    made.by_hand("PUT", "/storage/shared", content="images,iso,backup,vztmpl")
    with pytest.raises(PveRefused, match="modified"):
        store.set_content("shared", ["iso"], found.digest)
    assert "vztmpl" in content(made)


def test_a_storage_that_is_not_there_or_off_is_told(made: Deployment) -> None:
    none = StorageSpec(name="isos", storage="nowhere", content=("iso",))
    made.by_hand("PUT", "/storage/shared", disable=1)
    with made.opened(bare(name="web"), beside=(SPEC,)) as deployed:
        assert deployed.list_resources()[0].remarks == ("shared is switched off in PVE, so nothing can use it",)
    made.by_hand("PUT", "/storage/shared", disable=0)
    with made.opened(bare(name="web"), beside=(none,)) as deployed:
        [seen] = deployed.list_resources()
        assert seen.phase is Presence.ABSENT and "has no storage nowhere" in seen.differences[0]
        with pytest.raises(StateError, match="has no storage nowhere"):
            ensure(deployed)


def test_a_machine_waits_for_the_storage_of_its_installer() -> None:
    isos = StorageSpec(name="isos", storage="local", content=("iso",))
    web = bare(name="web", install={"iso": "local:iso/nixos.iso"})
    assert isos.is_wanted_by(web) and not SPEC.is_wanted_by(web)
    assert not isos.is_wanted_by(bare(name="db", profile="far", install={"iso": "local:iso/nixos.iso"}))
