"""Who a machine is, told before it exists: secrets can be encrypted to it, and one deploy is enough."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nixops_proxmox.errors import SpecError, Unrecorded
from nixops_proxmox.model import Phase
from tests.contract.client_bench import bare, start_bench
from tests.contract.machines import Deployment


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Deployment]:
    with start_bench(nodes=("pve1",)) as bench:
        yield Deployment(bench, tmp_path)


def key_of(made: Deployment, name: str = "web") -> tuple[str, bool]:
    with made.opened(bare(name=name)) as deployed:
        (one,) = deployed.identities([name])
    return one.host_key, one.is_new


def deploy(made: Deployment) -> None:
    with made.opened() as deployed:
        (outcome,) = deployed.deploy(["web"], until=Phase.DEFINED)
    if outcome.error is not None:
        raise outcome.error


def test_a_machine_is_made_with_the_key_that_was_shown_before(made: Deployment) -> None:
    key, is_new = key_of(made)
    assert is_new and key.startswith("ssh-ed25519 ")
    assert key_of(made) == (key, False), "it is the same one, however often it is asked for"
    assert made.bench.vmids == [], "nothing was made for it"
    deploy(made)
    assert made.recorded().facts.host_key == key and len(made.bench.vmids) == 1
    assert key_of(made) == (key, False)


def test_what_was_shown_but_never_made_is_not_in_the_way(made: Deployment) -> None:
    key, _ = key_of(made)
    with made.opened() as deployed:
        assert deployed.plan(["web"])[0].error is None
        (outcome,) = deployed.destroy(["web"])
    assert outcome.error is None and not [*made.folder.rglob("keys/**/host/*")]
    assert key_of(made)[0] != key, "it was forgotten"


def test_a_lost_record_still_stops_a_deploy(made: Deployment) -> None:
    made.make()
    made.forget()
    key_of(made)
    with pytest.raises(Unrecorded):
        deploy(made)
    assert len(made.bench.vmids) == 1


def test_a_machine_that_nobody_describes_has_none(made: Deployment) -> None:
    with made.opened() as deployed, pytest.raises(SpecError, match="not in the description: other"):
        deployed.identities(["other"])
