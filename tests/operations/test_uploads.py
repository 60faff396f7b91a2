"""Which file is deleted, what shows that it is ours, and what is refused: on a storage in memory, with a real state."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError, DeployError, NotFound, StateError
from nixops_proxmox.operations.uploads import Uploads
from nixops_proxmox.operations.volumes import Volumes
from nixops_proxmox.state import Deployment, State, open_state
from tests.operations.test_volumes import LOCAL, Hypervisor, iso  # noqa: F401 -- a fixture

VOLUME = "local:iso/my_nixos-84d89877f0d4041e.iso"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with open_state(str(tmp_path / "state.sqlite")) as opened:
        yield opened


@pytest.fixture
def record(state: State) -> Deployment:
    return state.deployment("demo")


def test_a_recorded_one_is_deleted_by_its_volume_and_the_journal_tells(iso: Path, record: Deployment) -> None:  # noqa: F811
    hypervisor = Hypervisor()
    Volumes(hypervisor, "lab", record).put(iso, "iso")
    hypervisor.storage.files["local:iso/another.iso"] = 10
    uploads = Uploads(hypervisor, "lab", [record])
    uploads.remove(uploads.find(VOLUME, "iso"))
    assert hypervisor.storage.files == {"local:iso/another.iso": 10}
    assert record.stored("medium") == []
    assert [(one.kind, one.outcome.value, len(one.tasks)) for one in record.history()] == [("medium", "done", 1)] * 2


def test_without_a_record_the_file_itself_shows_that_it_is_ours(iso: Path) -> None:  # noqa: F811
    hypervisor = Hypervisor()
    Volumes(hypervisor, "lab").put(iso, "iso")
    uploads = Uploads(hypervisor, "lab", [])
    uploads.remove(uploads.find(str(iso), "iso"))
    assert hypervisor.storage.files == {}


def test_the_file_finds_its_record_so_the_journal_tells(iso: Path, record: Deployment) -> None:  # noqa: F811
    hypervisor = Hypervisor()
    Volumes(hypervisor, "lab", record).put(iso, "iso")
    uploads = Uploads(hypervisor, "lab", [record])
    uploads.remove(uploads.find(str(iso), "iso"))
    assert record.stored("medium") == [] and len(record.history()) == 2


def test_what_is_gone_already_is_only_forgotten(iso: Path, record: Deployment) -> None:  # noqa: F811
    hypervisor = Hypervisor()
    Volumes(hypervisor, "lab", record).put(iso, "iso")
    hypervisor.storage.files.clear()
    uploads = Uploads(hypervisor, "lab", [record])
    upload = uploads.find(VOLUME, "iso")
    assert upload.size is None
    uploads.remove(upload)
    assert record.stored("medium") == []


def test_one_that_was_inserted_after_the_question_is_left_alone(iso: Path, record: Deployment) -> None:  # noqa: F811
    hypervisor = Hypervisor()
    Volumes(hypervisor, "lab", record).put(iso, "iso")
    uploads = Uploads(hypervisor, "lab", [record])
    upload = uploads.find(VOLUME, "iso")
    hypervisor.storage.inserted[VOLUME] = [100]
    with pytest.raises(StateError, match="inserted in VM 100"):
        uploads.remove(upload)
    assert hypervisor.storage.files == {VOLUME: 10}
    assert [one.phase for one in record.stored("medium")] == ["present"]


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("local:iso/debian.iso", NotFound, "no record says that we uploaded it"),
        (VOLUME, NotFound, "no record says that we uploaded it"),  # of another profile
        ("debian.iso", ConfigError, "neither a file here nor a volume ID"),
        ("local:iso/", ConfigError, "neither a file here nor a volume ID"),
    ],
)
def test_what_nothing_shows_to_be_ours_is_refused(
    what: str,
    kind: type[DeployError],
    words: str,
    iso: Path,  # noqa: F811
    record: Deployment,
) -> None:
    hypervisor = Hypervisor()
    Volumes(hypervisor, "another cluster", record).put(iso, "iso")
    with pytest.raises(kind, match=words):
        Uploads(hypervisor, "lab", [record]).find(what, "iso")


def test_a_file_of_the_same_name_and_another_size_is_not_ours(iso: Path) -> None:  # noqa: F811
    hypervisor = Hypervisor()
    hypervisor.storage.files[VOLUME] = 11
    with pytest.raises(NotFound, match="no storage has this file"):
        Uploads(hypervisor, "lab", []).find(str(iso), "iso")


def test_one_that_was_there_before_it_was_recorded_is_no_records_but_the_file_shows_it(
    iso: Path,  # noqa: F811
    record: Deployment,
) -> None:
    hypervisor = Hypervisor()
    Volumes(hypervisor, "lab").put(iso, "iso")
    Volumes(hypervisor, "lab", record).put(iso, "iso")
    uploads = Uploads(hypervisor, "lab", [record])
    with pytest.raises(NotFound, match="no record says"):
        uploads.find(VOLUME, "iso")
    uploads.remove(uploads.find(str(iso), "iso"))
    assert hypervisor.storage.files == {} and record.stored("medium") == []


def test_one_that_is_in_two_places_is_asked_about(iso: Path, record: Deployment) -> None:  # noqa: F811
    """Two nodes have storages of the same name, and a file in each."""
    hypervisor = Hypervisor(places=(LOCAL, replace(LOCAL, node="pve2")))
    Volumes(hypervisor, "lab", record).put(iso, "iso")
    uploads = Uploads(hypervisor, "lab", [record])
    with pytest.raises(ConfigError, match=r"several places: .* on pve1, .* on pve2"):
        uploads.find(str(iso), "iso")
    assert uploads.find(str(iso), "iso", "pve2").medium.node == "pve2"
