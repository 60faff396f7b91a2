"""PVE's own cloud-init drive against the lab of each release: made, compared, told again, and never a second one."""

from collections.abc import Iterator

import pytest

from nixops_proxmox.errors import PveRefused
from nixops_proxmox.model import Machine, Vm
from nixops_proxmox.spec import InstallSpec, IpSpec, MachineSpec, Nic
from nixops_proxmox.spec.cloud_init import CloudInit, with_cloud_init
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.test_client_copies import finish, get, make_template

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJiHc3Lvb2vM1t0i3gJ9uTJ0pJ6v8O6m8H0qk0hZ5k1a me+you@home"
FIXED = IpSpec.model_validate({"method": "static", "address": "192.0.2.10", "prefix": 24, "gateway": "192.0.2.1"})


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        yield made


def described(template: Machine, user: str = "fedora") -> MachineSpec:
    told = CloudInit(user=user, ssh_keys=(KEY,))
    install = InstallSpec.model_validate({"from": "template", "template": str(template.facts.vmid)})
    nic = Nic.model_validate({"slot": "net0", "bridge": "vmbr0", "ipv4": FIXED, "dns": ("192.0.2.1",)})
    spec = bare(install=install.model_copy(update={"cloud_init": told}), network=(nic,))
    return with_cloud_init(spec)


def dump(bench: Bench, vm: Vm, what: str) -> str:
    path = "/nodes/{node}/qemu/{vmid}/cloudinit/dump"
    return str(bench.made[0]._ask("GET", path, {"type": what}, node=vm.node, vmid=vm.vmid))


def drives(vm: Vm) -> list[str]:
    return [key for key, value in vm.config.items() if "cloudinit" in value]


def test_a_drive_is_made_once_and_tells_what_is_described(bench: Bench) -> None:
    spec = described(make_template(bench))
    machine = bench.created(spec)
    vm = finish(bench, spec, machine)
    assert drives(vm) == ["ide0"] and not bench.hypervisor.boots_installer(vm, spec)
    user, network = dump(bench, vm, "user"), dump(bench, vm, "network")
    assert "user: fedora" in user and f"  - {KEY}" in user
    assert ("package_upgrade: true" in user) is not bench.hypervisor.get_release().has_cloud_init_upgrade
    for part in (machine.facts.macs[0], "'192.0.2.10/24'", "gateway: '192.0.2.1'", "- '192.0.2.1'"):
        assert part in network
    bench.hypervisor.start_vm(machine.facts, bench.note)
    assert bench.hypervisor.changes(get(bench, machine), spec, machine) == ()


def test_a_template_that_has_a_drive_keeps_it_and_gets_no_second(bench: Bench) -> None:
    template = make_template(bench)
    client = bench.hypervisor.unguarded
    spec = described(template)
    machine = bench.created(spec)
    client.set_config(machine.facts.node, machine.facts.vmid, {"ide2": "local-lvm:cloudinit"})
    bench.hypervisor._finder.drop_look(machine.facts.vmid)
    vm = finish(bench, spec, machine)
    assert drives(vm) == ["ide2"] and vm.config["ciuser"] == "fedora"
    with pytest.raises(PveRefused, match="cloud-init drive is already attached at 'ide2'"):
        client.set_config(vm.node, vm.vmid, {"ide0": "local-lvm:cloudinit"})


def test_what_changes_is_told_a_machine_that_runs_and_restarts_nothing(bench: Bench) -> None:
    template = make_template(bench)
    spec = described(template)
    machine = bench.created(spec)
    finish(bench, spec, machine)
    bench.hypervisor.start_vm(machine.facts, bench.note)
    other = described(template, user="ubuntu")
    before = dump(bench, get(bench, machine), "meta")
    (change,) = bench.hypervisor.changes(get(bench, machine), other, machine)
    assert (change.key, change.restart) == ("ciuser", False)
    (told,) = bench.hypervisor.apply_changes(get(bench, machine), other, machine, bench.note)
    assert told == "ciuser: cloud-init in the guest takes this up when the guest boots"
    vm = get(bench, machine)
    assert bench.lab.cluster.vms[vm.vmid].told["ciuser"] == "ubuntu", "the drive has the values of before"
    assert bench.hypervisor.changes(vm, other, machine) == () and dump(bench, vm, "meta") != before


@pytest.mark.parametrize(("key", "value"), [("ciuser", "mallory"), ("ipconfig0", "ip=dhcp"), ("sshkeys", "")])
def test_what_somebody_changed_by_hand_is_found_and_put_right(bench: Bench, key: str, value: str) -> None:
    spec = described(make_template(bench))
    machine = bench.created(spec)
    vm = finish(bench, spec, machine)
    bench.made[0].set_config(vm.node, vm.vmid, {key: value} if value else {"delete": key})
    bench.hypervisor._finder.drop_look(vm.vmid)
    assert [change.key for change in bench.hypervisor.changes(get(bench, machine), spec, machine)] == [key]
    assert finish(bench, spec, machine).config[key] == spec.extra[key]
