"""All that a network describes under `resources`, beside volumes, by option."""

from collections.abc import Mapping

from nixops_proxmox.spec.backup_job import BackupJobSpec
from nixops_proxmox.spec.pool import PoolSpec
from nixops_proxmox.spec.reservations import ReservationsSpec
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.virtual_network import VirtualNetwork

Models = Mapping[str, type[ResourceSpec]]  # by option

OURS: Models = {model.option: model for model in (BackupJobSpec, PoolSpec, ReservationsSpec, VirtualNetwork)}
