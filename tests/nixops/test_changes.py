"""What becomes of a machine with NixOps: changed, killed in the middle, lost, forgotten, refused."""

import json
import re

import pytest

from tests.nixops.bed import Nixops, kill_all, machine, network, wait_for_text
from tests.nixops.conftest import MakeNixops
from tests.pace import wait_until

pytestmark = [pytest.mark.nixops, pytest.mark.nix, pytest.mark.netns, pytest.mark.slow]


def vms_of(one: Nixops) -> list[str]:
    """The VMIDs of this network's VMs, by their mark."""
    uuid = one.query("select uuid from Deployments")[0][0]
    found = []
    for vmid, vm in one.bed.vms().items():
        notes = vm["config"].get("description", "")
        if f"`{uuid}`" in notes or f"`{one.deployment}`" in notes:
            found.append(vmid)
    return found


def config_of(one: Nixops, name: str = "web") -> dict[str, str]:
    config: dict[str, str] = one.bed.vms()[str(one.records()[name]["facts"]["vmid"])]["config"]
    return config


@pytest.mark.parametrize("moment", ["create the vm", "partition the disks", "install the system", "reach the system"])
def test_killed_in_the_middle_of_a_deploy_it_goes_on_and_there_is_one_vm(make_nixops: MakeNixops, moment: str) -> None:
    name = f"killed-{moment.replace(' ', '-')}"
    one = make_nixops(network({"web": machine(ipv4="10.77.0.41/24")}), deployment=name)
    process = one.start("deploy")
    assert wait_for_text(one.folder / "killed.log", moment, process)
    kill_all(process)
    assert "web" in one.records(), "its identity was recorded before the VM was made"
    one.deploy()
    assert len(vms_of(one)) == 1
    assert one.ssh("web", "cat", "/etc/message") == "hello\n"
    one.run("destroy", "--confirm")
    assert vms_of(one) == []


def test_a_changed_configuration_is_activated(make_nixops: MakeNixops) -> None:
    one = make_nixops(network({"web": machine(ipv4="10.77.0.42/24")}), deployment="changed")
    one.deploy()
    assert one.ssh("web", "cat", "/etc/message") == "hello\n"
    one.write(network({"web": machine(ipv4="10.77.0.42/24", more='demo.message = "other";')}))
    one.deploy()
    assert one.ssh("web", "cat", "/etc/message") == "other\n"
    one.run("destroy", "--confirm")


def test_changed_hardware_waits_for_the_word(make_nixops: MakeNixops) -> None:
    one = make_nixops(network({"web": machine(ipv4="10.77.0.43/24")}), deployment="hardware")
    one.deploy()
    boot = one.ssh("web", "cat", "/proc/sys/kernel/random/boot_id")
    one.write(network({"web": machine(ipv4="10.77.0.43/24").replace("memory = 512;", "memory = 768;")}))
    done = one.deploy()
    assert "takes effect at the next restart" in done.stderr
    assert one.ssh("web", "cat", "/proc/sys/kernel/random/boot_id") == boot
    one.deploy("--allow-reboot")
    assert one.ssh("web", "cat", "/proc/sys/kernel/random/boot_id") != boot
    assert config_of(one)["memory"] == "768"
    one.run("destroy", "--confirm")


def test_a_vm_that_is_gone_is_made_anew_only_by_word(make_nixops: MakeNixops) -> None:
    one = make_nixops(network({"web": machine(ipv4="10.77.0.44/24")}), deployment="gone")
    one.deploy()
    facts = one.records()["web"]["facts"]
    path = f"/nodes/{facts['node']}/qemu/{facts['vmid']}"
    one.bed.api("POST", f"{path}/status/stop")
    wait_until(lambda: one.bed.vms()[str(facts["vmid"])]["status"] == "stopped")
    one.bed.api("DELETE", path)
    wait_until(lambda: str(facts["vmid"]) not in one.bed.vms())
    checked = one.run("check", check=False)
    assert checked.returncode & 1 and "is gone" in checked.stdout
    assert one.attributes("web")["vmId"] == str(facts["vmid"]), "what is known of it is kept"
    refused = one.deploy(check=False)
    assert refused.returncode == 1 and "--allow-recreate" in refused.stderr and "Traceback" not in refused.stderr
    one.deploy("--allow-recreate")
    assert one.ssh("web", "cat", "/etc/message") == "hello\n"
    assert one.records()["web"]["facts"]["uuid"] != facts["uuid"]
    one.run("destroy", "--confirm")


def test_destroy_needs_no_definition_and_asks(make_nixops: MakeNixops) -> None:
    one = make_nixops(network({"web": machine(ipv4="10.77.0.45/24")}), deployment="undescribed")
    one.deploy("--create-only")
    one.write(network({}))
    kept = one.run("destroy", stdin="n\n")
    assert "are you sure you want to destroy ‘web’" in kept.stderr
    assert len(vms_of(one)) == 1
    one.run("destroy", "--confirm")
    assert vms_of(one) == [] and one.records() == {}


def test_a_machine_that_is_described_no_more_is_destroyed_by_word(make_nixops: MakeNixops) -> None:
    two = {"web": machine(ipv4="10.77.0.46/24"), "old": machine(ipv4="10.77.0.47/24")}
    one = make_nixops(network(two), deployment="obsolete")
    one.deploy()
    one.write(network({"web": two["web"]}))
    one.deploy()
    assert len(vms_of(one)) == 2
    one.deploy("--kill-obsolete", "--confirm")
    assert list(one.records()) == ["web"] and len(vms_of(one)) == 1
    one.run("destroy", "--confirm")


def test_a_wrong_option_is_named_with_its_path_and_without_a_traceback(make_nixops: MakeNixops) -> None:
    wrong = machine(ipv4="10.77.0.48/33")
    one = make_nixops(network({"web": wrong}), deployment="wrong")
    done = one.deploy(check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "web.deployment.proxmox.network[0].ipv4" in done.stderr


def test_a_missing_profile_is_told_in_words(make_nixops: MakeNixops) -> None:
    one = make_nixops(
        network({"web": machine(ipv4="10.77.0.49/24", proxmox='profile = "elsewhere";')}), deployment="lost"
    )
    done = one.deploy(check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "there is no profile 'elsewhere'" in done.stderr
    assert one.run("destroy", "--confirm").returncode == 0


def test_a_renamed_machine_stays_the_same_vm(make_nixops: MakeNixops) -> None:
    one = make_nixops(network({"web": machine(ipv4="10.77.0.50/24")}), deployment="renamed")
    one.deploy("--create-only")
    vmid = one.records()["web"]["facts"]["vmid"]
    one.run("rename", "web", "www")
    one.write(network({"www": machine(ipv4="10.77.0.50/24")}))
    one.deploy()
    assert one.records()["www"]["facts"]["vmid"] == vmid and len(vms_of(one)) == 1
    assert one.ssh("www", "cat", "/etc/message") == "hello\n"
    one.run("destroy", "--confirm")


def test_reinstall_keeps_the_machine_itself(make_nixops: MakeNixops) -> None:
    one = make_nixops(network({"web": machine(ipv4="10.77.0.51/24")}), deployment="anew")
    one.deploy()
    before = one.records()["web"]["facts"]
    one.ssh("web", "touch /root/old")
    one.run("proxmox", "--confirm", "reinstall", "web")
    one.deploy()
    after = one.records()["web"]["facts"]
    assert {k: after[k] for k in ("vmid", "uuid", "macs", "host_key")} == {
        k: before[k] for k in ("vmid", "uuid", "macs", "host_key")
    }
    assert one.run("ssh", "web", "test", "-e", "/root/old", check=False).returncode == 1
    assert one.ssh("web", "cat", "/etc/message") == "hello\n"
    told = json.loads(one.ssh("web", "cat", "/run/current-system/told.json"))
    assert re.search(one.ssh("web", "findmnt", "-n", "-o", "UUID", "/").strip(), told["fileSystems"]["/"]["device"])
    one.run("destroy", "--confirm")


def test_a_hypervisor_that_does_not_answer_changes_nothing(make_nixops: MakeNixops) -> None:
    """The original forgot its machines then, and made them again."""
    one = make_nixops(network({"web": machine(ipv4="10.77.0.52/24")}), deployment="silent")
    one.deploy("--create-only")
    before = one.attributes("web")
    profiles = one.bed.home / "config" / "nixops-proxmox" / "profiles.toml"
    text = profiles.read_text()
    try:
        profiles.write_text(re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:9", text))
        checked = one.run("check", check=False)
        assert "Traceback" not in checked.stderr
        done = one.run("destroy", "--confirm", check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
    finally:
        profiles.write_text(text)
    assert one.attributes("web") == before
    one.run("destroy", "--confirm")
    assert vms_of(one) == []


def test_a_lost_record_is_made_anew_from_the_cluster(make_nixops: MakeNixops) -> None:
    one = make_nixops(network({"web": machine(ipv4="10.77.0.53/24")}), deployment="recovered")
    one.deploy()
    facts = one.records()["web"]["facts"]
    one.query("delete from Resources")
    found = one.run("proxmox", "--confirm", "recover")
    assert "recorded: web" in found.stderr
    done = one.deploy()
    assert "create the vm" not in done.stderr and "copying 0 paths" in done.stderr
    after = one.records()["web"]["facts"]
    assert {key: after[key] for key in ("vmid", "uuid", "host_key")} == {
        key: facts[key] for key in ("vmid", "uuid", "host_key")
    }
    assert vms_of(one) == [str(facts["vmid"])]
    one.run("destroy", "--confirm")


def test_where_no_storage_takes_backups_snapshots_are_made(make_nixops: MakeNixops) -> None:
    one = make_nixops(network({"web": machine(ipv4="10.77.0.55/24")}), deployment="snapshots")
    one.deploy("--create-only")
    one.ssh("web", "echo before > /root/data; sync")
    facts = one.records()["web"]["facts"]
    one.bed.api("POST", f"/nodes/{facts['node']}/qemu/{facts['vmid']}/snapshot", snapname="nixops-20260101000000")
    text = one.attributes("web")["proxmox.record"]
    record = json.loads(text) | {
        "backups": {"20260101000000": {"kind": "snapshot", "snapshot": "nixops-20260101000000"}}
    }
    one.query("update ResourceAttrs set value = ? where value = ?", json.dumps(record), text)
    wait_until(lambda: "complete" in one.run("backup-status", check=False).stdout)
    one.ssh("web", "echo after > /root/data; sync")
    refused = one.run("restore", check=False)
    assert (refused.returncode, "you did not agree" in refused.stderr) == (1, True), refused.stderr
    assert one.ssh("web", "cat", "/root/data") == "after\n"
    one.run("restore", "--confirm")
    assert one.ssh("web", "cat", "/root/data") == "before\n"
    one.run("remove-backup", "20260101000000")
    assert one.records()["web"]["backups"] == {}
    one.run("destroy", "--confirm")
