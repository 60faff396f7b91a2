"""A doctor says beforehand where a recovery key could not go."""

from pathlib import Path

import pytest

from nixops_proxmox.model import Level
from nixops_proxmox.operations.sinks import find_sinks
from nixops_proxmox.spec import MachineSpec
from tests.kinds.machine.cluster import SPEC
from tests.kinds.machine.test_encryption import encrypted

AGE = "age1" + "q" * 58


def named(name: str, spec: MachineSpec) -> MachineSpec:
    return spec.model_copy(update={"name": name})


def test_a_folder_that_can_be_made_is_fine_and_told_once(tmp_path: Path) -> None:
    spec = encrypted({"tool": True}, {"folder": str(tmp_path / "new" / "keys")})
    (found,) = find_sinks([named("a", spec), named("b", spec), SPEC])
    assert found.level is Level.OK and "those of a, b" in found.text


@pytest.mark.parametrize("place", ["/dev/null/keys", "/etc/hostname/a/b"])
def test_a_folder_that_cannot_be_written_is_a_problem(place: str) -> None:
    (found,) = find_sinks([encrypted({"tool": True}, {"folder": place})])
    assert found.level is Level.PROBLEM and "web: encryption.recovery.sink.folder" in found.text


@pytest.mark.parametrize(("path", "count"), [(None, 1), ("/bin/age", 0)])
def test_age_is_only_missed_where_it_is_needed(path: str | None, count: int) -> None:
    sealed = encrypted({"tool": True}, {"command": "cat", "age": (AGE,)})
    assert len([*find_sinks([sealed, sealed], lambda _: path)]) == count
    assert [*find_sinks([encrypted({"tool": True}, {"none": True}), SPEC], lambda _: None)] == []
