"""Every command of the real NixOps on three machines: one with IPv4, one with IPv6 alone, one with both."""

import json
import re
from pathlib import Path

import pytest

from tests.nixops.bed import Nixops, machine, network
from tests.nixops.conftest import MakeNixops

pytestmark = [pytest.mark.nixops, pytest.mark.nix, pytest.mark.netns, pytest.mark.slow]

MACHINES = {
    "four": machine(ipv4="10.77.0.31/24", more='demo.message = "four here";'),
    "six": machine(ipv6="fd77:77:3::31/64", bridge="vmbr3", more='demo.message = "six here";'),
    "both": machine(ipv4="10.77.0.32/24", ipv6="fd77:77::32/64", more='demo.message = "both here";'),
}


@pytest.fixture(scope="module")
def shop(make_nixops: MakeNixops) -> Nixops:
    """Deployed once; each test leaves it running."""
    made = make_nixops(network(MACHINES))
    made.deploy()
    return made


def test_every_machine_runs_what_its_configuration_says(shop: Nixops) -> None:
    for name in MACHINES:
        assert shop.ssh(name, "cat", "/etc/message") == f"{name} here\n"


def test_another_deploy_changes_nothing(shop: Nixops) -> None:
    before, records = shop.bed.vms(), shop.records()
    shop.bed.forget_calls()
    done = shop.deploy()
    assert shop.bed.calls()
    changing = [call for call in shop.bed.calls() if call["method"] != "GET" and "/agent/" not in call["path"]]
    assert changing == []
    assert {vmid: vm["config"] for vmid, vm in shop.bed.vms().items()} == {k: v["config"] for k, v in before.items()}
    assert shop.records() == records
    assert "copying 0 paths" in done.stderr


def test_another_deploy_with_check_looks_again_and_changes_nothing(shop: Nixops) -> None:
    before = {vmid: vm["config"] for vmid, vm in shop.bed.vms().items()}
    shop.deploy("--check")
    assert {vmid: vm["config"] for vmid, vm in shop.bed.vms().items()} == before


def test_info_tells_state_vmid_and_addresses(shop: Nixops) -> None:
    rows = [line.split("\t") for line in shop.run("info", "--plain").stdout.splitlines()]
    records = shop.records()
    told = {name: (state, kind, vmid, private) for name, state, kind, vmid, _public, private in rows}
    for name, address in (("four", "10.77.0.31"), ("six", ""), ("both", "10.77.0.32")):
        facts = records[name]["facts"]
        kind = f"proxmox [lab: {facts['node']}]"
        assert told[name] == ("up / up-to-date", kind, str(facts["vmid"]), address)


def test_check_finds_all_well(shop: Nixops) -> None:
    done = shop.run("check")
    for name in MACHINES:
        row = next(line for line in done.stdout.splitlines() if line.startswith(f"| {name} "))
        assert row.count("Yes") == 4


def test_files_travel_both_ways_over_ipv4_and_ipv6(shop: Nixops, tmp_path: Path) -> None:
    (tmp_path / "here").write_text("hello")
    for name in MACHINES:
        shop.run("scp", "--to", name, str(tmp_path / "here"), "/root/there")
        shop.run("scp", "--from", name, "/root/there", str(tmp_path / name))
        assert (tmp_path / name).read_text() == "hello"


def test_a_strangers_host_key_is_refused(shop: Nixops) -> None:
    record = shop.records()["six"]
    other = {**record, "facts": {**record["facts"], "host_key": shop.records()["four"]["facts"]["host_key"]}}
    statement = "update ResourceAttrs set value = ? where name = 'proxmox.record' and value = ?"
    good = shop.attributes("six")["proxmox.record"]
    shop.query(statement, json.dumps(other), good)
    try:
        refused = shop.run("ssh", "six", "-o", "ConnectionAttempts=1", "true", check=False)
    finally:
        shop.query(statement, good, json.dumps(other))
    assert refused.returncode != 0 and "Host key verification failed" in refused.stderr
    assert shop.ssh("six", "cat", "/etc/message") == "six here\n"


def test_the_configuration_has_what_keeps_the_machine_bootable_and_reachable(shop: Nixops) -> None:
    for name in MACHINES:
        told = json.loads(shop.ssh(name, "cat", "/run/current-system/told.json"))
        root = told["fileSystems"]["/"]
        assert re.fullmatch(r"/dev/disk/by-uuid/[0-9a-f-]{36}", root["device"]) and root["fsType"] == "ext4"
        uuid = root["device"].rpartition("/")[2]
        assert shop.ssh(name, "findmnt", "-n", "-o", "UUID", "/").strip() == uuid
        assert told["loader"]["grub"]["devices"][0].startswith("/dev/disk/by-id/")
        mac = shop.records()[name]["facts"]["macs"][0]
        assert told["networks"]["00-proxmox-net0"]["matchConfig"] == {"MACAddress": mac}
        assert set(told["knownHosts"]) == set(MACHINES)


def test_stop_and_start(shop: Nixops) -> None:
    vmids = {str(record["facts"]["vmid"]) for record in shop.records().values()}
    shop.run("stop", "--confirm")
    assert {shop.bed.vms()[vmid]["status"] for vmid in vmids} == {"stopped"}
    assert "stopped" in shop.run("info", "--plain").stdout
    down = shop.run("check", check=False)
    assert down.returncode & 2 and "Traceback" not in down.stderr
    shop.run("start")
    assert {shop.bed.vms()[vmid]["status"] for vmid in vmids} == {"running"}
    test_every_machine_runs_what_its_configuration_says(shop)


def test_stop_asks_first(shop: Nixops) -> None:
    done = shop.run("stop", "--include", "four", stdin="n\n")
    assert "are you sure" in done.stderr
    assert shop.attributes("four")["state"] == "3"


@pytest.mark.parametrize("how", [(), ("--hard",)])
def test_reboot_and_wait(shop: Nixops, how: tuple[str, ...]) -> None:
    boots = {name: shop.ssh(name, "cat", "/proc/sys/kernel/random/boot_id") for name in MACHINES}
    shop.run("reboot", *how)
    for name in MACHINES:
        assert shop.ssh(name, "cat", "/proc/sys/kernel/random/boot_id") != boots[name]


def test_reboot_without_waiting(shop: Nixops) -> None:
    boot = shop.ssh("four", "cat", "/proc/sys/kernel/random/boot_id")
    shop.run("reboot", "--no-wait", "--include", "four")
    shop.run("start", "--include", "four")
    assert shop.ssh("four", "cat", "/proc/sys/kernel/random/boot_id") != boot


def test_rescue_and_back(shop: Nixops) -> None:
    shop.run("reboot", "--rescue", "--include", "both")
    assert "rescue" in shop.run("info", "--plain").stdout
    assert "installer" in shop.ssh("both", "cat", "/etc/os-release")
    shop.run("start", "--include", "both")
    assert shop.ssh("both", "cat", "/etc/message") == "both here\n"


def test_backup_and_restore(shop: Nixops) -> None:
    shop.ssh("four", "echo before > /root/data; sync")
    backup = shop.run("backup", "--include", "four").stdout.strip()
    status = shop.run("backup-status", "--include", "four").stdout
    assert backup in status and "complete" in status
    shop.ssh("four", "echo after > /root/data; sync")
    asked = shop.run("restore", "--include", "four", "--backup-id", backup, stdin="n\n", check=False)
    assert asked.returncode == 1 and "lose what is on its disks" in asked.stderr
    assert shop.ssh("four", "cat", "/root/data") == "after\n"
    shop.run("restore", "--include", "four", "--backup-id", backup, "--confirm")
    assert shop.ssh("four", "cat", "/root/data") == "before\n"
    shop.run("remove-backup", backup)
    assert shop.records()["four"]["backups"] == {}
    assert backup not in shop.run("backup-status", "--include", "four").stdout


def test_the_console_shows_what_the_machine_says(shop: Nixops) -> None:
    assert shop.run("show-console-output", "four").stdout


def test_keys_are_sent_by_nixops(shop: Nixops) -> None:
    shop.run("send-keys")
    assert shop.ssh("six", "stat", "-c", "%G", "/run/keys").strip() == "keys"


def test_what_it_records_has_no_secrets(shop: Nixops) -> None:
    exported = shop.run("export").stdout
    assert "proxmox.record" in exported
    assert "PRIVATE KEY" not in exported
    for secret in (shop.bed.running.token.split("=")[1], shop.bed.running.control_token):
        assert secret not in exported


def test_machines_reach_each_other_by_a_network_that_both_are_on(shop: Nixops) -> None:
    done = shop.run("show-physical")
    assert "10.77.0.32" in done.stdout and "PRIVATE KEY" not in done.stdout


def test_the_command_lines_verbs_know_the_same_machines(shop: Nixops) -> None:
    plan = json.loads(shop.run("proxmox", "plan", "--json").stdout)
    assert {one["machine"]: one["moves"] for one in plan["machines"]} == {name: [] for name in MACHINES}
    history = json.loads(shop.run("proxmox", "history", "six", "--json").stdout)["history"]
    assert [entry["to"] for entry in history][:3] == ["reserved", "defined", "installer"]
    checked = json.loads(shop.run("proxmox", "check", "--json").stdout)["machines"]
    assert all(one["ok"] for one in checked)
    assert all(
        one["level"] != "problem" for one in json.loads(shop.run("proxmox", "doctor", "--json").stdout)["findings"]
    )
