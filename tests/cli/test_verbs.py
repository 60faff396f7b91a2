"""The verbs as a user meets them: exit statuses, what is on stdout, what is on stderr."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.messages.plans import by_danger, describe, footer
from nixops_proxmox.model import Effect, Machine, Phase
from nixops_proxmox.nixeval.closure import PackageChange
from nixops_proxmox.nixeval.rehearsal import Rehearsal, Units
from nixops_proxmox.operations import Planned, Removal
from nixops_proxmox.operations.systems import SystemChange
from tests.pace import patience
from tests.published import check_printed

ROOT = Path(__file__).parents[2]
READY = {"app": "ready", "db": "ready", "web": "ready"}

OWN_PROCESS = {"ssh", "scp", "doctor"}


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]

    @property
    def value(self) -> Any:
        assert self.out, f"it printed nothing, and ended with {self.status}: {self.err}"
        return json.loads(self.out)


Cli = Callable[..., Done]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs the command line in a folder `shop` with a network, over a pretended deployment.

    In this process, for a start costs a second; in one of its own what becomes another program or looks around.
    """
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "network.nix").write_text("{ }")

    def run(*words: str, stdin: str = "", real: bool = False, **plan: Any) -> Done:
        described = plan.setdefault("described", ["app", "db", "web"])
        assert isinstance(described, list)
        (tmp_path / "fake.json").write_text(json.dumps(plan))
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "FAKE": str(tmp_path / "fake.json"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "HOME": str(tmp_path),
        }
        begin = start if real or OWN_PROCESS & set(words) else call
        done = begin(words, folder, environment, stdin, real)
        assert "Traceback" not in done.err or "-vv" in words, done.err
        return done

    return run


def call(words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str, _: bool) -> Done:
    from nixops_proxmox.cli import main
    from tests.cli.fake import open_fake

    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as around:
        for name in set(os.environ) - set(environment):
            around.delenv(name)
        for name, value in environment.items():
            around.setenv(name, value)
        around.chdir(folder)
        around.setattr("sys.stdin", StringIO(stdin))
        with redirect_stdout(out), redirect_stderr(err):
            status = main(words, open_deployment=open_fake)
    return told(words, Done(status, out.getvalue(), err.getvalue()))


def start(words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str, real: bool) -> Done:
    module = "nixops_proxmox" if real else "tests.cli.fake"
    argv = [sys.executable, "-W", "error", "-m", module, *words]
    done = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=patience(60),
        check=False,
    )
    return told(words, Done(done.returncode, done.stdout, done.stderr))


def told(words: Sequence[str], done: Done) -> Done:
    if "--json" in words and done.out:
        check_printed(words, done.out)
    return done


def test_deploy_tells_each_move_and_a_summary_on_stderr_alone(cli: Cli) -> None:
    done = cli("deploy")
    assert done.status == 0, done.err
    assert done.out == ""
    assert "web  absent → reserved  Walk to reserved  1.2 s" in done.err
    summary, *places, _way_in, _look = done.err.splitlines()[-6:]
    assert "3 machines ready in" in summary and [line.split()[0] for line in places] == ["app", "db", "web"]
    assert "\x1b" not in done.err


def test_deploy_again_finds_nothing_to_do(cli: Cli) -> None:
    assert cli("deploy").status == 0
    done = cli("deploy")
    assert done.status == 0
    first, last = done.err.splitlines()
    assert first == "deployment shop, on default"
    assert last.startswith("3 machines ready in")


def test_a_failure_does_not_stop_the_others_and_ends_with_what_to_do(cli: Cli) -> None:
    done = cli("deploy", "--jobs", "2", failing={"db": "TaskFailed"})
    assert done.status == 4
    assert done.err.splitlines()[-10:-3] == [
        "db failed in phase installer",
        "error: db: no room",
        "  task UPID:pve1:1 ended with: lvcreate failed",
        "  one",
        "  two",
        "hint: do this",
        "",
    ]
    assert "2 of 3 machines ready" in done.err
    assert "fix that, then run the same command to continue: nixops-proxmox deploy --jobs 2" in done.err
    assert [row[1] for row in cli("status").rows[1:]] == ["ready", "installer", "ready"]
    assert cli("deploy").status == 0, "it goes on where it stopped"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("SpecError", 2),
        ("NoPath", 3),
        ("NeedsPermission", 3),
        ("PveBusy", 4),
        ("CommandFailed", 5),
        ("NoEndpoint", 5),
        ("HostKeyChanged", 6),
        ("BuildFailed", 7),
    ],
)
def test_the_exit_status_tells_the_family_of_the_error(cli: Cli, kind: str, status: int) -> None:
    assert cli("deploy", "web", failing={"web": kind}).status == status


def test_failures_of_several_families_are_status_1(cli: Cli) -> None:
    assert cli("deploy", failing={"web": "PveBusy", "db": "NoEndpoint"}).status == 1


def test_a_defect_is_named_and_its_traceback_is_shown_only_at_vv(cli: Cli) -> None:
    done = cli("deploy", failing={"web": "defect"})
    assert done.status == 70
    assert "a defect in nixops-proxmox: KeyError: 'a defect'" in done.err
    assert "Traceback" in cli("-vv", "deploy", failing={"web": "defect"}).err


def test_until_stops_where_it_is_told(cli: Cli) -> None:
    assert cli("deploy", "--until", "defined").status == 0
    assert {row[1] for row in cli("status").rows[1:]} == {"defined"}


def test_verbose_tells_more(cli: Cli) -> None:
    done = cli("deploy", "-v", "web", seconds=0.01)
    assert "web  absent → reserved  Walk to reserved …" in done.err
    assert "web    uploading 50 %" in done.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["deplyo"], "did you mean 'deploy'?"),
        (["deploy", "wbe"], "did you mean 'web'?"),
        (["deploy", "--until", "instaled"], "did you mean 'installed'?"),
        (["deploy", "--unknown"], "unrecognized arguments: --unknown"),
        (["deploy", "--jobs", "0"], "must be at least 1"),
        (["ssh", "wbe"], "did you mean 'web'?"),
        (["scp", "a", "b"], "none of these is a machine's"),
        (["scp", "web:a", "db:b"], "these are of db, web"),
        (["history", "wbe"], "did you mean 'web'?"),
        ([], "required: VERB"),
        (["--state", "postgresql://u:secret@h/d", "status"], "every user of this computer"),
        (["--state", "mysql://h/d", "status"], "postgresql://user@host/database"),
        (["deploy", "-f", "missing.nix"], "missing.nix"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said_with_what_may_be_meant(
    cli: Cli, words: list[str], told: str
) -> None:
    done = cli(*words, recorded=READY)
    if words[:1] == ["history"]:  # a record is made by the first look
        cli("deploy")
        done = cli(*words)
    assert told in done.err
    assert done.status in (2, 7)
    assert "secret" not in done.err


def test_status_is_a_table_of_the_record(cli: Cli) -> None:
    cli("deploy", "web")
    done = cli("status")
    assert done.rows == [
        ["MACHINE", "PHASE", "HYPERVISOR", "NODE", "VMID", "ENDPOINT", "GENERATION"],
        ["web", "ready", "-", "pve1", "100", "[fd00::7]:2222", "-"],
    ]


def test_status_in_json_has_it_all(cli: Cli) -> None:
    cli("deploy", "web")
    value = cli("status", "--json").value
    assert value["deployment"] == "shop"
    (web,) = value["machines"]
    assert web["phase"] == "ready"
    assert web["endpoint"] == {"host": "fd00::7", "port": 2222, "user": "root", "jump": ""}


def test_status_of_nothing_says_so(cli: Cli) -> None:
    done = cli("status")
    assert (done.status, done.out) == (0, "")
    assert "nothing is deployed in shop" in done.err
    assert cli("status", "--json").value == {"deployment": "shop", "machines": [], "hypervisors": {}}


def test_status_explains_endpoints(cli: Cli) -> None:
    cli("deploy", "web")
    assert "  192.0.2.7: somebody else's host key" in cli("status", "--endpoints").out.splitlines()
    assert cli("status", "--endpoints", "--json").value["machines"][0]["attempts"][0] == "10.0.0.7: chosen"


def test_history_tells_what_happened_and_how_it_ended(cli: Cli) -> None:
    cli("deploy", "web", failing={"web": "CommandFailed"})
    done = cli("history", "web")
    assert "failed: web: partition failed" in done.out
    entries = cli("history", "--json", "--limit", "2").value["history"]
    assert [entry["outcome"] for entry in entries] == ["done", "failed"]
    assert entries[-1]["from"] == "installer"


def test_history_of_a_deployment_that_is_not_there_names_those_that_are(cli: Cli) -> None:
    cli("deploy")
    done = cli("history", "--deployment", "shap")
    assert done.status == 2
    assert "shop" in done.err


def test_plan_shows_moves_and_changes_and_changes_nothing(cli: Cli) -> None:
    done = cli("plan", "web")
    assert done.out.splitlines() == [
        "web: new",
        "  Create the VM",
        "  Boot it",
        "  ~ memory: 1024 → 2048  [at the next restart: memory hotplug is off]",
        "  system: /nix/store/x-system",
        "1 new. Downtime: none.",
    ]
    assert cli("status").out == ""
    assert cli("plan", recorded=READY).out.splitlines()[0] == "app: ready, nothing to do"
    assert cli("plan", "--json", "web").value["machines"][0]["machine"] == "web"


def test_a_plan_has_an_exit_status_that_says_whether_a_deploy_would_do_something(cli: Cli) -> None:
    assert cli("plan", "--check", "web").status == 10
    assert cli("plan", "web").status == 0
    assert cli("plan", "--check", failing={"web": "NoPath"}).status == 3
    assert cli("plan", "--check", recorded=READY).status == 0


def test_a_saved_plan_is_for_its_deployment_and_what_it_was_allowed(cli: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "next.plan")
    assert "saved in" in cli("plan", "--out", file, "web").err
    deployed = cli("deploy", "--plan", file)
    assert deployed.status == 0 and f"app is not in {file}, so it stays as it is" in deployed.err
    assert [row[0] for row in cli("status").rows[1:]] == ["web"]
    by_name = cli("deploy", file)
    assert by_name.status == 0 and f"app is not in {file}" in by_name.err, "a file is a plan"
    assert "one plan at a time" in cli("deploy", file, "--plan", file).err
    refused = cli("deploy", "--plan", file, "--allow-reboot")
    assert refused.status == 2 and "was made without --allow-reboot" in refused.err
    other = cli("deploy", "--plan", file, "--deployment", "other")
    assert other.status == 2 and "is a plan of the deployment 'shop'" in other.err
    assert not (tmp_path / "bad.plan").exists()
    assert "was not written" in cli("plan", "--out", str(tmp_path / "bad.plan"), failing={"web": "NoPath"}).err


CHANGING = Planned(
    "web",
    Phase.READY,
    system="/nix/store/new",
    difference=SystemChange((PackageChange("nginx", ("1.0",), ("1.1",), 5),), 9, 5),
    units=Rehearsal(Units(restarts=("nginx.service",))),
)


@pytest.mark.parametrize("verb", ["plan", "deploy"])
def test_the_machines_that_get_a_new_system_are_named_before_it_is_built(cli: Cli, verb: str) -> None:
    assert cli(verb, changing=["web"]).err.splitlines()[0] == "a new system for web; 2 machines keep what they have"
    assert cli(verb, "web", changing=["web"]).err.splitlines()[0] == "a new system for web"
    assert "a new system" not in cli(verb).err


def test_a_plan_of_one_machine_says_why_it_goes_where_it_goes(cli: Cli) -> None:
    done = cli("plan", "--why", "web")
    assert done.out.splitlines()[:3] == [
        "web: it is created on pve1",
        "NODE  MEMORY FREE  LEFT WITH IT  WHY",
        "pve1  -            -             chosen: the most is left here",
    ]
    assert "pve2  -            -             no: it is offline" in done.out and "app" not in done.out
    assert "  `nixops-proxmox deploy --allow-reboot` does that" in done.out.replace("; ", "\n  ")
    table = cli("plan", "--why", "web", "--json").value["machines"][0]["placement"]
    assert table["node"] == "pve1" and table["nodes"][1]["reasons"] == ["it is offline"]
    assert cli("plan", "--json", "web").value["machines"][0]["placement"] is None
    assert "did you mean 'web'?" in cli("plan", "--why", "weeb").err
    assert "--why explains one machine" in cli("plan", "--why", "web", "app").err


def test_a_plan_tells_the_worst_first_and_how_long_machines_are_away() -> None:
    plans = [
        Planned("same", Phase.READY),
        Planned("fresh", Phase.ABSENT, ("Create it",), effect=Effect.NEW),
        Planned("later", Phase.READY, ("Boot it",), effect=Effect.RESTART, restart=("memory",), downtime=37.2),
        Planned("once", Phase.READY, ("Boot it",), effect=Effect.RESTART, restart=("memory",)),
        Planned("gone", Phase.LOST, ("Destroy it",), effect=Effect.RECREATE),
    ]
    assert [plan.name for plan in by_danger(plans)] == ["gone", "later", "once", "fresh", "same"]
    assert footer(plans, [Removal(Machine("shop", "old"))]) == (
        "1 recreated, 2 restarted, 1 new, 1 unchanged, 1 no longer described. Downtime: later 37 s, once unknown."
    )
    assert describe(plans[2])[0] == "later: ready, it restarts once: memory (down for about 37 s, as the last time)"


def test_a_plan_says_what_is_done_for_the_safety_of_a_new_system() -> None:
    kernel = replace(CHANGING, difference=SystemChange((), 0, later=("kernel 6.6 → 6.12",)), effect=Effect.RESTART)
    tried = replace(kernel, moves=("Boot it",), restart=("kernel",), tried=True, forgets=True, snapshot=True)
    lines = describe(tried)
    assert any("take a snapshot of its disks before the switch" in line for line in lines)
    assert any("it is booted once" in line for line in lines) and any("no EFI disk" in line for line in lines)
    assert not any("EFI disk" in line or "snapshot" in line for line in describe(kernel))


def test_a_plan_says_that_a_deploy_alone_boots_nobody_out_of_rescue(cli: Cli) -> None:
    assert cli("plan", "app", recorded={"app": "rescue"}).out.splitlines()[:2] == [
        "app: rescue, it restarts once: it runs the installer (down: unknown)",
        "  [only `nixops-proxmox deploy --allow-reboot` boots its own system]",
    ]


def test_a_plan_that_cannot_be_has_the_errors_status(cli: Cli) -> None:
    done = cli("plan", failing={"web": "NoPath"})
    assert done.status == 3
    assert "hint: do this" in done.err


def test_check_is_0_only_if_all_is_well(cli: Cli) -> None:
    assert cli("check", recorded=READY).status == 0
    done = cli("check", recorded=READY, failing={"web": "it does not answer"})
    assert done.status == 1
    assert "web: it does not answer" in done.out
    assert cli("check", "--json", recorded=READY).value["machines"][0]["ok"] is True


def test_check_has_a_status_of_its_own_for_drift_and_writes_for_prometheus(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "machines.prom"
    assert cli("check", "--metrics", str(file), recorded=READY).status == 0
    assert 'machine="web"} 1' in file.read_text() and [path.name for path in tmp_path.glob("*.prom*")] == [file.name]
    done = cli("check", "--metrics", str(tmp_path / "no" / "file"), recorded=READY)
    assert done.status == 2 and "cannot write" in done.err


def test_volumes_are_listed_and_in_the_plan(cli: Cli) -> None:
    assert cli("volume", "list").err == "there are no volumes\n"
    rows = cli("volume", "list", volumes={"data": "parked"}).rows
    assert rows[1][0] == "data" and "parked" in " ".join(rows[1])
    assert cli("volume", "list", "--json", volumes={"data": "parked"}).value["volumes"][0]["vmid"] == 900000
    plan = cli("plan", "--check", recorded=READY, volumes={"data": "absent"})
    assert plan.status == 10 and "volume data: new, 10 GiB on local-lvm, and parked" in plan.out
    assert "3 unchanged, 1 new volume. Downtime: none." in plan.out


def test_a_vm_is_taken_over_after_a_question(cli: Cli, tmp_path: Path) -> None:
    shown = cli("adopt", "104", "--dry-run")
    assert shown.status == 0 and "gitea = {" in shown.out and "left alone: args: no option says it" in shown.err
    assert cli("adopt", "104").status == 3, "it cannot ask here"
    file = tmp_path / "gitea.nix"
    done = cli("adopt", "104", "--as", "forge", "--out", str(file), "--yes")
    assert done.status == 0 and "taken over: forge" in done.err and "terraform state rm 'vm.gitea'" in done.err
    assert 'size = "32G";' in file.read_text()
    assert cli("adopt", "104", "--out", str(file), "--yes").status == 2, "a file that is there stays"
    nothing = cli("adopt", "other", "--out", str(tmp_path / "none.nix"))
    assert nothing.status == 1 and "{" not in nothing.out and not (tmp_path / "none.nix").exists()
    assert cli("adopt", "104", "--dry-run", "--json").value["vms"][0]["machine"] == "gitea"


def test_a_resource_is_taken_over_after_a_question(cli: Cli) -> None:
    place = "resources.pools.front"
    shown = cli("adopt", place, "--dry-run")
    assert shown.status == 0 and "taken over" not in shown.err
    assert f'{place}: it is there, and not ours: its comment is "by \\x1bhand"' in shown.err
    assert "a deploy changes it then: comment: 'by hand' becomes ''" in shown.err
    assert cli("adopt", place).status == 3, "it cannot ask here"
    assert f"taken over: {place}" in cli("adopt", place, "--yes").err
    assert cli("adopt", place, "104").status == 2
    assert cli("adopt", place, "--dry-run", "--json").value["resources"][0]["resource"] == place


def test_only_its_name_deletes_a_volume(cli: Cli) -> None:
    refused = cli("volume", "delete", "data")
    assert refused.status == 3 and "volume delete data --confirm data" in refused.err
    assert "nothing was done" in cli("volume", "delete", "data", "--confirm", "dta").err
    assert "volume data: deleted, with its data" in cli("volume", "delete", "data", "--confirm", "data").err
    assert cli("volume", "detach", "other").status == 2
    assert "volume data: attached" in cli("volume", "attach", "data").err
    assert "the next deploy of its machine grows what is on it" in cli("volume", "grow", "data").err


def test_ssh_and_scp_become_the_real_programs(cli: Cli) -> None:
    cli("deploy")
    assert cli("ssh", "web", "--", "ls", "-l").out == "ssh web ls -l\n"
    assert cli("ssh", "web", "uptime", "-p").out == "ssh web uptime -p\n"
    assert cli("ssh", "--print", "web", "echo a b").out == "echo ssh web 'echo a b'\n"
    assert cli("scp", "-r", "file", "web:/tmp").out == "scp web file web:/tmp True\n"


@pytest.mark.parametrize(
    ("verb", "phase"), [("stop", "stopped"), ("start", "ready"), ("rescue", "rescue"), ("reboot", "ready")]
)
def test_power_verbs_bring_the_machines_there(cli: Cli, verb: str, phase: str) -> None:
    cli("deploy")
    assert cli(verb, "web").status == 0
    assert {row[0]: row[1] for row in cli("status").rows[1:]}["web"] == phase


def test_migrate_says_first_what_it_takes_and_what_forbids_it(cli: Cli) -> None:
    cli("deploy")
    done = cli("migrate", "web")
    assert done.status == 0
    assert "web: pve1 → pve2, live\n  8.0 GiB of disks are copied: local:vm-100-disk-0\n  a warning\n" in done.err
    assert "  forbidden: it is offline\n" in cli("migrate", "web", "--to", "pve3").err
    assert "web: it is on pve1 already" in cli("migrate", "web", "--to", "pve1").err


def test_move_says_what_it_does_asks_and_names_what_the_description_must_say(cli: Cli) -> None:
    cli("deploy")
    done = cli("move", "web", "--to", "tenant")
    assert done.status == 3, "there is no one to ask"
    lines = (
        "web: default → tenant",
        "  it is shut down, and backed up to nfs (8.0 GiB of disks)",
        "  it is restored on tenant, and started there",
        "  when it answers with its host key, its VM on default is destroyed; the backup stays",
    )
    assert "\n".join(lines) in done.err
    assert "nothing was done" in cli("move", "web", "--to", "tenant", "--dry-run").err
    assert "  forbidden: its snapshots (before) would be lost" in cli("move", "web", "--to", "full").err
    moved = cli("move", "web", "--to", "tenant", "--yes")
    assert moved.status == 0 and 'web: set deployment.proxmox.profile = "tenant" now' in moved.err
    assert {row[0]: row[2] for row in cli("status").rows[1:]}["web"] == "tenant"


def test_destroy_asks_and_names_what_goes(cli: Cli) -> None:
    cli("deploy")
    done = cli("destroy", "web")
    assert done.status == 3, "nobody can be asked, and no word was given"
    assert "web  ready  VM 100 on pve1, with all of its disks" in done.err
    assert "also deleted: unused0: local:vm-100-disk-9 of web" in done.err
    assert "--yes" in done.err
    assert len(cli("status").rows) == 4
    assert cli("destroy", "web", "--yes").status == 0
    assert [row[0] for row in cli("status").rows[1:]] == ["app", "db"]


def test_destroy_by_uuid_means_that_machine_alone(cli: Cli) -> None:
    cli("deploy")
    nobody = "00000000-0000-4000-8000-000000000000"
    for words, says in (((nobody,), f"no machine with the UUID {nobody}"), ((nobody, "web"), "you named others too")):
        done = cli("destroy", "--yes", "--uuid", *words)
        assert done.status == 2 and says in done.err
    assert len(cli("status").rows) == 4


def test_destroy_tells_in_json_what_is_gone_and_what_is_not(cli: Cli) -> None:
    cli("deploy")
    done = cli("destroy", "web", "app", "--json", "--yes", failing={"app": "PveBusy"})
    app, web = sorted(done.value["machines"], key=lambda one: str(one["machine"]))
    assert done.status == 4 and (app["machine"], web["machine"]) == ("app", "web")
    assert (web["destroyed"], web["vmid"], web["node"], web["error"]) == (True, 100, "pve1", None)
    assert (app["destroyed"], app["vmid"]) == (False, 100) and "app" in app["error"]
    assert cli("destroy", "--forget", "db", "--json", "--yes").value == {"forgotten": ["db"]}


def test_forgetting_drops_records_that_nothing_else_can_read(cli: Cli, tmp_path: Path) -> None:
    cli("deploy")
    (state,) = (tmp_path / "state").rglob("state.sqlite")
    hostile = "[x]/../../y"
    with sqlite3.connect(state) as connection:
        connection.execute("update things set name = ?, facts = ? where name = 'web'", (hostile, '{"uuid": "u-1"}'))
        connection.execute("update things set facts = 'no json' where name = 'db'")
    connection.close()
    assert cli("destroy", "--forget", "db").status == 3, "nobody was there to say yes"
    assert "forgotten: db" in cli("destroy", "--forget", "db", "--yes").err
    done = cli("destroy", "--forget", "--uuid", "u-1", "--yes")
    assert done.status == 0 and hostile in done.err
    assert [row[0] for row in cli("status").rows[1:]] == ["app"]


def test_reinstall_says_what_will_be_lost_and_what_kept(cli: Cli) -> None:
    cli("deploy")
    assert cli("reinstall", "web").status == 3
    done = cli("reinstall", "web", "-y")
    assert done.status == 0
    assert "web: what is on scsi0 (8 GiB) will be lost; scsi1 will be kept" in done.err


def test_a_machine_that_is_no_longer_described_is_mentioned(cli: Cli) -> None:
    cli("deploy")
    done = cli("deploy", described=["web"])
    assert "db is no longer in the description, but it still exists; `nixops-proxmox destroy db` removes it" in done.err


def test_a_plan_says_what_a_deploy_with_remove_destroys_and_keeps(cli: Cli) -> None:
    done = cli("plan", described=["web"], recorded={"db": "ready"})
    assert done.out.splitlines()[-5:] == [
        "db: no longer in the description; `nixops-proxmox deploy --remove` destroys it",
        "  destroyed: VM 100 on pve1 (default), with all of its disks",
        "  destroyed: unused0: local:vm-100-disk-9 of db",
        "  kept: scsi2: local:vm-7-disk-0",
        "1 new, 1 no longer described. Downtime: none.",
    ]
    json = cli("plan", "--json", described=["web"]).value
    assert json["no longer described"] == ["db"]
    assert json["removals"] == [
        {
            "machine": "db",
            "phase": "ready",
            "vmid": 100,
            "node": "pve1",
            "also destroyed": ["unused0: local:vm-100-disk-9 of db"],
            "kept": ["scsi2: local:vm-7-disk-0"],
        }
    ]


def test_only_a_deploy_with_remove_destroys_what_is_not_described_any_more(cli: Cli) -> None:
    cli("deploy")
    left = ["web"]
    for words in (("deploy",), ("plan",), ("deploy", "--yes"), ("check",)):
        cli(*words, described=left)
        assert sorted(row[0] for row in cli("status", described=left).rows[1:]) == ["app", "db", "web"]
    refused = cli("deploy", "--remove", described=left)
    assert refused.status == 3 and "destroy app, db, with all their data?" in refused.err, "nobody was there to agree"
    failed = cli("deploy", "--remove", "--yes", "--until", "ready", described=["new"], failing={"new": "TaskFailed"})
    assert failed.status != 0
    assert "db" in cli("status").out, "where the deploy fails, nothing is given up"
    one = cli("deploy", "--remove", "--yes", "db", described=left)
    assert one.status == 0 and "  kept: scsi2: local:vm-7-disk-0" in one.err
    assert "db" not in cli("status", described=left).out and "app" in cli("status", described=left).out
    assert cli("deploy", "--remove", "--yes", described=left).status == 0
    assert [row[0] for row in cli("status", described=left).rows[1:]] == ["web"]
    assert cli("deploy", "--remove", described=left).status == 0, "nothing is left to agree to"


def test_a_saved_plan_destroys_what_it_was_saved_for(cli: Cli, tmp_path: Path) -> None:
    cli("deploy")
    left, without, both = ["web"], str(tmp_path / "a.plan"), str(tmp_path / "b.plan")
    assert "does not destroy app, db: `--remove` saves that, too" in cli("plan", "--out", without, described=left).err
    refused = cli("deploy", "--remove", "--plan", without, described=left)
    assert refused.status == 2 and "was made without --remove" in refused.err
    assert cli("deploy", "--plan", without, described=left).status == 0
    assert "db" in cli("status", described=left).out
    assert "--remove says what --out saves" in cli("plan", "--remove", described=left).err
    assert "does not destroy" not in cli("plan", "--remove", "--out", both, described=left).err
    asked = cli("deploy", "--plan", both, described=left)
    assert asked.status == 3 and "destroy app, db, with all their data?" in asked.err
    text = Path(both).read_text()
    Path(both).write_text(text.replace("of db", "of somebody"))
    done = cli("deploy", "--plan", both, "--yes", described=left)
    assert done.status == 1 and "db has changed since the plan was made, so it stays" in done.err
    assert [row[0] for row in cli("status", described=left).rows[1:]] == ["db", "web"]
    Path(both).write_text(text)
    assert cli("deploy", "--plan", both, "--yes", described=left).status == 0
    assert [row[0] for row in cli("status", described=left).rows[1:]] == ["web"]


def test_two_folders_of_different_name_are_two_deployments(cli: Cli, tmp_path: Path) -> None:
    cli("deploy")
    other = tmp_path / "blog"
    other.mkdir()
    (other / "network.nix").write_text("{ }")
    assert "nothing is deployed in blog" in cli("status", "-f", str(other / "network.nix")).err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_verbs_and_is_valid(cli: Cli, shell: str) -> None:
    script = cli("completion", shell, real=True).out
    assert "deploy" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_lifecycle_is_shown_as_text_diagram_and_json(cli: Cli) -> None:
    assert cli("lifecycle", real=True).rows[0][:2] == ["asked", "for"]
    assert "Make it as described" in cli("lifecycle", "medium", real=True).out
    known = cli("lifecycle", "balloon", real=True, status=2).err.partition("known kinds: ")[2]
    assert {"machine", "medium", "pool"} <= set(known.strip().split(", "))
    assert cli("lifecycle", "--mermaid", real=True).out.startswith("stateDiagram-v2")
    assert {"goal", "standing", "step", "to"} == set(cli("lifecycle", "--json", real=True).value["moves"][0])


def test_the_schema_of_a_verb_is_printed_and_the_verbs_are_listed(cli: Cli) -> None:
    assert "volume list" in cli("schema").out.splitlines()
    assert cli("schema", "volume", "list").value["title"] == "nixops-proxmox volume list --json"
    refused = cli("schema", "ssh")
    assert refused.status == 2 and "there is no schema of 'ssh'" in refused.err and "volume list" in refused.err


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["deploy", "--help"]])
def test_help_needs_nothing(cli: Cli, words: list[str]) -> None:
    done = cli(*words, real=True)
    assert done.status == 0
    assert "nixops-proxmox" in done.out


def test_macs_are_listed_and_those_of_others_are_told(cli: Cli) -> None:
    listed = cli("macs", "list")
    assert listed.status == 0 and ["db", "net0", "not", "known", "yet", "the", "machine's", "UUID"] in listed.rows
    doubled = cli("macs", "list", "--check", "--json")
    assert doubled.status == 3 and "its MAC 02:4D:01:10:00:01 is on VM 7 (gitea) on pve1, too" in doubled.err
    assert doubled.value["macs"][0]["from"] == "scheme mgmt" and doubled.value["macs"][1]["mac"] is None


def test_entries_of_lists_are_given_back_by_word(cli: Cli) -> None:
    assert "still taken: pvm002.example.com of the pool campus" in cli("destroy", "--yes", "web", recorded=READY).err
    given = cli("destroy", "--yes", "--release", "db", recorded=READY)
    assert "given back: pvm002.example.com of the pool campus" in given.err
    assert "the pool campus gets back DE:AD:BE:EF:00:01 for old" in cli("macs", "release", "old").err
    assert "have taken nothing" in cli("macs", "release", "web").err


def test_a_saved_plan_holds_resources_and_leaves_what_it_does_not_know(cli: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "next.plan")
    given: dict[str, Any] = {"recorded": READY, "pools": {"front": "absent"}, "forgotten pools": ["gone", "older"]}
    told = cli("plan", "--out", file, **given).err
    assert f"{file} does not remove pool gone, pool older: `--remove` saves that, too" in told
    assert "saved in" in cli("plan", "--remove", "--out", file, **(given | {"forgotten pools": ["gone"]})).err
    later = given | {"pools": {"front": "absent", "new": "absent"}}
    done = cli("deploy", "--plan", file, "--yes", **later).err
    assert f"pool new is not in {file}, so it stays as it is" in done
    assert f"pool older is not to be removed by {file}, so it stays" in done
    assert "pool gone: no longer in the description, so it is removed" in done and "pool older: no" not in done


def test_where_a_hypervisor_asks_for_a_word_the_plan_is_shown_before_the_question(cli: Cli) -> None:
    refused = cli("deploy", careful=["web"])
    assert refused.status == 3 and "do this on mgmt?" in refused.err and "web: " in refused.out
    assert cli("deploy", "--yes", careful=["web"]).status == 0
    assert cli("deploy", "app", careful=["web"]).status == 0, "nothing careful is changed"
    pools = cli("deploy", **{"careful pools": ["front"]})
    assert pools.status == 3 and "do this on mgmt?" in pools.err and "pool front: new" in pools.out
    assert cli("deploy", "--yes", **{"careful pools": ["front"]}).status == 0


def test_a_recovery_key_is_tried_from_the_sink_or_from_standard_input(cli: Cli) -> None:
    recorded = {"web": "ready"}
    done = cli("recovery", "test", "web", recorded=recorded)
    assert done.status == 0 and "web: the key opens the key slot 1 (recovery) of its disk" in done.out
    done = cli("recovery", "test", "web", "--json", recorded=recorded)
    assert (done.value["slot"], done.value["slots"], done.value["ok"]) == (1, [1, 2, 3], True)
    done = cli("recovery", "test", "web", "--key-file", "-", stdin="some-other-key\n", recorded=recorded)
    assert done.status == 1 and "web: the key does not open its disk" in done.out
    assert "some-other-key" not in done.out + done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("test", "web", "--key-file", "-"), "there is no key in the standard input"),
        (("test", "web", "--key-file", "/nowhere/key"), "cannot read /nowhere/key"),
        (("rotate", "--key-file", "-"), "--key-file has the key of one disk"),
        (("test", "wbe"), "did you mean 'web'"),
    ],
)
def test_a_key_that_cannot_be_read_is_told_before_anything_is_asked(cli: Cli, words: list[str], said: str) -> None:
    done = cli("recovery", *words, recorded={"web": "ready"})
    assert done.status == 2 and said in done.err
