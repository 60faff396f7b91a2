"""Which MACs are on the cluster: VMs' and containers'."""

from typing import TYPE_CHECKING

from nixops_proxmox.pve.api.answers import GuestSeen
from nixops_proxmox.pve.cluster.macs import find_macs
from nixops_proxmox.pve.vm.identity import Mark, print_mark
from tests.pve import stub as pve

if TYPE_CHECKING:
    from nixops_proxmox.pve.api.client import PveClient

OURS = "11111111-1111-1111-1111-111111111111"
CONFIGS = {
    "/nodes/pve1/qemu/100/config": {"name": "web", "smbios1": "uuid=11111111-1111-1111-1111-111111111111",
                                    "net0": "virtio=02:00:00:00:00:01,bridge=vmbr0"},
    "/nodes/pve1/qemu/104/config": {"name": "gitea", "net0": "virtio=02:00:00:00:00:04,bridge=vmbr0"},
    "/nodes/pve1/lxc/105/config": {"hostname": "proxy", "arch": "amd64", "lxc": [["lxc.apparmor.profile", "x"]],
                                   "net0": "name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:05,ip=dhcp,type=veth"},
    "/nodes/pve1/lxc/106/config": {"hostname": "ours", "net0": "name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:06",
                                   "description": print_mark(Mark("shop", "ours", OURS))},
}  # fmt: skip


def test_containers_are_looked_at_and_our_own_guests_are_left_out(stub: pve.Stub, client: "PveClient") -> None:
    stub.answer = lambda asked: pve.data(CONFIGS[asked.path])
    guests = [
        GuestSeen(100, "pve1", "qemu", "web"),
        GuestSeen(104, "pve1", "qemu", "gitea"),
        GuestSeen(105, "pve1", "lxc", "proxy"),
        GuestSeen(106, "pve1", "lxc", "ours"),
    ]
    assert find_macs(client, guests, [OURS]) == {
        "02:00:00:00:00:04": "VM 104 (gitea) on pve1",
        "02:00:00:00:00:05": "container 105 (proxy) on pve1",
    }
