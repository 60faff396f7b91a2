"""Addresses of the cluster's own address book, for NICs on vnets whose zone serves DHCP.

PVE takes the next free one when a NIC appears, and gives it back when the NIC or the VM goes. What fails is a warning.
"""

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.config import is_nic, parse_nic
from nixops_proxmox.lab.ipam import give_back, take
from nixops_proxmox.lab.tasks import Log
from nixops_proxmox.lab.vm import Vm


def _place(value: str) -> tuple[str, str]:
    """The bridge and the MAC address of a NIC's configuration."""
    nic = parse_nic(value) if value else {}
    return nic.get("bridge", ""), nic.get("macaddr", "").upper()


def take_addresses(cluster: Cluster, vm: Vm, log: Log) -> None:
    """For every NIC of a VM that has just been made."""
    for key, value in vm.config.items():
        if is_nic(key):
            vnet, mac = _place(value)
            for problem in take(cluster.sdn, cluster.ipam, vnet, mac, vm.vmid, vm.name):
                log.warn(problem)


def nic_changes(cluster: Cluster, vm: Vm, before: str, after: str) -> None:
    if _place(before) == _place(after):
        return
    nic_goes(cluster, before)
    vnet, mac = _place(after)
    take(cluster.sdn, cluster.ipam, vnet, mac, vm.vmid, vm.name)


def nic_goes(cluster: Cluster, value: str) -> None:
    vnet, mac = _place(value)
    if vnet and mac:
        give_back(cluster.sdn, cluster.ipam, vnet, mac)
