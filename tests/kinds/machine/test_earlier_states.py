"""A state that an earlier version wrote, and what a deploy makes of it."""

from pathlib import Path

from nixops_proxmox.kinds.machine.engine import pursue
from nixops_proxmox.model import Facts, Phase
from nixops_proxmox.state import open_state
from tests.kinds.machine.cluster import SYSTEM, Bench, FakeVm
from tests.state.test_migrations import write_earlier


def as_it_was_left(uuid: str) -> Bench:
    """The cluster that the version before deployed `web` on."""
    bench = Bench()
    bench.cluster.vms[100] = FakeVm(
        100, uuid, memory=1024, running=True, boot="disk", system="installed", boots=2, partitioned=True,
        installed=SYSTEM, active=SYSTEM, host_key="delivered",
    )  # fmt: skip
    return bench


def test_a_machine_that_the_version_before_deployed_has_nothing_to_do(tmp_path: Path) -> None:
    url = str(tmp_path / "state.sqlite")
    write_earlier(url)
    with open_state(url) as state:
        record = state.deployment("demo")
        before, history = record.machine("web"), record.history()
        bench = as_it_was_left(before.facts.uuid)
        assert pursue(Phase.READY, before, bench.world(), record.journal()) == before
        assert (bench.cluster.calls, bench.reporter.steps, record.history()) == ([], [], history)


def test_facts_are_stored_under_the_names_that_earlier_versions_read() -> None:
    stored = {"uuid": "u", "method": "closure", "asked": 2, "round": 1}
    facts = Facts.from_json(stored)
    assert (facts.installed_by, facts.asked, facts.to_json()) == ("closure", 2, stored)
