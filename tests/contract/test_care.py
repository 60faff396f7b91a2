"""A hypervisor that is changed with care: only in its windows, and only by word."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nixops_proxmox.errors import ConfigError, DeployError, NeedsPermission
from nixops_proxmox.model import Phase
from nixops_proxmox.options import Agreed
from nixops_proxmox.pve.wire.profiles import load_profile
from nixops_proxmox.spec import MachineSpec
from tests.contract.client_bench import bare, start_bench
from tests.contract.machines import Deployment

OLD, NEW = bare(name="web"), bare(name="web", memory=4096)
SATURDAY, SUNDAY = (datetime(2026, 11, day, 23, 0, tzinfo=ZoneInfo("Europe/Berlin")) for day in (28, 29))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Deployment]:
    with start_bench(nodes=("pve1",)) as bench:
        deployment = Deployment(bench, tmp_path)
        deployment.make("web")
        yield deployment


def says(made: Deployment, line: str) -> None:
    made.profiles.write_text(f"{made.profiles.read_text()}{line}\n")


def deploy(made: Deployment, spec: MachineSpec, agreed: Agreed) -> DeployError | None:
    with made.opened(spec, agreed=agreed) as deployed:
        (outcome,) = deployed.deploy(["web"], until=Phase.INSTALLED)
    return outcome.error


def test_a_change_needs_a_word_and_no_change_needs_none(made: Deployment) -> None:
    assert deploy(made, OLD, Agreed()) is None
    says(made, "confirm = true")
    refused = deploy(made, NEW, Agreed())
    assert isinstance(refused, NeedsPermission) and "web: changes on default need a word of yours" in refused.message
    assert made.config(made.recorded("web"))["memory"] == "2048"
    with made.opened(NEW, agreed=Agreed()) as deployed:
        assert deployed.asking(["web"]) == ["web"]
        deployed.agree()
        assert deployed.asking(["web"]) == []
        (outcome,) = deployed.deploy(["web"], until=Phase.INSTALLED)
    assert outcome.error is None and made.config(made.recorded("web"))["memory"] == "4096"
    assert deploy(made, NEW, Agreed(confirmed=True)) is None


def test_out_of_its_window_a_machine_is_left_alone(made: Deployment) -> None:
    says(made, 'windows = ["Sat 22:00-04:00 Europe/Berlin"]')
    refused = deploy(made, NEW, Agreed(moment=lambda: SUNDAY))
    assert isinstance(refused, NeedsPermission)
    assert "only in its windows (Sat 22:00-04:00 Europe/Berlin); the next one begins on Sat 05 Dec at 22:00" in str(
        refused
    )
    assert made.config(made.recorded("web"))["memory"] == "2048"
    assert deploy(made, NEW, Agreed(moment=lambda: SATURDAY)) is None
    assert deploy(made, bare(name="web", memory=8192), Agreed(outside_windows=True, moment=lambda: SUNDAY)) is None


def test_every_verb_that_disturbs_the_machine_asks_and_a_snapshot_does_not(made: Deployment) -> None:
    from nixops_proxmox.kinds.machine.errands.saves import TakeSnapshot

    says(made, "confirm = true")
    with made.opened(OLD) as deployed:
        for verb in (deployed.start, deployed.reboot, deployed.destroy, deployed.migrate):
            (outcome,) = verb(["web"])
            assert isinstance(outcome.error, NeedsPermission), verb
        (outcome,) = deployed.work_on(
            ["web"], lambda pursuit, _hypervisor: pursuit.run(TakeSnapshot("before", description="", ram=False))
        )
    assert outcome.error is None


@pytest.mark.parametrize("line", ['windows = ["whenever"]', "windows = 5", 'confirm = "yes"', "windows = [5]"])
def test_nonsense_in_the_profile_is_named(made: Deployment, line: str) -> None:
    says(made, line)
    with pytest.raises(ConfigError, match=line.partition(" ")[0]):
        load_profile("default", path=made.profiles)
