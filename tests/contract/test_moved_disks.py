"""A disk whose storage changes in the description is moved, and its old copy deleted when the new one is proven."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import NeedsPermission, PveRefused
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.lab.config import parse_disk
from nixops_proxmox.messages.plans import describe
from nixops_proxmox.model import Machine, Phase, old_copies
from nixops_proxmox.pve.vm.drives import NOT_LIVE, volumes_of
from nixops_proxmox.pve.wire.calls import CallDone
from nixops_proxmox.spec import Disk, Efi, MachineSpec, Tpm
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.kills import killed_at
from tests.contract.machines import Deployment
from tests.pve.specs import GIB


def on(storage: str, size: int = 1, **more: Any) -> MachineSpec:
    second = Disk(slot="scsi1", storage="local-lvm", size=GIB)
    return bare(name="web", disks=(Disk(slot="scsi0", storage=storage, size=size * GIB, **more), second))


@pytest.fixture(scope="module")
def lab() -> Iterator[Bench]:
    with start_bench("9.1", nodes=("pve1",)) as made:
        yield made


@pytest.fixture
def made(lab: Bench, tmp_path: Path) -> Deployment:
    lab.lab.faults.clear()
    lab.skew += 60
    return Deployment(lab, tmp_path)


def running(made: Deployment) -> Machine:
    machine = made.make(disks=on("local-lvm").disks)
    made.bench.hypervisor.start_vm(machine.facts, made.bench.note)
    machine = machine.moved(Phase.INSTALLED, machine.facts)
    made.record(machine)
    return machine


def deploy(made: Deployment, described: MachineSpec, **options: Any) -> Any:
    """As far as the hardware: what boots then is not there to answer."""
    with made.opened(described, **options) as deployed:
        (outcome,) = deployed.deploy(["web"], until=Phase.INSTALLED)
    return outcome.error


def volumes(made: Deployment, machine: Machine) -> list[str]:
    """All that the storages have of the machine."""
    client = made.bench.another().client
    names = (client.list_volumes("pve1", storage, "images") for storage in ("local-lvm", "shared"))
    return sorted(one.volid for found in names for one in found if one.vmid == machine.facts.vmid)


def drive(made: Deployment, machine: Machine, slot: str = "scsi0") -> dict[str, str]:
    return parse_disk(slot, made.config(machine)[slot])


def test_the_plan_says_it_and_a_deploy_moves_it_live(made: Deployment) -> None:
    machine = running(made)
    before = drive(made, machine)
    with made.opened(on("shared")) as deployed:
        (planned,) = deployed.plan(["web"])
    change = next(one for one in planned.changes if one.key == "scsi0")
    assert (change.key, change.have, change.want) == ("scsi0", "on local-lvm", "on shared (qm disk move)")
    assert change.when == "live" and planned.restart == ()
    assert deploy(made, on("shared")) is None
    after = drive(made, machine)
    assert after["file"].startswith("shared:") and after["serial"] == before["serial"] and after["size"] == "1G"
    assert volumes(made, machine) == [f"local-lvm:vm-{machine.facts.vmid}-disk-1", after["file"]]
    assert "unused0" not in made.config(machine)
    recorded = made.recorded()
    assert old_copies(recorded.facts) == () and recorded.phase is Phase.INSTALLED
    seen = made.bench.another().find_vm(machine.facts)
    assert seen is not None and seen.power == "running"


def test_what_else_changed_is_changed_when_it_is_there(made: Deployment) -> None:
    machine = running(made)
    assert deploy(made, on("shared", size=2, backup=False)) is None
    after = drive(made, machine)
    assert after["file"].startswith("shared:") and after["size"] == "2G" and after["backup"] == "0"
    assert len(volumes(made, machine)) == 2


@pytest.mark.parametrize(
    ("hand", "why"),
    [
        ({"scsi0": "cache=writeback"}, "waits for a restart"),
        ({"protection": "1"}, "deletes no old copy of a protected VM"),
    ],
)
def test_a_move_that_could_lose_something_is_refused(made: Deployment, hand: dict[str, str], why: str) -> None:
    machine = running(made)
    config = made.config(machine)
    params = {key: f"{config[key]},{value}" if key == "scsi0" else value for key, value in hand.items()}
    made.by_hand("PUT", f"/nodes/pve1/qemu/{machine.facts.vmid}/config", **params)
    error = deploy(made, on("shared"))
    assert isinstance(error, NeedsPermission) and why in error.message
    assert len(volumes(made, machine)) == 2 and drive(made, machine)["file"].startswith("local-lvm:")


def test_a_machine_with_snapshots_is_not_moved(made: Deployment) -> None:
    machine = running(made)
    made.by_hand("POST", f"/nodes/pve1/qemu/{machine.facts.vmid}/snapshot", snapname="before")
    error = deploy(made, on("shared"))
    assert isinstance(error, NeedsPermission) and "snapshots" in error.message


def test_a_copy_that_is_not_proven_keeps_the_old_one(made: Deployment) -> None:
    """Its serial was lost on the way."""
    machine = running(made)
    old = drive(made, machine)["file"]
    vm = made.bench.lab.lab.cluster.vms[machine.facts.vmid]

    def spoil(done: CallDone) -> None:
        if done.call.name.endswith("/move_disk") and not done.error:
            made.bench.lab.settle()
            spoiled = vm.config["scsi0"].replace("serial=", "serial=x")
            made.bench.change(lambda: vm.config.update({"scsi0": spoiled}))

    error = deploy(made, on("shared"), trace=spoil)
    assert isinstance(error, PveRefused) and "its serial is another one" in error.message
    assert old in volumes(made, machine) and old in made.config(machine).values()


def test_a_volume_that_got_the_name_of_an_old_copy_is_kept(made: Deployment) -> None:
    """A run was killed right after it had deleted the old copy, and PVE gave the name to a new disk."""
    machine = running(made)
    old = drive(made, machine)["file"]
    assert deploy(made, on("shared")) is None
    facts = made.recorded().facts
    made.record(machine.moved(Phase.INSTALLED, replace(facts, extra={f"old copy {old}": "scsi0 1G"})))
    more = on("shared")
    more = more.model_copy(update={"disks": (*more.disks, Disk(slot="scsi2", storage="local-lvm", size=GIB))})
    assert deploy(made, more) is None
    assert drive(made, machine, "scsi2")["file"] == old, "the lab gives the lowest name that is free, as PVE does"
    assert deploy(made, on("shared")) is None, "the description does not have it any more: it is detached"
    assert made.config(machine)["unused0"] == old
    assert deploy(made, on("shared", backup=False)) is None
    assert made.config(machine)["unused0"] == old


def with_firmware(storage: str) -> MachineSpec:
    second = on("local-lvm").model_copy(update={"bios": "ovmf", "machine": "q35"})
    return second.model_copy(update={"efi": Efi(storage=storage), "tpm": Tpm(storage=storage)})


def with_uefi(made: Deployment) -> Machine:
    described = with_firmware("local-lvm")
    machine = made.make(
        disks=described.disks, efi=described.efi, tpm=described.tpm, bios=described.bios, machine=described.machine
    )
    made.bench.hypervisor.start_vm(machine.facts, made.bench.note)
    machine = machine.moved(Phase.INSTALLED, machine.facts)
    made.record(machine)
    return machine


def test_an_efi_disk_is_moved_live_and_tpm_state_when_the_machine_is_stopped(made: Deployment) -> None:
    machine = with_uefi(made)
    with made.opened(with_firmware("shared")) as deployed:
        (planned,) = deployed.plan(["web"])
    told = {one.key: (one.when.value, one.reason) for one in planned.changes if one.key != "net0"}
    assert told == {"efidisk0": ("live", ""), "tpmstate0": ("at the next restart", NOT_LIVE)}
    assert planned.restart == () and any(NOT_LIVE in line for line in describe(planned))
    assert deploy(made, with_firmware("shared")) is None
    assert drive(made, machine, "efidisk0")["file"].startswith("shared:")
    assert drive(made, machine, "tpmstate0")["file"].startswith("local-lvm:")
    with made.opened(with_firmware("shared")) as deployed:
        (planned,) = deployed.plan(["web"])
    assert [one.key for one in planned.changes] == ["tpmstate0"] and planned.restart == ()

    with made.opened(with_firmware("shared"), permissions=Permissions(allow_reboot=True)) as deployed:
        (planned,) = deployed.plan(["web"])
        assert planned.restart == ("tpmstate0",)
        (outcome,) = deployed.deploy(["web"], until=Phase.RUNNING)
    assert outcome.error is None
    assert drive(made, machine, "tpmstate0")["file"].startswith("shared:")
    assert "unused0" not in made.config(machine) and old_copies(made.recorded().facts) == ()
    assert len([one for one in volumes(made, machine) if one.startswith("shared:")]) == 2
    seen = made.bench.another().find_vm(machine.facts)
    assert seen is not None and seen.power == "running"


def without_serials(made: Deployment) -> Machine:
    """As the original plugin, or somebody by hand, made it."""
    machine = running(made)
    config = made.config(machine)
    bare_disks = {slot: re.sub(r",serial=[^,]+", "", config[slot]) for slot in ("scsi0", "scsi1")}
    made.bench.hypervisor.stop_vm(machine.facts, made.bench.note)
    made.by_hand("PUT", f"/nodes/pve1/qemu/{machine.facts.vmid}/config", **bare_disks)
    made.bench.hypervisor.start_vm(machine.facts, made.bench.note)
    facts = replace(machine.facts, nameless=True, volumes=volumes_of(made.config(machine)))
    made.record(machine.moved(Phase.INSTALLED, facts))
    return made.recorded()


def test_a_disk_without_a_serial_is_moved_and_known_afterwards(made: Deployment) -> None:
    machine = without_serials(made)
    old = drive(made, machine)["file"]
    assert deploy(made, on("shared")) is None
    now = drive(made, machine)
    assert now["file"].startswith("shared:") and "serial" not in now
    assert old not in volumes(made, machine) and made.recorded().facts.volumes["scsi0"] == now["file"]
    with made.opened(on("shared")) as deployed:
        (planned,) = deployed.plan(["web"])
    assert planned.changes == () and planned.error is None


def test_without_a_serial_and_a_log_of_the_move_the_old_copy_stays(made: Deployment) -> None:
    """Somebody put another volume into the slot before our move, which never was."""
    machine = without_serials(made)
    old = drive(made, machine)["file"]
    facts = replace(machine.facts, extra={f"old copy {old}": "scsi0 1G"})
    made.record(machine.moved(Phase.INSTALLED, facts))
    path = f"/nodes/pve1/qemu/{machine.facts.vmid}/config"
    made.by_hand("PUT", path, delete="scsi0")
    made.by_hand("PUT", path, scsi0="shared:1")
    error = deploy(made, on("shared"))
    assert isinstance(error, PveRefused) and "PVE has no log of a move of scsi0" in error.message
    assert old in volumes(made, machine) and made.config(machine)["unused0"] == old


@pytest.mark.slow
@pytest.mark.parametrize("make", [running, without_serials], ids=["serials", "no serials"])
def test_a_deploy_that_is_killed_at_any_boundary_goes_on_and_never_has_a_third_copy(
    made: Deployment, make: Callable[[Deployment], Machine]
) -> None:
    machine = make(made)
    for number in range(1, 30):
        was_killed = killed_at(lambda trace: deploy(made, on("shared"), trace=trace), number)
        assert len([one for one in volumes(made, machine) if one.startswith("shared:")]) <= 1, number
        if not was_killed:
            assert number > 4
            return
        assert deploy(made, on("shared"), break_lock=True) is None, number
        assert drive(made, machine)["file"].startswith("shared:"), number
        assert len(volumes(made, machine)) == 2 and "unused0" not in made.config(machine), number
        assert old_copies(made.recorded().facts) == (), number
        assert deploy(made, on("local-lvm"), break_lock=True) is None, number
        assert drive(made, machine)["file"].startswith("local-lvm:"), number
    raise AssertionError("it never came to its end")
