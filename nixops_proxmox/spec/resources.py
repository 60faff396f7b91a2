"""All that a network describes under `resources`, beside volumes, by option."""

from collections.abc import Mapping

from nixops_proxmox.spec.backup_job import BackupJobSpec
from nixops_proxmox.spec.firewall import AddressAlias, ClusterFirewall, IpSet, MachineFirewall, SecurityGroup
from nixops_proxmox.spec.ha import HaRuleSpec, HaSpec
from nixops_proxmox.spec.mapping import MappingSpec
from nixops_proxmox.spec.pool import PoolSpec
from nixops_proxmox.spec.replication import ReplicationSpec
from nixops_proxmox.spec.reservations import ReservationsSpec
from nixops_proxmox.spec.resource import ResourceSpec
from nixops_proxmox.spec.routing import RoutingSpec
from nixops_proxmox.spec.storage import StorageSpec
from nixops_proxmox.spec.template import TemplateSpec
from nixops_proxmox.spec.virtual_network import VirtualNetwork

Models = Mapping[str, type[ResourceSpec]]  # by option

_MODELS = (
    BackupJobSpec,
    PoolSpec,
    ReplicationSpec,
    ReservationsSpec,
    RoutingSpec,
    StorageSpec,
    TemplateSpec,
    VirtualNetwork,
    IpSet,
    AddressAlias,
    SecurityGroup,
    MachineFirewall,
    ClusterFirewall,
    HaSpec,
    HaRuleSpec,
    MappingSpec,
)
OURS: Models = {model.option: model for model in _MODELS}
