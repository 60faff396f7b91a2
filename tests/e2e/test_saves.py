"""What keeps a machine's past: generations, snapshots, backups; and a record that was lost."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.test_copies import wait_for_tasks

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]
SAME = ("vmid", "uuid", "macs", "host_key", "phase")


def machine_of(bed: "Bed") -> dict[str, Any]:
    (machine,) = bed.status()
    return machine


def version(bed: "Bed") -> str:
    return bed.ssh("web", "fetch-http http://127.0.0.1/").strip()


def ask(bed: "Bed", *words: str) -> Any:
    return json.loads(bed.run(*words, "--json").stdout)


def forget_record(bed: "Bed") -> None:
    """The state is gone; the keys, which are files of their own, are not."""
    for left in (bed.home / "state" / "nixops-proxmox").glob("state.sqlite*"):
        left.unlink()


def test_back_to_the_generation_before_and_forward_again(bed: "Bed") -> None:
    bed.run("deploy")
    bed.run("deploy", VERSION="2")
    first, second = ask(bed, "rollback", "web")["generations"]
    assert (first["active"], second["active"]) == (False, True)
    refused = bed.run("rollback", "web", "17", check=False)
    assert refused.returncode == 3 and "it has no generation 17" in refused.stderr
    bed.run("rollback", "web")
    assert version(bed) == "version 1"
    assert machine_of(bed)["system"] == first["system"] and machine_of(bed)["generation"] == 1
    bed.run("rollback", "web", "2")
    assert version(bed) == "version 2"
    bed.run("deploy")
    assert version(bed) == "version 1" and machine_of(bed)["phase"] == "ready"


def test_back_to_a_snapshot(bed: "Bed") -> None:
    bed.run("deploy")
    bed.run("ssh", "web", "--", "echo before > /root/note; sync")
    bed.run("snapshot", "create", "clean", "web", "--description", "as installed")
    bed.run("ssh", "web", "--", "echo after > /root/note")
    (seen,) = ask(bed, "snapshot", "list")["snapshots"]
    assert (seen["machine"], seen["name"], seen["description"]) == ("web", "clean", "as installed")
    refused = bed.run("snapshot", "rollback", "nope", "web", "--yes", check=False)
    assert refused.returncode == 4 and "it has: clean" in refused.stderr
    bed.run("snapshot", "rollback", "clean", "web", "--yes")
    assert bed.ssh("web", "cat /root/note") == "before\n"
    assert machine_of(bed)["phase"] == "ready"
    bed.run("snapshot", "delete", "clean", "web")
    assert ask(bed, "snapshot", "list")["snapshots"] == []
    bed.run("deploy")


def test_a_backup_brings_a_machine_back_even_when_its_vm_is_gone(bed: "Bed") -> None:
    bed.run("deploy")
    before = machine_of(bed)
    bed.run("ssh", "web", "--", "echo before > /root/note; sync")
    ((made),) = ask(bed, "backup", "web")["backups"]
    bed.run("ssh", "web", "--", "echo after > /root/note")
    assert [(one["volume"], one["ours"]) for one in ask(bed, "backup", "--list")["backups"]] == [(made["volume"], True)]
    bed.run("restore", "web", "--yes")
    assert bed.ssh("web", "cat /root/note") == "before\n"
    vm = bed.vms()[str(before["vmid"])]
    bed.run("stop")
    bed.api("DELETE", f"/nodes/{vm['node']}/qemu/{before['vmid']}")
    assert bed.run("deploy", check=False).returncode == 3
    bed.run("restore", "web", "--yes")
    bed.run("deploy")
    after = machine_of(bed)
    assert [after[key] for key in SAME] == [before[key] for key in SAME]
    assert bed.ssh("web", "cat /root/note") == "before\n"


def test_a_lost_record_is_made_anew_from_the_cluster(bed: "Bed") -> None:
    bed.run("deploy")
    before = machine_of(bed)
    forget_record(bed)
    (found,) = ask(bed, "recover", "--dry-run")["found"]
    assert (found["machine"], found["phase"], found["problem"]) == ("web", "running", None)
    assert bed.run("status", "--json").stdout.count('"machine"') == 0
    bed.forget_calls()
    bed.run("recover", "--yes")
    changing = [call for call in bed.calls() if call["method"] != "GET" and "/agent/" not in call["path"]]
    assert not changing, "recover touched something"
    bed.run("deploy")
    after = machine_of(bed)
    assert [after[key] for key in SAME] == [before[key] for key in SAME]
    assert len(bed.tasks("qmcreate")) == 1
    (known,) = ask(bed, "recover", "--dry-run")["found"]
    assert known["problem"] == "it is recorded already"


def test_a_stopped_machine_and_a_copy_of_it_are_told_apart(bed: "Bed") -> None:
    bed.run("deploy")
    bed.run("stop")
    machine = machine_of(bed)
    node = bed.vms()[str(machine["vmid"])]["node"]
    bed.api("POST", f"/nodes/{node}/qemu/{machine['vmid']}/clone", newid=999)
    wait_for_tasks(bed, "qmclone", machine["vmid"])
    notes = bed.api("GET", f"/nodes/{node}/qemu/{machine['vmid']}/config")["description"]
    bed.api("PUT", f"/nodes/{node}/qemu/999/config", description=notes)
    forget_record(bed)
    found = {one["vmid"]: one for one in ask(bed, "recover", "--dry-run")["found"]}
    assert found[machine["vmid"]]["problem"] is None, found
    assert found[machine["vmid"]]["phase"] == "stopped"
    assert "it is a copy" in found[999]["problem"]
    bed.run("recover", "--yes")
    bed.run("deploy")
    assert machine_of(bed)["uuid"] == machine["uuid"]


def test_the_console_is_for_machines_that_run(bed: "Bed") -> None:
    bed.run("deploy")
    assert "at the console of web" in bed.run("console", "web", "--seconds", "1").stderr
    bed.run("stop")
    refused = bed.run("console", "web", check=False)
    assert refused.returncode == 3 and "it does not run" in refused.stderr
