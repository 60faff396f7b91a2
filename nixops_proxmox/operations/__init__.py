"""The one place that picks real parts and hands them to the core."""

from nixops_proxmox.fleet import Outcome
from nixops_proxmox.operations.deployed import Deployed, open_deployment, open_given
from nixops_proxmox.operations.read_only import Checked, Planned, Removal
from nixops_proxmox.operations.recovery import Recoverable
from nixops_proxmox.operations.uploads import Uploads, open_uploads
from nixops_proxmox.operations.volumes import Volumes, open_volumes
from nixops_proxmox.options import Options

__all__ = [
    "Checked",
    "Deployed",
    "Options",
    "Outcome",
    "Planned",
    "Recoverable",
    "Removal",
    "Uploads",
    "Volumes",
    "open_deployment",
    "open_given",
    "open_uploads",
    "open_volumes",
]
