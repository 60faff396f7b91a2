"""What is refused in a guest before anybody logs in, or writes."""

import json
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from typing_extensions import override

from nixops_proxmox.errors import GuestLost, NoAgentDevice, NoEndpoint, WrongDisk
from nixops_proxmox.guest.agent import Agent, Growth
from nixops_proxmox.guest.disks import HEADER as DISKS
from nixops_proxmox.guest.installer import HEADER
from nixops_proxmox.model import Completed, Endpoint, Machine
from nixops_proxmox.options import Silent
from nixops_proxmox.pve.api.answers import AgentInterface
from nixops_proxmox.reach.guests import Guests
from nixops_proxmox.reach.patience import Patience
from nixops_proxmox.spec.serials import derived_serial
from nixops_proxmox.ssh.keys import KeyStore
from tests.kinds.machine.cluster import Shell
from tests.pve.specs import GIB, UUID, machine, spec


class OtherSystem(Agent):
    """Tells what the installed system would."""

    def __init__(self) -> None:
        """It has nobody behind it."""

    @override
    def wait_for_agent(self, timeout: float, growth: Growth | None = None) -> None:
        """It is there."""

    @override
    def run_script(self, script: str, *, token: str = "", timeout: float = 60) -> Completed:
        boot = "00000000-0000-4000-8000-000000000000"
        return Completed(0, f"{HEADER}\nkind other\nboot-id {boot}\nsystem Debian\nuuid {UUID}\nend\n")


class Deviceless(OtherSystem):
    @override
    def wait_for_interfaces(self, timeout: float, growth: Growth | None = None) -> tuple[AgentInterface, ...]:
        raise NoAgentDevice("the VM has no agent device")


class NoWinners:
    name = "demo"

    def machines(self) -> list[Machine]:
        return []

    def find_winner(self, machine: str, site: str) -> Endpoint | None:
        return None

    def remember_winner(self, machine: str, site: str, endpoint: Endpoint) -> None:
        raise AssertionError("nobody has won")


class DiskShell(Shell):
    """Into a guest with one disk, on which something is."""

    def __init__(self) -> None:
        """There is no VM behind it."""

    @override
    def run(self, script: str, *, stdin: bytes = b"", timeout: float = 60) -> Completed:
        row = {"name": "sda", "type": "disk", "size": 8 * GIB, "serial": derived_serial(UUID, "scsi0")}
        listed = json.dumps({"blockdevices": [row]})
        return Completed(0, f"{DISKS} lsblk\n{listed}\n{DISKS} signatures\nsda ext4\n{DISKS} links\n{DISKS} end\n")


def guests(
    folder: Path, stack: ExitStack, patience: Patience | None = None, agent: "type[OtherSystem]" = OtherSystem
) -> Guests:
    return Guests(
        lambda _machine: agent(),
        KeyStore(folder / "keys", "demo"),
        NoWinners(),
        folder,
        Silent(),
        stack,
        patience or Patience(),
    )


def test_an_installed_system_that_answers_is_not_taken_for_the_installer(tmp_path: Path) -> None:
    with ExitStack() as stack, pytest.raises(GuestLost, match="the installer should run, but Debian answers"):
        guests(tmp_path, stack).enter_installer(machine(), spec())


def test_data_on_a_disk_is_accounted_for_by_the_machines_own_record_alone(tmp_path: Path) -> None:
    shell = DiskShell()
    with ExitStack() as stack:
        mine = guests(tmp_path, stack)
        with pytest.raises(WrongDisk, match="not blank"):
            mine.prove_disks(shell, machine(), spec(), ())
        (found,) = mine.prove_disks(shell, machine(), spec(), {"scsi0"})
        assert found.device == "/dev/sda"
        assert mine.list_disks(shell, machine(claimed=-1), spec()) == (found,)


def test_without_an_agent_the_boot_is_a_part_of_the_wait_for_an_address(tmp_path: Path) -> None:
    boot, sshd = 1.5, 0.01
    with ExitStack() as stack:
        deploying = guests(tmp_path, stack, Patience(boot=boot, sshd=sshd, look=sshd))
        for ways_in, least in ((deploying, boot), (deploying.hurried(), sshd)):
            began = time.monotonic()
            with pytest.raises(NoEndpoint):
                ways_in.meet_system(machine(), spec(agent=False))
            assert time.monotonic() - began >= least
            if least == sshd:
                assert time.monotonic() - began < boot, "a look takes its time"


@pytest.mark.parametrize(("met", "error"), [(True, NoEndpoint), (False, NoAgentDevice)])
def test_who_was_met_without_an_agent_is_looked_for_without_it_although_the_description_is_not_at_hand(
    tmp_path: Path, met: bool, error: type[Exception]
) -> None:
    known = machine(endpoint=Endpoint("127.0.0.1", 1, "root") if met else None)
    quick = Patience(boot=0.01, sshd=0.01, look=0.01)
    with ExitStack() as stack, pytest.raises(error):
        guests(tmp_path, stack, quick, Deviceless).meet_system(known, spec())
