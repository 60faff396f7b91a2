"""All that a network describes under `resources`, beside volumes, by option."""

from collections.abc import Mapping

from nixops_proxmox.spec.backup_job import BackupJobSpec
from nixops_proxmox.spec.pool import PoolSpec
from nixops_proxmox.spec.resource import ResourceSpec

Models = Mapping[str, type[ResourceSpec]]  # by option

OURS: Models = {model.option: model for model in (BackupJobSpec, PoolSpec)}
