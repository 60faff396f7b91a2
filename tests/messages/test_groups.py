"""Machines of several hypervisors are shown one hypervisor after another."""

from nixops_proxmox.messages.groups import by_hypervisor, grouped, heading

MACHINES = [("web", "tenant"), ("new", ""), ("dns", "mgmt"), ("app", "tenant")]


def test_each_hypervisor_has_its_machines_in_their_order_and_those_without_one_come_last() -> None:
    assert list(by_hypervisor(MACHINES, lambda one: one[1]).items()) == [
        ("mgmt", [("dns", "mgmt")]),
        ("tenant", [("web", "tenant"), ("app", "tenant")]),
        ("", [("new", "")]),
    ]
    assert [name for name, _ in grouped(MACHINES, lambda one: one[1])] == ["dns", "web", "app", "new"]
    assert (heading("mgmt", 1), heading("tenant", 2)) == ("on mgmt: 1 machine", "on tenant: 2 machines")
