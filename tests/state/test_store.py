import json
import sqlite3
import stat
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError, StateError, StateTooNew
from nixops_proxmox.kinds.machine import ports
from nixops_proxmox.model import Address, Endpoint, Facts, Machine, Phase, Reach
from nixops_proxmox.state import AttemptOutcome, State, has_password, open_state
from nixops_proxmox.state.database import parse_location

FULL = Facts(
    uuid="9b0c1c9a-5d3e-4a5e-8f0b-000000000001",
    vmid=101,
    node="pve1",
    macs=("bc:24:11:00:00:01",),
    host_key="ssh-ed25519 AAAA",
    addresses=(Address(ip_address("fd00::7"), Reach.PRIVATE, "eth0", "bc:24:11:00:00:01"),),
    endpoint=Endpoint("fd00::7", jump="bastion"),
    extra={"door": "cli"},
)


def test_the_journal_is_what_the_lifecycle_needs(state: State) -> None:
    journal: ports.Journal = state.deployment("net").journal()  # mypy checks the fit
    assert journal is not None


def test_what_was_committed_is_there_after_reopening(url: str) -> None:
    with open_state(url) as state:
        journal = state.deployment("net").journal()
        web = Machine("net", "web")
        attempt = journal.begin(web, "Reserve a VMID", Phase.RESERVED)
        journal.commit(attempt, web.moved(Phase.RESERVED, FULL))
    with open_state(url) as state:
        assert state.deployments() == ["net"]
        assert state.deployment("net").machines() == [Machine("net", "web", Phase.RESERVED, FULL)]


def test_a_machine_without_a_record_is_absent(state: State) -> None:
    assert state.deployment("net").machine("web") == Machine("net", "web", Phase.ABSENT, Facts())


def test_deployments_do_not_see_each_others_machines(state: State) -> None:
    state.deployment("one").journal().record(Machine("one", "web", Phase.READY), "Found")
    assert state.deployment("two").machines() == []
    assert state.deployment("one").machine("web").phase is Phase.READY


def test_notes_survive_and_upids_stay_with_the_attempt_once_each(state: State) -> None:
    deployment = state.deployment("net")
    journal = deployment.journal()
    web = Machine("net", "web", Phase.RESERVED, FULL)
    attempt = journal.begin(web, "Create the VM", Phase.DEFINED)
    for upid in ("UPID:1", "UPID:2", "UPID:2", ""):
        journal.note(attempt, web.moved(web.phase, replace(FULL, task=upid)))
    assert deployment.machine("web") == web
    (entry,) = deployment.history()
    assert (entry.outcome, entry.tasks, entry.ended) == (AttemptOutcome.RUNNING, ("UPID:1", "UPID:2"), None)


def test_a_failure_keeps_phase_and_facts_and_tells_why(state: State) -> None:
    deployment = state.deployment("net")
    journal = deployment.journal()
    web = Machine("net", "web", Phase.RESERVED, FULL)
    journal.record(web, "Found")
    attempt = journal.begin(web, "Create the VM", Phase.DEFINED)
    journal.fail(attempt, StateError("web: no room left"))
    assert deployment.machine("web") == web
    entry = deployment.history("web")[-1]
    assert (entry.outcome, entry.error) == (AttemptOutcome.FAILED, "web: no room left")
    assert entry.seconds is not None


def test_a_turn_is_recorded_with_the_phase_it_led_to(state: State) -> None:
    deployment = state.deployment("net")
    journal = deployment.journal()
    web = Machine("net", "web", Phase.RESERVED, FULL)
    attempt = journal.begin(web, "Create the VM", Phase.DEFINED)
    journal.commit(attempt, web.moved(Phase.ABSENT, Facts()))
    assert deployment.history()[-1].phase_to == "absent"


def test_a_sighting_tells_what_the_record_said_before(state: State) -> None:
    deployment = state.deployment("net")
    journal = deployment.journal()
    journal.record(Machine("net", "web", Phase.READY), "Found")
    journal.record(Machine("net", "web", Phase.LOST), "The VM is gone")
    entry = deployment.history()[-1]
    assert (entry.phase_from, entry.phase_to, entry.outcome) == ("ready", "lost", AttemptOutcome.SEEN)


@pytest.mark.parametrize("ending", ["commit", "fail", "note"])
def test_an_attempt_that_has_ended_cannot_end_again_and_changes_nothing(state: State, ending: str) -> None:
    deployment = state.deployment("net")
    journal = deployment.journal()
    web = Machine("net", "web", Phase.RESERVED)
    attempt = journal.begin(web, "Create", Phase.DEFINED)
    journal.fail(attempt, StateError("first"))
    with pytest.raises(StateError, match="not running"):
        match ending:
            case "commit":
                journal.commit(attempt, web.moved(Phase.DEFINED, FULL))
            case "fail":
                journal.fail(attempt, StateError("second"))
            case _:
                journal.note(attempt + 99, web.moved(Phase.DEFINED, FULL))
    assert deployment.machine("web").phase is Phase.ABSENT, "phase and facts are in the same transaction"
    assert [entry.error for entry in deployment.history()] == ["first"]


def test_history_is_in_order_by_machine_and_the_latest_when_limited(state: State) -> None:
    deployment = state.deployment("net")
    for name in ("web", "db", "web"):
        deployment.journal().record(Machine("net", name, Phase.READY), f"saw {name}")
    assert [entry.name for entry in deployment.history()] == ["web", "db", "web"]
    assert len(deployment.history("web")) == 2
    assert [entry.name for entry in deployment.history(limit=2)] == ["db", "web"]
    assert deployment.history("nobody") == []


def test_a_forgotten_machine_is_absent_and_its_history_stays(state: State) -> None:
    deployment = state.deployment("net")
    deployment.journal().record(Machine("net", "web", Phase.READY), "Found")
    deployment.remember_winner("web", "home", Endpoint("10.0.0.7"))
    deployment.forget("web")
    assert deployment.machines() == []
    assert deployment.find_winner("web", "home") is None
    assert len(deployment.history("web")) == 1


def test_a_deployment_with_machines_is_not_forgotten(state: State) -> None:
    deployment = state.deployment("net")
    deployment.journal().record(Machine("net", "web", Phase.READY), "Found")
    with pytest.raises(StateError, match="still has web"):
        deployment.forget_all()
    deployment.forget("web")
    deployment.forget_all()
    assert not state.has_deployment("net")


def test_winners_are_remembered_per_site_and_the_latest_counts(state: State) -> None:
    deployment = state.deployment("net")
    deployment.remember_winner("web", "home", Endpoint("10.0.0.7"))
    deployment.remember_winner("web", "office", Endpoint("2001:db8::7", 2222, "admin", "bastion"))
    deployment.remember_winner("web", "home", Endpoint("10.0.0.8"))
    assert deployment.find_winner("web", "home") == Endpoint("10.0.0.8")
    assert deployment.find_winner("web", "office") == Endpoint("2001:db8::7", 2222, "admin", "bastion")
    assert deployment.find_winner("web", "moon") is None


def test_names_of_any_kind_are_kept_as_they_are(state: State) -> None:
    name = "wéb'; DROP TABLE machines; -- %s :x 🦊"
    state.deployment(name).journal().record(Machine(name, "web", Phase.READY), name)
    assert state.deployment(name).machine("web").phase is Phase.READY
    assert state.deployments() == [name]
    with pytest.raises(StateError, match="cannot be a machine's name"):
        state.deployment(name).journal().record(Machine(name, name, Phase.READY), name)
    assert state.deployment(name).machine(name).phase is Phase.ABSENT


def test_a_phase_of_a_newer_version_is_refused_by_name(url: str, state: State) -> None:
    deployment = state.deployment("net")
    deployment.journal().record(Machine("net", "web", Phase.READY), "Found")
    with state.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE things SET phase = 'levitating'")
    with pytest.raises(StateTooNew, match="levitating"):
        deployment.machines()


def test_facts_of_a_newer_version_are_refused_by_name(state: State) -> None:
    deployment = state.deployment("net")
    deployment.journal().record(Machine("net", "web", Phase.READY), "Found")
    with state.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE things SET facts = '" + json.dumps({"colour": "red"}) + "'")
    with pytest.raises(StateTooNew, match="colour"):
        deployment.machine("web")


@pytest.mark.parametrize("facts", ['{"addresses": [{}]}', '{"addresses": 7}', "[1]", '{"macs": 1}'])
def test_damaged_facts_are_an_error_that_names_the_machine(state: State, facts: str) -> None:
    deployment = state.deployment("net")
    deployment.journal().record(Machine("net", "web", Phase.READY), "Found")
    with state.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE things SET facts = '{facts}'")
    with pytest.raises(StateError):
        deployment.machine("web")


def test_the_file_and_its_directory_are_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "state" / "state.sqlite"
    with open_state(str(file)) as state:
        state.deployment("net").journal().record(Machine("net", "web", Phase.READY), "Found")
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert {stat.S_IMODE(f.stat().st_mode) for f in file.parent.iterdir()} == {0o600}
        assert len(list(file.parent.iterdir())) > 1, "WAL keeps side files: they were looked at, too"


def test_the_default_is_in_the_users_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with open_state() as state:
        state.deployment("net")
    assert (tmp_path / "nixops-proxmox" / "state.sqlite").exists()


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    file.touch()
    file.chmod(0o666)
    with pytest.raises(StateError, match="by everybody") as caught:
        open_state(str(file))
    assert "chmod 600" in caught.value.hint


def test_a_file_that_is_something_else_is_an_error_with_a_hint(tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    file.write_bytes(b"this is a love letter, not a database" * 100)
    file.chmod(0o600)
    with pytest.raises(StateError, match="not a database") as caught:
        open_state(str(file))
    assert caught.value.hint


def test_a_directory_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="not a file"):
        open_state(str(tmp_path))


def test_a_place_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot open the state"):
        open_state(str(tmp_path / "file" / "below" / "state.sqlite"))


@pytest.mark.parametrize(
    "location", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "http://x/y", "postgresql://[::1/d"]
)
def test_other_places_are_refused(location: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_state(location)
    assert "postgresql://" in caught.value.hint


@pytest.mark.parametrize("location", ["postgresql://u:hunter2@h/d", "postgres://u:hunter2@h/d"])
def test_a_password_in_a_url_is_seen_and_never_shown(location: str) -> None:
    assert has_password(location)
    assert "hunter2" not in parse_location(location).title
    assert not has_password("postgresql://u@h/d")
    assert not has_password("/a/path")


def test_a_server_that_is_not_there_is_an_error_without_the_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StateError) as caught:
        open_state(f"postgresql://u:hunter2@/d?host={tmp_path}")
    assert "hunter2" not in caught.value.message
    assert "cannot be used" in caught.value.message


def test_a_writer_that_holds_the_file_is_waited_for(tmp_path: Path) -> None:
    """Readers and the version check are not held up by another's write (WAL)."""
    file = tmp_path / "state.sqlite"
    open_state(str(file)).close()
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with open_state(str(file)) as state:
            assert state.deployments() == []
        other.execute("ROLLBACK")
    finally:
        other.close()


def test_a_machine_is_found_by_its_uuid_in_any_deployment(state: State) -> None:
    web = Machine("two", "web", Phase.READY, Facts(uuid="0f0e0d0c-0000-4000-8000-00000000000a"))
    state.deployment("one")
    state.deployment("two").journal().record(web, "Found")
    assert state.find_machine("0F0E0D0C-0000-4000-8000-00000000000A") == web
    assert state.find_machine("0f0e0d0c-0000-4000-8000-00000000000b") is None


def test_nothing_is_logged_of_each_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "nixops_proxmox"), open_state(str(tmp_path / "state.sqlite")) as state:
        assert state.deployments() == []
    assert [record for record in caplog.records if "onnection" in record.getMessage()] == []
