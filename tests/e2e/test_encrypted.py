"""The keys of an encrypted disk are tried after its installation, and replaced, over the lab's API and SSH."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.field import Field

pytestmark = [pytest.mark.netns, pytest.mark.slow]

NAME = "vault"
THUMBPRINT = "K0gjBt2QS6ZG8hvedtdpnXLQ6F9oXqG4l_aGD9KNYJg"
OTHER = "HgIyC5oxulGdF7cIataSTWVsYgOeSBzMk2n0IPLfL9Y"


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Field"]:
    from tests.e2e.field import start_field

    with start_field(tmp_path_factory.mktemp("encrypted"), ["pve1", "pve2"]) as lab:
        yield lab


def machine(lab: "Field", **more: Any) -> dict[str, Any]:
    return {
        "profile": "lab",
        "disks": [{"storage": "local-lvm", "size": "1G"}],
        "memory": 256,
        "network": [{"bridge": "vmbr0"}],
        "install": {"iso": lab.running.iso, "method": "configuration"},
        **more,
    }


def encryption(sink: Path, thumbprint: str = THUMBPRINT) -> Mapping[str, Any]:
    tang = [{"url": "http://192.0.2.5", "thumbprint": thumbprint}]
    return {"unlock": {"tang": tang, "tool": True}, "recovery": {"sink": {"folder": str(sink)}}}


def by_keeper(sink: Path) -> Mapping[str, Any]:
    return {"unlock": {"tang": [{"machine": "keeper"}]}, "recovery": {"sink": {"folder": str(sink)}}}


def run(lab: "Field", verb: str, how: Mapping[str, Any]) -> dict[str, Any]:
    found = lab.run(verb, {NAME: machine(lab)}, encryption={NAME: how})[NAME]
    assert not found.get("error"), found
    return dict(found)


def test_the_recovery_key_is_tried_and_all_keys_are_made_anew(field: "Field", tmp_path: Path) -> None:
    sink = tmp_path / "sink"
    first = run(field, "deploy", encryption(sink))["facts"]["luks"]
    (file,) = sink.iterdir()
    old = file.read_text()
    assert run(field, "try_key", encryption(sink))["use"] == "recovery"

    changed = encryption(sink, OTHER)
    second = run(field, "rotate", changed)["facts"]["luks"]
    assert second["slots"] == f"1 recovery, 2 tang {OTHER}, 3 tool" and second["recovery"] != first["recovery"]
    assert file.read_text() != old and list(sink.iterdir()) == [file]
    tried = run(field, "try_key", changed)
    assert (tried["slot"], tried["slots"], tried["ok"]) == (1, [1, 2, 3], True)
    file.write_text(old)
    tried = run(field, "try_key", changed)
    assert (tried["slot"], tried["ok"]) == (None, False), "the old key is of no use any more"
    assert not run(field, "deploy", changed)["warnings"]


def test_a_data_disk_is_encrypted_and_kept_by_a_reinstall_and_gets_new_keys(field: "Field", tmp_path: Path) -> None:
    field.clear()
    sink, disk = tmp_path / "sink", {"storage": "local-lvm", "size": "1G"}
    machines = {NAME: machine(field, disks=[disk, {**disk, "keep": True}])}
    how = {NAME: encryption(sink)}

    def done(verb: str) -> dict[str, Any]:
        found = field.run(verb, machines, encryption=how)[NAME]
        assert not found.get("error"), found
        return dict(found)

    first = done("deploy")["facts"]["luks"]
    assert first["scsi1 slots"] == "1 recovery, 2 system" and first["scsi1 uuid"] != first["uuid"]
    assert {path.name for path in sink.iterdir()} == {
        f"vault-{name}-{first[key]}.key" for name, key in {"root": "uuid", "scsi1": "scsi1 uuid"}.items()
    }
    second = done("reinstall")["facts"]["luks"]
    assert second["uuid"] != first["uuid"] and second["scsi1 uuid"] == first["scsi1 uuid"]
    third = done("rotate")["facts"]["luks"]
    assert third["scsi1 recovery"] != second["scsi1 recovery"] and third["scsi1 rotations"] == "1"
    tried = done("try_key")
    assert tried["ok"] and [(one["volume"], one["slot"], one["ok"]) for one in tried["disks"]] == [("scsi1", 1, True)]
    assert not done("deploy")["warnings"]


def test_a_machine_of_the_network_serves_tang_and_its_key_is_learned_over_ssh(field: "Field", tmp_path: Path) -> None:
    field.clear()
    how = {NAME: by_keeper(tmp_path / "sink")}
    machines = {"keeper": machine(field, node="pve2"), NAME: machine(field, node="pve1")}
    done = field.run("deploy", machines, encryption=how)
    assert [done[name]["error"] for name in machines] == ["", ""], done
    luks = done[NAME]["facts"]["luks"]
    url, _, thumbprint = luks["tang keeper"].partition(" ")
    address = next(one["ip"] for one in done["keeper"]["facts"]["addresses"] if one["ip"].startswith("10.77."))
    assert (url, luks["slots"]) == (f"http://{address}:7654", f"1 recovery, 2 tang {thumbprint}")
    assert any("no static address" in text for text in done[NAME]["warnings"])

    again = field.run("deploy", machines, encryption=how)
    assert not again[NAME]["error"] and again[NAME]["facts"]["luks"] == luks

    (keys,) = field.folder.parent.rglob("var/lib/tang/public.json")
    keys.unlink()  # the keeper was made new
    field.run("reboot", machines, names=["keeper"], encryption=how)
    refused = field.run("deploy", machines, encryption=how)[NAME]
    assert refused["error"] == "StateError" and thumbprint in refused["message"] and "keeper" in refused["message"]
    rotated = field.run("rotate", machines, names=[NAME], encryption=how)[NAME]
    assert not rotated["error"] and thumbprint not in rotated["facts"]["luks"]["slots"]
    assert not field.run("deploy", machines, encryption=how)[NAME]["error"]


def test_a_keeper_that_is_not_there_is_asked_for_before_the_disk_is_written(field: "Field", tmp_path: Path) -> None:
    field.clear()
    machines = {"keeper": machine(field, node="pve2"), NAME: machine(field, node="pve1")}
    how = {NAME: by_keeper(tmp_path / "sink")}
    refused = field.run("deploy", machines, names=[NAME], encryption=how)[NAME]
    assert refused["error"] == "StateError" and "keeper is absent" in refused["message"]
    assert refused["phase"] == "reachable" and "keeper vault" in refused["hint"]
