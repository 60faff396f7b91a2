"""Which MACs are on the cluster: VMs' and containers'."""

from typing import TYPE_CHECKING

from nixops_proxmox.pve.api.answers import GuestSeen
from nixops_proxmox.pve.cluster.macs import find_macs
from tests.pve import stub as pve

if TYPE_CHECKING:
    from nixops_proxmox.pve.api.client import PveClient

CONFIGS = {
    "/nodes/pve1/qemu/100/config": {"name": "web", "smbios1": "uuid=11111111-1111-1111-1111-111111111111",
                                    "net0": "virtio=02:00:00:00:00:01,bridge=vmbr0"},
    "/nodes/pve1/qemu/104/config": {"name": "gitea", "net0": "virtio=02:00:00:00:00:04,bridge=vmbr0"},
    "/nodes/pve1/lxc/105/config": {"hostname": "proxy", "arch": "amd64", "lxc": [["lxc.apparmor.profile", "x"]],
                                   "net0": "name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:05,ip=dhcp,type=veth"},
}  # fmt: skip


def test_containers_are_looked_at_and_our_own_vms_are_left_out(stub: pve.Stub, client: "PveClient") -> None:
    stub.answer = lambda asked: pve.data(CONFIGS[asked.path])
    guests = [
        GuestSeen(100, "pve1", "qemu", "web"),
        GuestSeen(104, "pve1", "qemu", "gitea"),
        GuestSeen(105, "pve1", "lxc", "proxy"),
    ]
    assert find_macs(client, guests, ["11111111-1111-1111-1111-111111111111"]) == {
        "02:00:00:00:00:04": "VM 104 (gitea) on pve1",
        "02:00:00:00:00:05": "container 105 (proxy) on pve1",
    }
