"""The life of one machine, all of it. Start reading here."""

from nixops_proxmox.core.table import Lifecycle, Move, Sighting
from nixops_proxmox.errors import BootWanted, GuestLost, VmidTaken
from nixops_proxmox.kinds.machine import sightings as sees
from nixops_proxmox.kinds.machine.shape import Look, World, hint_at, see
from nixops_proxmox.kinds.machine.steps.copied import BootCopy
from nixops_proxmox.kinds.machine.steps.hardware import Adjust, CreateVm, Destroy, Discard, ShutDown
from nixops_proxmox.kinds.machine.steps.identity import Reserve
from nixops_proxmox.kinds.machine.steps.installer import BootInstaller, EnterInstaller, EnterRescue, Install, Partition
from nixops_proxmox.kinds.machine.steps.system import Activate, BootSystem, ClearForReinstall
from nixops_proxmox.model import Facts, Machine
from nixops_proxmox.model import Phase as P
from nixops_proxmox.spec import InstallSource

INSTALLING = (P.INSTALLER, P.REACHABLE, P.PARTITIONED)  # the installer runs; what it did so far may be lost with it
SETTLED = (P.INSTALLED, P.DRIFTED, P.RUNNING, P.READY, P.STOPPED)  # a system is on its disks
WITH_VM = (P.DEFINED, *INSTALLING, *SETTLED, P.RESCUE)  # PVE has it, unless somebody took it away

ISO, COPY = (
    (InstallSource.ISO,),
    (InstallSource.IMAGE, InstallSource.TEMPLATE, InstallSource.BACKUP),
)  # ways to the first boot; where none is said, all of them

LIFECYCLE: Lifecycle[P, World, Machine, Facts, Look] = Lifecycle(
    moves=(
        #    asked for   standing in     step                 leads to
        Move(P.READY,    P.ABSENT,       Reserve(),           P.RESERVED),
        Move(P.READY,    P.RESERVED,     CreateVm(),          P.DEFINED,      turns=((VmidTaken, P.ABSENT),)),
        Move(P.READY,    P.DEFINED,      BootInstaller(),     P.INSTALLER,    ways=ISO),
        Move(P.READY,    P.DEFINED,      BootCopy(),          P.RUNNING,      ways=COPY),
        Move(P.READY,    P.INSTALLER,    EnterInstaller(),    P.REACHABLE,    turns=((GuestLost, P.DEFINED),)),
        Move(P.READY,    P.REACHABLE,    Partition(),         P.PARTITIONED,  turns=((GuestLost, P.DEFINED),)),
        Move(P.READY,    P.PARTITIONED,  Install(),           P.INSTALLED,    turns=((GuestLost, P.DEFINED),)),
        Move(P.READY,    P.DRIFTED,      Adjust(),            P.INSTALLED),
        Move(P.READY,    P.INSTALLED,    BootSystem(),        P.RUNNING),
        Move(P.READY,    P.STOPPED,      BootSystem(),        P.RUNNING),
        Move(P.READY,    P.RESCUE,       BootSystem(),        P.RUNNING),
        Move(P.READY,    P.RUNNING,      Activate(),          P.READY,        turns=((BootWanted, P.INSTALLED),)),

        *(Move(P.STOPPED, here,          ShutDown(),          P.STOPPED) for here in (*SETTLED, P.RESCUE)
          if here is not P.STOPPED),
        *(Move(P.RESCUE,  here,          EnterRescue(),       P.RESCUE) for here in SETTLED),
        *(Move(P.DEFINED, here,          ClearForReinstall(), P.DEFINED,      ways=ISO)
          for here in (*SETTLED, P.RESCUE)),
        *(Move(P.RESERVED, here,         Discard(),           P.RESERVED,     ways=COPY)
          for here in (*SETTLED, P.RESCUE, P.LOST)),
        *(Move(P.ABSENT,  here,          Destroy(),           P.ABSENT) for here in P if here is not P.ABSENT),
    ),
    sightings=(
        #        our record says   but we see               so it is
        *(Sighting(here,           sees.vm_gone,            P.LOST) for here in WITH_VM),
        Sighting(P.LOST,           sees.system_back,        P.INSTALLED),
        Sighting(P.LOST,           sees.vm_back,            P.DEFINED),
        *(Sighting(here,           sees.powered_off,        P.DEFINED) for here in INSTALLING),
        *(Sighting(here,           sees.differs,            P.DEFINED) for here in (P.INSTALLER, P.REACHABLE)),
        *(Sighting(here,           sees.differs,            P.DRIFTED) for here in SETTLED if here is not P.DRIFTED),
        *(Sighting(here,           sees.powered_off,        P.STOPPED) for here in (P.RUNNING, P.READY, P.RESCUE)),
        Sighting(P.STOPPED,        sees.powered_on,         P.INSTALLED),
        Sighting(P.READY,          sees.wants_other_system, P.RUNNING),
        Sighting(P.READY,          sees.outgrown,           P.RUNNING),
        Sighting(P.READY,          sees.awaits_boot,        P.INSTALLED),
        Sighting(P.READY,          sees.lacks_keys,         P.RUNNING),
        Sighting(P.READY,          sees.keeps_a_snapshot,   P.RUNNING),
    ),
    see=see,
    way=InstallSource.ISO,
    hint=hint_at,
)  # fmt: skip
