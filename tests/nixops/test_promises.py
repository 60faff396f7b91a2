"""What NixOps does around a machine that is not as usual: in rescue, refused, out of reach, or in need of a program."""

import json
import os
import re
import stat

import pytest

from tests.nixops.bed import Nixops, machine, network
from tests.nixops.conftest import MakeNixops

pytestmark = [pytest.mark.nixops, pytest.mark.nix, pytest.mark.netns, pytest.mark.slow]

PAIR = {
    "web": machine(ipv4="10.77.0.101/24", more='deployment.keys.pass = { text = "hunter2"; };'),
    "db": machine(ipv4="10.77.0.102/24", ipv6="fd77:77::102/64"),
}


@pytest.fixture(scope="module")
def pair(make_nixops: MakeNixops) -> Nixops:
    made = make_nixops(network(PAIR), deployment="pair")
    made.deploy()
    return made


def state_of(one: Nixops, name: str) -> str:
    rows = [line.split("\t") for line in one.run("info", "--plain").stdout.splitlines()]
    return next(row[1] for row in rows if row[0] == name)


def test_each_machine_knows_the_others_names(pair: Nixops) -> None:
    for name, hosts in (("web", {"10.77.0.102": ["db"]}), ("db", {"10.77.0.101": ["web"]})):
        assert json.loads(pair.ssh(name, "cat", "/run/current-system/told.json"))["hosts"] == hosts


def test_keys_are_where_they_belong_and_survive_a_reboot(pair: Nixops) -> None:
    assert pair.ssh("web", "cat", "/run/keys/pass") == "hunter2"
    pair.run("reboot", "--include", "web")
    assert pair.ssh("web", "cat", "/run/keys/pass") == "hunter2"


def test_a_plan_is_shown_and_nothing_is_done(pair: Nixops) -> None:
    pair.write(network({**PAIR, "db": PAIR["db"].replace("memory = 512;", "memory = 640;")}))
    before = pair.attributes("db")
    try:
        told = pair.deploy("--plan-only").stderr
    finally:
        pair.write(network(PAIR))
    assert "memory: 512 → 640" in told and "nothing to do" in told and "doesn't implement" not in told
    assert pair.attributes("db") == before


def test_a_plan_says_how_long_a_restart_takes_and_where_new_machines_go(pair: Nixops) -> None:
    pair.run("reboot", "--include", "db")
    pair.write(network({**PAIR, "db": PAIR["db"].replace("memory = 512;", "memory = 640;"), "new": machine()}))
    try:
        told = pair.deploy("--plan-only", "--allow-reboot").stderr
        careful = pair.deploy("--plan-only").stderr
    finally:
        pair.write(network(PAIR))
    assert re.search(r"db: \w+, it restarts once: memory \(down for about .* s, as the last time\)", told), told
    assert re.search(r"new: new, on \w+", told), told
    assert "restarts once" not in careful and "[at the next restart: memory hotplug is off]" in careful
    assert set(pair.records()) == {"web", "db"}


def test_nobody_is_thrown_out_of_rescue_without_a_word(pair: Nixops) -> None:
    pair.run("reboot", "--rescue", "--include", "web")
    assert pair.attributes("web")["privateIPv4"] == "10.77.0.101"
    refused = pair.deploy("--include", "web", check=False)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "it is in rescue" in refused.stderr and "`nixops start --include web`" in refused.stderr
    assert state_of(pair, "web").startswith("rescue")
    assert "`nixops start --include web` boots" in pair.run("check", "--include", "web", check=False).stdout
    pair.run("start", "--include", "web")
    assert pair.ssh("web", "cat", "/etc/message") == "hello\n"


def test_after_a_refused_deploy_the_state_is_what_is_true(pair: Nixops) -> None:
    pair.run("stop", "--include", "db", "--confirm")
    pair.write(network({**PAIR, "db": PAIR["db"].replace('size = "2G"', 'size = "1G"')}))
    refused = pair.deploy("--include", "db", check=False)
    pair.write(network(PAIR))
    assert refused.returncode == 1 and "cannot be changed in place" in refused.stderr
    assert state_of(pair, "db").startswith("stopped")
    pair.run("start", "--include", "db")  # by the description that it has, not by the one that was refused
    assert state_of(pair, "db").startswith("up")


def test_one_machine_that_lets_nobody_in_does_not_hide_the_others(pair: Nixops) -> None:
    pair.ssh("web", "cp -r /root/.ssh /root/kept; rm -rf /root/.ssh /etc/ssh/authorized_keys.d; true")
    done = pair.run("check", check=False)
    assert "Traceback" not in done.stderr
    rows = {line.split("|")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("| ")}
    assert rows["db"].count("Yes") == 4
    assert done.returncode == 0 or done.returncode & 4
    pair.run("proxmox", "--confirm", "reinstall", "web")
    pair.deploy("--include", "web")


def test_what_could_not_be_looked_at_is_not_well(pair: Nixops) -> None:
    profiles = pair.bed.home / "config" / "nixops-proxmox" / "profiles.toml"
    text = profiles.read_text()
    try:
        profiles.write_text(re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:9", text))
        done = pair.run("check", check=False)
    finally:
        profiles.write_text(text)
    assert done.returncode & 4 and "Traceback" not in done.stderr


def test_the_doctor_knows_what_nixops_needs(pair: Nixops) -> None:
    found = json.loads(pair.run("proxmox", "doctor", "--json", check=False).stdout)["findings"]
    assert {"rsync", "sshfs"} <= {one["subject"] for one in found}


def test_a_state_that_cannot_be_written_is_named(pair: Nixops) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write to every file")
    file = pair.folder / "state.nixops"
    mode = stat.S_IMODE(file.stat().st_mode)
    file.chmod(0o400)
    try:
        done = pair.deploy(check=False)
    finally:
        file.chmod(mode)
    assert done.returncode == 1 and str(file) in done.stderr and "Traceback" not in done.stderr


def test_backups_are_removed_one_by_one_and_by_number(pair: Nixops) -> None:
    pair.write(network({**PAIR, "new": machine()}))
    pair.deploy("--plan-only")  # NixOps knows `new` from now on, and asks it too, though it was never made
    pair.write(network(PAIR))
    made = [pair.run("backup", "--include", "db").stdout.split()[-1] for _ in range(3)]
    pair.run("remove-backup", made[0])
    assert sorted(pair.records()["db"]["backups"]) == made[1:]
    pair.run("clean-backups", "--keep", "1")
    assert list(pair.records()["db"]["backups"]) == made[2:]
    pair.run("clean-backups", "--keep-days", "400")
    assert list(pair.records()["db"]["backups"]) == made[2:]
