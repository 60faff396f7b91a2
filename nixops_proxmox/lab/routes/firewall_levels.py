"""Where a firewall is (the cluster's, a node's, a VM's), who may read and write it, and what its parameters are."""

from collections.abc import Callable
from dataclasses import dataclass

from nixops_proxmox.lab.call import Call, Permission, needs
from nixops_proxmox.lab.firewall import FORWARDS, Firewall
from nixops_proxmox.lab.schema.firewall import NAME, NAME_LENGTH
from nixops_proxmox.lab.schema.types import Param, boolean, integer, matching, named, one_of, text

DIGEST = text(64)
NAMED = matching(NAME, min_length=2, max_length=NAME_LENGTH)
GROUP = matching(NAME, min_length=2, max_length=18)
LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "nolog")
POLICY, LOG = one_of("ACCEPT", "REJECT", "DROP"), one_of(*LEVELS)
FORWARD = one_of("ACCEPT", "DROP", since=FORWARDS)
VM_OPTIONS = {
    **{name: boolean() for name in ("enable", "dhcp", "ipfilter", "macfilter", "ndp", "radv")},
    "policy_in": POLICY,
    "policy_out": POLICY,
    "log_level_in": LOG,
    "log_level_out": LOG,
}
CLUSTER_OPTIONS = {
    "enable": integer(0),
    "ebtables": boolean(),
    "policy_in": POLICY,
    "policy_out": POLICY,
    "policy_forward": FORWARD,
    "log_ratelimit": text(),
}
NODE_OPTIONS = {
    **{name: boolean() for name in ("enable", "ndp", "nosmurfs", "tcpflags", "log_nf_conntrack")},
    **{name: boolean() for name in ("nf_conntrack_allow_invalid", "protection_synflood")},
    "nftables": boolean(since=(8, 2)),
    "log_level_in": LOG,
    "log_level_out": LOG,
    "log_level_forward": one_of(*LEVELS, since=FORWARDS),
    "smurf_log_level": LOG,
    "tcp_flags_log_level": LOG,
    "nf_conntrack_max": integer(32768),
    "nf_conntrack_helpers": text(),
    "nf_conntrack_tcp_timeout_established": integer(7875),
    "nf_conntrack_tcp_timeout_syn_recv": integer(30, 60),
    "protection_synflood_rate": integer(),
    "protection_synflood_burst": integer(),
}
RULE = {
    "type": one_of("in", "out", "forward", "group"),
    "action": matching(NAME, min_length=2, max_length=20),
    "comment": text(),
    "dest": named("pve-fw-addr-spec", max_length=512),
    "dport": named("pve-fw-dport-spec"),
    "enable": integer(0),
    "icmp-type": named("pve-fw-icmp-type-spec"),
    "iface": named("pve-iface"),
    "log": LOG,
    "macro": text(128),
    "proto": named("pve-fw-protocol-spec"),
    "source": named("pve-fw-addr-spec", max_length=512),
    "sport": named("pve-fw-sport-spec"),
}
WITH = {"pos": integer(0), "digest": DIGEST}


@dataclass(frozen=True)
class Level:
    """Where a firewall is. `env`: PVE's word for what its rules may say."""

    base: str
    env: str
    file: Callable[[Call], Firewall]
    read: Permission
    write: Permission
    options: dict[str, Param]


def _of_vm(call: Call) -> Firewall:
    """By the VMID alone: PVE does not look whether there is such a VM."""
    return call.cluster.vm_firewalls.setdefault(call.vmid, Firewall())


def _of_node(call: Call) -> Firewall:
    return call.cluster.node_firewalls.setdefault(call.node, Firewall())


def _of_cluster(call: Call) -> Firewall:
    return call.cluster.firewall


CLUSTER = Level(
    "/cluster/firewall", "cluster", _of_cluster, needs("/", "Sys.Audit"), needs("/", "Sys.Modify"), CLUSTER_OPTIONS
)
NODE = Level(
    "/nodes/{node}/firewall",
    "host",
    _of_node,
    needs("/nodes/{node}", "Sys.Audit"),
    needs("/nodes/{node}", "Sys.Modify"),
    NODE_OPTIONS,
)
VM = Level(
    "/nodes/{node}/qemu/{vmid}/firewall",
    "vm",
    _of_vm,
    needs("/vms/{vmid}", "VM.Audit"),
    needs("/vms/{vmid}", "VM.Config.Network"),
    VM_OPTIONS,
)
CONTAINER = Level("/nodes/{node}/lxc/{vmid}/firewall", "ct", _of_vm, VM.read, VM.write, VM_OPTIONS)
