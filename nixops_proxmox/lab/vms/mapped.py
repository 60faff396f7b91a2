"""Devices of nodes that VMs have, by themselves or by a mapping of the cluster."""

import re

from nixops_proxmox.lab.cluster import Cluster
from nixops_proxmox.lab.schema import properties
from nixops_proxmox.lab.vm import Vm

LOCAL = re.compile(r"(usb|hostpci|serial|parallel|virtiofs)\d+")


def local_resources(vm: Vm) -> tuple[list[str], list[str]]:
    """(devices of the node that the VM has, those of them that a cluster's mapping names), as check_local_resources in
    qemu-server."""
    found = [
        key
        for key, value in sorted(vm.config.items())
        if LOCAL.fullmatch(key) and not (key.startswith("serial") and value == "socket") and "spice" not in value
    ]
    return found, [key for key in found if "mapping=" in vm.config[key]]


def mapping_of(vm: Vm, key: str) -> tuple[str, str]:
    """(pci or usb, the mapping's name)"""
    return "usb" if key.startswith("usb") else "pci", properties.split(vm.config[key], "host")["mapping"]


def has_device(cluster: Cluster, node: str, kind: str, name: str) -> bool:
    """Does the mapping name a device of that node? One that is not there names none."""
    rows = cluster.mappings.get((kind, name), {"map": []})["map"]
    return any(f"node={node}" in row.split(",") for row in rows)
