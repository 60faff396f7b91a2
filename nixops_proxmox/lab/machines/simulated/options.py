"""How simulated guests behave: chosen once for a lab."""

from dataclasses import dataclass, field, replace
from enum import StrEnum


class Body(StrEnum):
    """What a guest is made of."""

    SANDBOX = "sandbox"  # namespaces; every command really runs
    SCRIPTED = "scripted"  # a table of known commands; no process, for fleets of a thousand


@dataclass(frozen=True)
class Modelled:
    """What a scripted guest does on a command or job that matches `pattern` (searched, not anchored).

    `effect`: "partition" (the first disk has a root file system, mounted), "install" (it boots from now on), "reboot",
    "poweroff", or nothing.
    """

    pattern: str
    out: str = ""
    err: str = ""
    status: int = 0
    seconds: float = 0.0
    effect: str = ""


@dataclass(frozen=True)
class Options:
    """Times in seconds of the lab's clock. Nothing is random: what must differ is made from the VM's identity."""

    body: Body = Body.SANDBOX
    installer_boot: float = 0.0  # power-on until agent and sshd answer
    system_boot: float = 0.0
    shutdown: float = 0.0
    agent_latency: float = 0.0
    new_addresses: bool = True  # the installed system gets other addresses than the installer
    decoys: bool = True  # docker0 and tailscale0 are reported too
    disk_order: str = "slot"  # "slot" or "reversed": /dev names need not follow the slots
    wrong_size: frozenset[str] = frozenset()  # slots ("scsi1") whose guest sees half the size
    wrong_serial: frozenset[str] = frozenset()  # slots whose guest sees another serial
    partition: float = 0.0  # of scripted guests: how long the two jobs of an installation take
    install: float = 0.0
    modelled: tuple[Modelled, ...] = field(default=())  # looked at before what scripted guests know by themselves
    ssh_port: int = 22
    loopback: bool = False  # scripted guests on 127.77.0.0/16 of the host: where no namespace is to be had

    def realistic(self) -> "Options":
        """Guests that take time. Scripted ones have the times of a real machine on SSDs; in the others real commands
        run, and take as long as they take."""
        if self.body is Body.SCRIPTED:
            return replace(self, installer_boot=20.0, partition=5.0, install=60.0, shutdown=3.0, system_boot=20.0)
        return replace(self, installer_boot=2.0, shutdown=0.5, system_boot=2.0)
