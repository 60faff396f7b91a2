"""Promises of the state that no other test looks at: what a power cut leaves, and what a broken lease may write."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from nixops_proxmox.errors import DeployError, Locked
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.state import State, open_state
from nixops_proxmox.state.database import reading, writing
from nixops_proxmox.state.journal import Journal

WEB = Machine("net", "web")
CHANGED = WEB.moved(WEB.phase, Facts(vmid=666))


def test_what_is_committed_is_on_the_disk_before_it_is_acted_upon(tmp_path: Path) -> None:
    """synchronous=FULL (2): in WAL mode, NORMAL would lose the last commits in a power cut."""
    with open_state(str(tmp_path / "state.sqlite")) as state:
        for transaction in (reading, writing):
            with transaction(state.engine) as connection:
                assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
                assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
                assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"


WRITES: dict[str, Callable[[Journal, int], object]] = {
    "begin": lambda journal, _attempt: journal.begin(CHANGED, "Reserve", Phase.RESERVED),
    "note": lambda journal, attempt: journal.note(attempt, CHANGED),
    "commit": lambda journal, attempt: journal.commit(attempt, CHANGED),
    "fail": lambda journal, attempt: journal.fail(attempt, DeployError("no")),
    "record": lambda journal, _attempt: journal.record(CHANGED, "Found"),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_run_whose_lease_was_broken_writes_nothing_of_any_kind(state: State, write: str) -> None:
    deployment = state.deployment("net")
    with deployment.lease() as first:
        journal = deployment.journal(first)
        attempt = journal.begin(WEB, "Reserve", Phase.RESERVED)
        with deployment.lease(break_lock=True):
            before = deployment.machine("web"), deployment.history()
            with pytest.raises(Locked, match="taken over"):
                WRITES[write](journal, attempt)
            assert (deployment.machine("web"), deployment.history()) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_run_that_holds_its_lease_writes_all_of_them(state: State, write: str) -> None:
    deployment = state.deployment("net")
    with deployment.lease() as lease:
        journal = deployment.journal(lease)
        attempt = journal.begin(WEB, "Reserve", Phase.RESERVED)
        before = deployment.machine("web"), deployment.history()
        WRITES[write](journal, attempt)
        assert (deployment.machine("web"), deployment.history()) != before
