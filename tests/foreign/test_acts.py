"""What the core asks of the hypervisor, while one call of it is refused with each error of the catalogue, once or for
ever: it ends with one of our errors, in time, and with one VM at most. What passes by itself is got over."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from nixops_proxmox.errors import DeployError, PveBusy
from nixops_proxmox.model import Machine
from nixops_proxmox.pve.cluster.work import BUSY_TIME, known_of
from nixops_proxmox.spec import Disk
from tests.foreign.bench import Foreign, bare
from tests.pve.specs import GIB

LONGEST = BUSY_TIME + 30  # seconds that we wanted to sleep, pauses and looks at tasks included
MOST_REQUESTS = 800  # the most are asked about a lock that is told, and is gone when one looks
MORE = (Disk(slot="scsi0", storage="local-lvm", size=8 * GIB), Disk(slot="scsi1", storage="local-lvm", size=GIB))


@dataclass(frozen=True)
class Act:
    """`refused` is the call that is refused, {vmid} in its path; `running` is how the VM is before."""

    name: str
    method: str
    refused: str
    do: Callable[[Foreign, Machine], object]
    running: bool = False


def _change(foreign: Foreign, machine: Machine) -> None:
    described = bare(disks=MORE, memory=4096)
    foreign.hypervisor.apply_changes(foreign.seen(machine), described, machine, foreign.noted.append)


def _grow(foreign: Foreign, machine: Machine) -> None:
    described = bare(disks=(Disk(slot="scsi0", storage="local-lvm", size=9 * GIB),))
    foreign.hypervisor.apply_changes(foreign.seen(machine), described, machine, foreign.noted.append)


def _boot(foreign: Foreign, machine: Machine) -> None:
    foreign.hypervisor.set_boot(foreign.seen(machine), bare(), installer=False)


def _snapshot(foreign: Foreign, machine: Machine) -> None:
    foreign.hypervisor.saves.take_snapshot(machine.facts, "before", foreign.noted.append, description="", ram=False)


_VM = "/nodes/pve1/qemu/{vmid}"
ACTS = [
    Act("create", "POST", "/nodes/pve1/qemu", lambda f, m: f.hypervisor.create_vm(bare(), m, f.noted.append)),
    Act("start", "POST", f"{_VM}/status/start", lambda f, m: f.hypervisor.start_vm(m.facts, f.noted.append)),
    Act("stop", "POST", f"{_VM}/status/stop", lambda f, m: f.hypervisor.stop_vm(m.facts, f.noted.append), True),
    Act(
        "shutdown",
        "POST",
        f"{_VM}/status/shutdown",
        lambda f, m: f.hypervisor.shut_down_vm(m.facts, f.noted.append, 5),
        True,
    ),
    Act("change", "POST", f"{_VM}/config", _change),
    Act("boot", "PUT", f"{_VM}/config", _boot),
    Act("grow", "PUT", f"{_VM}/resize", _grow),
    Act("snapshot", "POST", f"{_VM}/snapshot", _snapshot),
    Act("look", "GET", f"{_VM}/pending", lambda f, m: f.another().find_vm(m.facts)),
    Act("destroy", "DELETE", _VM, lambda f, m: f.hypervisor.destroy_vm(m.facts, f.noted.append)),
]


@pytest.mark.parametrize("times", [1, None], ids=["once", "for ever"])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_every_act_ends_in_time_whatever_it_is_told(foreign: Foreign, act: Act, times: int | None) -> None:
    wrong = []
    for error in [one["name"] for one in foreign.errors(act.method, act.refused.format(vmid=100))]:
        machine = foreign.machine() if act.name == "create" else _ready(foreign, act)
        slept, asked = foreign.slept, len(foreign.done)
        with foreign.failing(act.method, act.refused.format(vmid=machine.facts.vmid), error, times):
            ended = _ended(foreign, act, machine)
        complaint = _complaint(ended, foreign.slept - slept, len(foreign.done) - asked, times)
        if len(foreign.vmids) > 1:
            complaint = f"VMs: {foreign.vmids}"
        if complaint:
            wrong.append((error, complaint, ended))
        foreign.hypervisor.destroy_vm(machine.facts, foreign.noted.append)
        assert foreign.vmids == [], error
    assert wrong == []


def _ready(foreign: Foreign, act: Act) -> Machine:
    machine = foreign.created()
    if act.running:
        foreign.hypervisor.start_vm(machine.facts, foreign.noted.append)
    return machine


def _ended(foreign: Foreign, act: Act, machine: Machine) -> DeployError | None:
    try:
        act.do(foreign, machine)
    except DeployError as error:
        return error
    return None


def _complaint(ended: DeployError | None, slept: float, asked: int, times: int | None) -> str:
    passing = ended is not None and isinstance(known_of(ended), PveBusy)
    if slept > LONGEST or asked > MOST_REQUESTS:
        return f"took {slept:.0f} s and {asked} requests"
    if not passing and slept > 30:
        return f"waited {slept:.0f} s for what does not pass"
    if passing and times == 1:
        return "gave up on what passes"
    return ""
