"""The one place that picks real parts and hands them to the core."""

from nixops_proxmox.fleet import Outcome
from nixops_proxmox.wiring.deployed import Deployed, open_deployment, open_given
from nixops_proxmox.wiring.looks import Checked, Planned
from nixops_proxmox.wiring.options import Options
from nixops_proxmox.wiring.recovery import Sighted
from nixops_proxmox.wiring.volumes import Volumes, open_volumes

__all__ = [
    "Checked",
    "Deployed",
    "Options",
    "Outcome",
    "Planned",
    "Sighted",
    "Volumes",
    "open_deployment",
    "open_given",
    "open_volumes",
]
