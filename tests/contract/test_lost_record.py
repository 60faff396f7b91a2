"""A machine without a record, whose VM stands on the cluster: no door makes a second one without a word."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import DeployError, Unrecorded
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.model import Phase
from nixops_proxmox.spelling import Verb, command
from tests.contract.client_bench import bare, start_bench
from tests.contract.machines import Deployment

LIST, CONFIG = "GET /cluster/resources", "GET /nodes/{node}/qemu/{vmid}/config"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Deployment]:
    with start_bench(nodes=("pve1",)) as bench:
        yield Deployment(bench, tmp_path)


def deploy(made: Deployment, name: str = "web", **words: Any) -> DeployError | None:
    allow = words.pop("allow_recreate", False)
    trace = made.bench.done.append
    with made.opened(bare(name=name), permissions=Permissions(**words), trace=trace) as deployed:
        (outcome,) = deployed.deploy([name], until=Phase.DEFINED, allow_recreate=allow)
    return outcome.error


def test_a_lost_record_stops_a_deploy_and_the_plan_and_the_check_say_so(made: Deployment) -> None:
    machine = made.make()
    made.forget()
    error = deploy(made)
    assert isinstance(error, Unrecorded) and f"VM {machine.facts.vmid} on pve1" in error.message
    assert command(Verb.RECOVER) in error.hint and command(Verb.MAKE_ANOTHER) in error.hint
    assert made.bench.vmids == [machine.facts.vmid] and made.recorded().phase is Phase.ABSENT
    with made.opened() as deployed:
        (planned,) = deployed.plan(["web"])
        (checked,) = deployed.check(["web"])
        deployed.recover(deployed.recoverable(["default"]))
    assert isinstance(planned.error, Unrecorded) and error.message in checked.problems
    assert made.recorded().facts.uuid == machine.facts.uuid
    with made.opened() as deployed:
        (planned,) = deployed.plan(["web"])
    assert planned.error is None


def test_with_the_word_another_one_is_made(made: Deployment) -> None:
    machine = made.make()
    made.forget()
    assert deploy(made, make_another=True) is None
    assert len(made.bench.vmids) == 2 and made.recorded().facts.vmid != machine.facts.vmid
    assert deploy(made) is None, "the new one is recorded now"


def test_a_vm_that_was_renamed_or_lost_its_tag_is_known_all_the_same(made: Deployment) -> None:
    renamed, untagged = made.make(), made.make("db")
    made.by_hand("PUT", f"/nodes/pve1/qemu/{renamed.facts.vmid}/config", name="other")
    made.by_hand("PUT", f"/nodes/pve1/qemu/{untagged.facts.vmid}/config", delete="tags")
    made.forget()
    assert isinstance(deploy(made), Unrecorded)
    assert isinstance(deploy(made, "db"), Unrecorded)


def test_what_is_not_this_machine_stops_nobody(made: Deployment) -> None:
    other = replace(made, name="other").make()  # of another deployment
    copied = made.make()
    uuid = ("2" if copied.facts.uuid.startswith("1") else "1") + copied.facts.uuid[1:]
    made.by_hand("PUT", f"/nodes/pve1/qemu/{copied.facts.vmid}/config", smbios1=f"uuid={uuid}")
    Path(made.state).unlink()
    assert deploy(made) is None
    assert {other.facts.vmid, copied.facts.vmid} < set(made.bench.vmids)


def test_a_lost_vm_that_stands_under_another_vmid_is_not_made_anew_silently(made: Deployment) -> None:
    machine = made.make()
    made.record(machine.moved(Phase.STOPPED, replace(machine.facts, vmid=machine.facts.vmid + 50)))
    error = deploy(made, allow_recreate=True)
    assert isinstance(error, Unrecorded) and "its recorded VM is gone" in error.message
    assert command(Verb.DESTROY, "--forget", "web") in error.hint
    assert made.recorded().facts.uuid == machine.facts.uuid, "nothing was forgotten"


def test_it_costs_a_call_for_each_strange_vm_with_our_tag_and_none_for_the_recorded(made: Deployment) -> None:
    made.bench.calls()
    assert deploy(made) is None
    assert made.bench.calls()[CONFIG] == 0, "an empty cluster costs nothing"
    for name in ("a", "b", "c"):
        made.make(name)
    strangers = replace(made, name="other")
    for name in ("d", "e"):
        strangers.make(name, recorded=False)
    made.by_hand("POST", "/nodes/pve1/qemu", vmid=900, name="untagged")
    made.bench.calls()
    assert deploy(made, "f") is None
    assert made.bench.calls()[CONFIG] == 2
    with made.opened(*(bare(name=name) for name in "ghijk"), trace=made.bench.done.append) as deployed:
        made.bench.calls()
        planned = deployed.plan([*"ghijk"])
        counted = made.bench.calls()
    assert [plan.error for plan in planned] == [None] * 5
    assert (counted[LIST], counted[CONFIG]) == (1, 2), "whatever the number of machines"
