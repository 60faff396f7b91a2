"""The life of one container, all of it. The phases are those of machines; most of them it does not have."""

from nixops_proxmox.core.table import Lifecycle, Move, Sighting
from nixops_proxmox.errors import BootWanted, VmidTaken
from nixops_proxmox.kinds.container.steps import (
    AdjustContainer,
    CreateContainer,
    DestroyContainer,
    DiscardContainer,
    EnterContainer,
    ReserveContainer,
    StartContainer,
)
from nixops_proxmox.kinds.machine import sightings as sees
from nixops_proxmox.kinds.machine.shape import Look, World, hint_at, see
from nixops_proxmox.kinds.machine.steps.hardware import ShutDown
from nixops_proxmox.kinds.machine.steps.system import Activate
from nixops_proxmox.model import Facts, Machine
from nixops_proxmox.model import Phase as P

NAME = "container"
ABOUT = "an LXC container and the NixOS in it"
SETTLED = (P.INSTALLED, P.DRIFTED, P.RUNNING, P.READY, P.STOPPED)  # it has been given its identity
MADE = (P.DEFINED, *SETTLED)  # PVE has it, unless somebody took it away
PHASES = (P.ABSENT, P.RESERVED, *MADE, P.LOST)


def hint_of_container(machine: Machine) -> str:
    """What to do where no way leads on. What a VM does with its installer, a container does without."""
    if machine.phase in SETTLED:
        return f"a container has no installer; `reinstall {machine.name}` makes it new from its template"
    return hint_at(machine)


LIFECYCLE: Lifecycle[P, World, Machine, Facts, Look] = Lifecycle(
    moves=(
        #    asked for   standing in     step                 leads to
        Move(P.READY,    P.ABSENT,       ReserveContainer(),  P.RESERVED),
        Move(P.READY,    P.RESERVED,     CreateContainer(),   P.DEFINED,      turns=((VmidTaken, P.ABSENT),)),
        Move(P.READY,    P.DEFINED,      EnterContainer(),    P.RUNNING),
        Move(P.READY,    P.DRIFTED,      AdjustContainer(),   P.INSTALLED),
        Move(P.READY,    P.INSTALLED,    StartContainer(),    P.RUNNING),
        Move(P.READY,    P.STOPPED,      StartContainer(),    P.RUNNING),
        Move(P.READY,    P.RUNNING,      Activate(),          P.READY,        turns=((BootWanted, P.INSTALLED),)),

        *(Move(P.STOPPED, here,          ShutDown(),          P.STOPPED) for here in SETTLED if here is not P.STOPPED),
        *(Move(P.RESERVED, here,         DiscardContainer(),  P.RESERVED) for here in (*SETTLED, P.LOST)),
        *(Move(P.ABSENT,  here,          DestroyContainer(),  P.ABSENT) for here in PHASES if here is not P.ABSENT),
    ),
    sightings=(
        #        our record says   but we see               so it is
        *(Sighting(here,           sees.vm_gone,            P.LOST) for here in MADE),
        Sighting(P.LOST,           sees.system_back,        P.INSTALLED),
        Sighting(P.LOST,           sees.vm_back,            P.DEFINED),
        *(Sighting(here,           sees.differs,            P.DRIFTED) for here in SETTLED if here is not P.DRIFTED),
        *(Sighting(here,           sees.powered_off,        P.STOPPED) for here in (P.RUNNING, P.READY)),
        Sighting(P.STOPPED,        sees.powered_on,         P.INSTALLED),
        Sighting(P.READY,          sees.wants_other_system, P.RUNNING),
        Sighting(P.READY,          sees.awaits_boot,        P.INSTALLED),
        Sighting(P.READY,          sees.lacks_keys,         P.RUNNING),
    ),
    see=see,
    hint=hint_of_container,
)  # fmt: skip
