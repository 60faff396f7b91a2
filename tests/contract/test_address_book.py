"""PVE's own address book by the real client against the lab: an address is moved, and others' stay."""

from typing import Any

import pytest

from nixops_proxmox.errors import StateError
from nixops_proxmox.kinds.resource import KnownNic
from nixops_proxmox.routers import Reservation, RouterProfile
from nixops_proxmox.routers.address_book import AddressBook
from tests.contract.test_networks import SERVED, Cluster, cluster
from tests.kinds.machine.cluster import Fuse
from tests.kinds.reservation_bench import ReservationBench

__all__ = ["cluster"]
WEB = "02:00:00:00:00:01"


def held(cluster: Cluster) -> dict[str, str]:
    """Addresses by MAC."""
    found: list[dict[str, Any]] = cluster.ask("GET", "/cluster/sdn/ipams/pve/status")
    return {one["mac"].lower(): one["ip"] for one in found if one.get("mac")}


def make_vm(cluster: Cluster, vmid: int, mac: str) -> None:
    upid = cluster.ask("POST", "/nodes/pve1/qemu", vmid=vmid, name=f"vm{vmid}", net0=f"virtio={mac.upper()},bridge=lan")
    cluster.bench.hypervisor.wait_for_task(upid)


def test_a_machine_has_its_described_address_before_it_starts(cluster: Cluster) -> None:
    cluster.run(SERVED)
    bench = ReservationBench()
    bench.router = AddressBook(RouterProfile("lan", "pve", settings={"vnet": "lan"}), cluster.bench.hypervisor.client)
    bench.nics = [KnownNic("web", "net0", WEB, "", ("10.9.0.150",))]
    make_vm(cluster, 500, WEB)
    make_vm(cluster, 501, "02:00:00:00:00:77")
    assert held(cluster) == {WEB: "10.9.0.100", "02:00:00:00:00:77": "10.9.0.101"}, "PVE took what was free"
    bench.run(Fuse(), wanted=True)
    assert held(cluster) == {WEB: "10.9.0.150", "02:00:00:00:00:77": "10.9.0.101"}
    bench.run(Fuse(), wanted=True)

    bench.nics = [KnownNic("web", "net0", WEB, "", ("10.9.0.101",))]
    with pytest.raises(StateError, match="somebody else, with the same IPv4 address"):
        bench.run(Fuse(), wanted=True)
    upid = cluster.ask("DELETE", "/nodes/pve1/qemu/500")
    cluster.bench.hypervisor.wait_for_task(upid)
    assert held(cluster) == {"02:00:00:00:00:77": "10.9.0.101"}, "PVE gives back what a VM had"
    bench.machines.clear()
    bench.run(Fuse(), wanted=False)
    assert held(cluster) == {"02:00:00:00:00:77": "10.9.0.101"}


def test_two_machines_change_their_addresses_with_one_another(cluster: Cluster) -> None:
    cluster.run(SERVED)
    book = AddressBook(RouterProfile("lan", "pve", settings={"vnet": "lan"}), cluster.bench.hypervisor.client)
    one, other = Reservation("", WEB, "10.9.0.150"), Reservation("", "02:00:00:00:00:02", "10.9.0.151")
    book.put([one, other])
    book.put([Reservation("", one.mac, other.ipv4), Reservation("", other.mac, one.ipv4)])
    assert held(cluster) == {one.mac: other.ipv4, other.mac: one.ipv4}
    book.drop([one, other])
    book.drop([one, other])
    assert held(cluster) == {}
