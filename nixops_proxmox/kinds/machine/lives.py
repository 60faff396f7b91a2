"""Which table a machine follows: that of VMs, or that of containers."""

from nixops_proxmox.core.table import Lifecycle
from nixops_proxmox.kinds.container.table import LIFECYCLE as OF_CONTAINERS
from nixops_proxmox.kinds.machine.shape import Look, World
from nixops_proxmox.kinds.machine.table import LIFECYCLE as OF_VMS
from nixops_proxmox.model import Facts, Machine, Phase
from nixops_proxmox.spec import MachineSpec


def life_of(spec: MachineSpec) -> Lifecycle[Phase, World, Machine, Facts, Look]:
    return OF_CONTAINERS if spec.is_container else OF_VMS
