"""A medium beside the sweep: what is believed, what is recorded, and what is left alone."""

import dataclasses
from pathlib import Path

import pytest

from nixops_proxmox.core.kind import Presence
from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.medium import Medium
from nixops_proxmox.pve.api.answers import ConfigSeen
from nixops_proxmox.pve.cluster.media import is_inserted, may_write
from nixops_proxmox.texts import is_machine_name
from tests.kinds.benches import FILE, MediumBench
from tests.kinds.machine.cluster import Fuse


def test_a_file_that_is_there_is_not_sent_again() -> None:
    bench = MediumBench()
    bench.storage.files[FILE.volume] = FILE.size
    bench.run(Fuse(), wanted=True)
    assert bench.storage.uploads == 0


def test_a_part_of_a_file_is_not_believed() -> None:
    bench = MediumBench()
    bench.storage.files[FILE.volume] = FILE.size - 1
    bench.run(Fuse(), wanted=True)
    bench.check(wanted=True)
    assert bench.storage.uploads == 1


def test_an_upload_that_still_runs_is_waited_for_and_not_made_again() -> None:
    bench = MediumBench()
    bench.storage.files[FILE.volume] = 1
    bench.storage.tasks["UPID:another:"] = lambda: bench.storage.files.update({FILE.volume: FILE.size})
    bench.run(Fuse(), wanted=True)
    bench.check(wanted=True)
    assert bench.storage.uploads == 0


def test_what_is_not_ours_by_the_record_is_left_alone() -> None:
    bench = MediumBench()
    bench.storage.files[FILE.volume] = FILE.size
    bench.run(Fuse(), wanted=False)
    assert bench.storage.files == {FILE.volume: FILE.size}


def test_what_a_vm_has_inserted_is_left_alone_and_the_error_names_it() -> None:
    bench = MediumBench()
    bench.run(Fuse(), wanted=True)
    bench.storage.inserted[FILE.volume] = [100]
    with pytest.raises(StateError, match="inserted in VM 100"):
        bench.run(Fuse(), wanted=False)
    assert bench.storage.files == {FILE.volume: FILE.size}
    bench.storage.inserted.clear()
    assert bench.run(Fuse(), wanted=False).phase is Presence.ABSENT
    bench.check(wanted=False)


@pytest.mark.parametrize(
    ("config", "there"),
    [
        (ConfigSeen({"ide2": "local:iso/a.iso,media=cdrom"}, {}), True),
        (ConfigSeen({"ide2": "none,media=cdrom"}, {"ide2": "local:iso/a.iso,media=cdrom"}), True),
        (ConfigSeen({"ide2": "local:iso/a.iso.iso,media=cdrom", "name": "a.iso"}, {}), False),
    ],
)
def test_inserted_is_what_a_vm_has_now_or_from_its_next_start_on(config: ConfigSeen, there: bool) -> None:
    assert is_inserted("local:iso/a.iso", config) is there


@pytest.mark.parametrize(
    ("log", "may"),
    [
        (["starting file import"], True),
        (["target file: /x/a.iso", "copying"], True),
        (["target file: /x/b.iso"], False),
        (["target file: /x/aa.iso"], False),
    ],
)
def test_an_upload_may_write_a_file_until_its_log_names_another(log: list[str], may: bool) -> None:
    assert may_write(log, "a.iso") is may


@pytest.mark.parametrize("file", ["my installer.iso", "_.iso", f"{'ä-' * 100}x.img"])
def test_the_record_has_one_name_for_each_file_and_place(file: str) -> None:
    here = dataclasses.replace(FILE, path=Path(file))
    places: list[Medium] = [here, dataclasses.replace(here, node="pve2"), dataclasses.replace(here, shared=True)]
    names = {medium.thing_name(profile) for medium in places for profile in ("a", "b")}
    assert len(names) == 6 and all(map(is_machine_name, names))
