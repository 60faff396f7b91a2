"""A backup is looked at before it goes over a machine; and whatever was restored, there is a way back."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox.errors import DeployError, Locked, NeedsPermission, NotFound, StateError
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.model import RESTORING, Machine, Phase
from nixops_proxmox.operations.backups import back_up, return_to_snapshot, take_snapshot
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.restoring import restore
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from tests.contract.client_bench import start_bench
from tests.contract.machines import Deployment

STRANGER = "00000000-0000-4000-8000-00000000beef"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Deployment]:
    with start_bench(nodes=("pve1",)) as bench:
        yield Deployment(bench, tmp_path)


def do_restore(made: Deployment, archive: str = "", *, foreign: bool = False) -> Outcome:
    with made.opened() as deployed:
        (outcome,) = deployed.work_on(
            ["web"], lambda pursuit, hypervisor: restore(hypervisor, pursuit, archive, foreign=foreign, boot=1.0)
        )
    return outcome


def error_of(outcome: Outcome) -> DeployError:
    assert outcome.error is not None
    return outcome.error


def archive_by_us(made: Deployment) -> str:
    volumes: list[str] = []

    def work(pursuit: object, hypervisor: object) -> Machine:
        volumes.append(back_up(pursuit).volume)  # type: ignore[arg-type]
        return pursuit.machine  # type: ignore[attr-defined,no-any-return]

    with made.opened() as deployed:
        (outcome,) = deployed.work_on(["web"], work)
    assert outcome.error is None
    return volumes[0]


def give_uuid(made: Deployment, machine: Machine, uuid: str) -> None:
    facts = machine.facts
    made.by_hand("PUT", f"/nodes/{facts.node}/qemu/{facts.vmid}/config", smbios1=f"uuid={uuid}")


def archive_by_hand(made: Deployment, machine: Machine) -> str:
    facts = machine.facts
    before = {one.volid for one in made.bench.hypervisor.client.list_volumes(facts.node, "local", "backup")}
    made.by_hand("POST", f"/nodes/{facts.node}/vzdump", vmid=str(facts.vmid), storage="local")
    after = {one.volid for one in made.bench.hypervisor.client.list_volumes(facts.node, "local", "backup")}
    (volume,) = after - before
    return volume


def foreign_archive(made: Deployment, machine: Machine) -> str:
    """Of a guest that had the machine's VMID once."""
    give_uuid(made, machine, STRANGER)
    volume = archive_by_hand(made, machine)
    give_uuid(made, machine, machine.facts.uuid)
    return volume


def changing(made: Deployment, since: int) -> list[str]:
    calls = made.bench.lab.calls[since:]
    return [call["path"] for call in calls if call["method"] != "GET" and "ticket" not in call["path"]]


def test_a_foreign_archive_needs_a_word_and_nothing_is_touched_before(made: Deployment) -> None:
    machine = made.make()
    volume = foreign_archive(made, machine)
    since = len(made.bench.lab.calls)
    error = error_of(do_restore(made, volume))
    assert isinstance(error, NeedsPermission) and "holds another machine: web, with the UUID" in error.message
    assert STRANGER in error.message and "--foreign" in error.hint
    assert changing(made, since) == []
    assert machine.facts.uuid in made.config(machine)["smbios1"]


def test_an_archive_that_somebody_else_made_of_the_machine_is_its_own(made: Deployment) -> None:
    machine = made.make()
    assert do_restore(made, archive_by_hand(made, machine)).error is None
    assert machine.facts.uuid in made.config(machine)["smbios1"]


def test_notes_that_lie_are_not_believed(made: Deployment) -> None:
    machine = made.make()
    volume = foreign_archive(made, machine)
    for stored in made.bench.lab.cluster.stores.on("local", "pve1"):
        if stored.volid == volume:
            stored.notes = f"nixops-proxmox {machine.facts.uuid}"
    error = error_of(do_restore(made))
    assert isinstance(error, NeedsPermission) and volume in error.message


def test_a_machine_that_a_wrong_restore_left_is_told_and_the_way_back_works(made: Deployment) -> None:
    machine = made.make()
    volume = archive_by_us(made)
    give_uuid(made, machine, STRANGER)
    since = len(made.bench.lab.calls)
    error = error_of(do_restore(made, volume))
    assert isinstance(error, StateError) and STRANGER in error.message
    assert f"qm set {machine.facts.vmid} --smbios1 uuid={machine.facts.uuid}" in error.hint
    assert changing(made, since) == []
    give_uuid(made, machine, machine.facts.uuid)
    assert do_restore(made, volume).error is None


def test_a_restore_of_a_foreign_archive_that_was_cut_off_is_gone_over_by_the_next(made: Deployment) -> None:
    machine = made.make()
    volume = archive_by_us(made)
    give_uuid(made, machine, STRANGER)
    made.record(machine.moved(Phase.STOPPED, replace(machine.facts, extra={RESTORING: STRANGER})))
    assert do_restore(made, volume).error is None
    assert machine.facts.uuid in made.config(machine)["smbios1"]
    assert RESTORING not in made.recorded().facts.extra


def fail_to_restore(made: Deployment) -> Machine:
    """Into nothing: the archive is read, and then the storage does not answer. PVE leaves an empty VM."""
    machine = made.make()
    archive_by_us(made)
    made.by_hand("DELETE", f"/nodes/pve1/qemu/{machine.facts.vmid}")
    made.bench.lab.cluster.stores.lock_wait = 0.05
    made.bench.fault("lock_storage", "POST", "/qemu$", target="local-lvm", seconds=0.3)
    assert "not completely restored" in error_of(do_restore(made)).message
    assert set(made.config(machine)) <= {"memory", "digest"}
    made.bench.lab.cluster.stores.lock_wait = 10.0
    return machine


def test_the_empty_vm_that_a_failed_restore_leaves_is_restored_over(made: Deployment) -> None:
    machine = fail_to_restore(made)
    assert do_restore(made).error is None
    assert machine.facts.uuid in made.config(machine)["smbios1"]


def test_the_empty_vm_that_a_failed_restore_leaves_is_destroyed_with_the_machine(made: Deployment) -> None:
    fail_to_restore(made)
    with made.opened() as deployed:
        (outcome,) = deployed.destroy(["web"])
    assert outcome.error is None and made.bench.vmids == []


def test_an_empty_vm_that_no_restore_of_ours_left_is_not_touched(made: Deployment) -> None:
    machine = fail_to_restore(made)
    made.record(machine.moved(Phase.LOST, replace(made.recorded().facts, extra={})))
    assert "with no UUID" in error_of(do_restore(made)).message
    with made.opened() as deployed:
        (outcome,) = deployed.destroy(["web"])
    assert outcome.error is None and made.bench.vmids == [machine.facts.vmid]


class TakenOver:
    """The clock of a run whose lock somebody breaks while it waits."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        raise Locked("somebody else has taken over")


def test_an_overtaken_run_does_not_wait_for_the_restored_machine(made: Deployment) -> None:
    machine = made.make()
    volume = foreign_archive(made, machine)
    made.bench.fault("agent_silent", "POST", "/agent/ping$", count=10_000)

    def work(pursuit: Pursuit, hypervisor: PveHypervisor) -> Machine:
        pursuit.world = replace(pursuit.world, clock=TakenOver())
        return restore(hypervisor, pursuit, volume, foreign=True, boot=5.0)

    with made.opened() as deployed:
        (outcome,) = deployed.work_on(["web"], work)
    assert isinstance(outcome.error, Locked)


def test_with_the_word_the_foreign_machine_becomes_ours(made: Deployment) -> None:
    machine = made.make()
    volume = foreign_archive(made, machine)
    outcome = do_restore(made, volume, foreign=True)
    config = made.config(machine)
    assert machine.facts.uuid in config["smbios1"] and f"`{machine.facts.uuid}`" in config["description"]
    assert "agent did not tell its host key" in error_of(outcome).message, "nothing is installed in it"
    facts = made.recorded().facts
    assert (facts.uuid, facts.host_key) == (machine.facts.uuid, "") and RESTORING not in facts.extra


def test_what_pve_would_refuse_late_is_told_first(made: Deployment) -> None:
    machine = made.make()
    volume = archive_by_us(made)
    made.by_hand("PUT", f"/nodes/pve1/qemu/{machine.facts.vmid}/config", protection="1")
    error = error_of(do_restore(made, volume))
    assert isinstance(error, NeedsPermission) and "protected" in error.message
    made.by_hand("PUT", f"/nodes/pve1/qemu/{machine.facts.vmid}/config", protection="0")
    made.bench.lab.cluster.stores.storages["local-lvm"].disabled = True
    error = error_of(do_restore(made, volume))
    assert isinstance(error, NotFound) and "local-lvm" in error.message


def test_a_snapshot_of_another_machine_is_not_gone_back_to(made: Deployment) -> None:
    machine = made.make()
    give_uuid(made, machine, STRANGER)
    made.by_hand("POST", f"/nodes/pve1/qemu/{machine.facts.vmid}/snapshot", snapname="theirs")
    give_uuid(made, machine, machine.facts.uuid)
    with made.opened() as deployed:
        taken = deployed.work_on(["web"], lambda pursuit, _: take_snapshot(pursuit, "ours"))
        (outcome,) = deployed.work_on(["web"], lambda pursuit, _: return_to_snapshot(pursuit, "theirs"))
        back = deployed.work_on(["web"], lambda pursuit, _: return_to_snapshot(pursuit, "ours"))
    assert [one.error for one in (*taken, *back)] == [None, None]
    error = error_of(outcome)
    assert isinstance(error, NeedsPermission) and STRANGER in error.message
