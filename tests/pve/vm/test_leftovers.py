"""An option that was taken back: the plan says what stays on the VM, and the command that it names resets it."""

import shlex

import pytest

from nixops_proxmox.pve.vm.diff import changes
from nixops_proxmox.pve.vm.identity import identity_of
from nixops_proxmox.pve.vm.leftovers import leftovers
from nixops_proxmox.spec import MachineSpec, Nic
from tests.contract.client_bench import Bench, bare, start_bench
from tests.pve.specs import full_spec, machine, spec, vm_of

IDENTITY = identity_of(machine())


def lines(made: MachineSpec, described: MachineSpec, **config: str) -> list[str]:
    return [
        line.partition(" is not in the description")[0] for line in leftovers(vm_of(made, config), described, IDENTITY)
    ]


def test_a_vm_as_described_has_none() -> None:
    for described in (spec(), full_spec(), spec(tags=("a",)), full_spec(expert_args="-device x", arch="aarch64")):
        assert leftovers(vm_of(described), described, IDENTITY, described.pool or "") == ()


def test_what_was_taken_back_is_said() -> None:
    made = full_spec(expert_args="-device x", extra={"rng0": "source=/dev/urandom"})
    described = spec(disks=made.disks, network=(Nic(slot="net0", bridge="vmbr0"), made.network[1]), efi=made.efi)
    said = lines(made, described, cpu="host,flags=+aes")
    assert set(said) == {
        "tpmstate0: it",
        "args: -device x",
        "balloon: 1024",
        "cores: 2",
        "cpu: host,flags=+aes",
        "cpulimit: 1.5",
        "cpuunits: 200",
        "description: the web server",
        "hotplug: network,disk",
        "machine: q35",
        "net0: firewall=1,queues=2,rate=12.5,tag=20",
        "numa: 1",
        "onboot: 1",
        "rng0: source=/dev/urandom",
        "startup: order=2,up=10",
        "tags: prod;web",
        "vga: serial0",
    }


def test_of_a_setting_that_is_described_in_part_the_rest_stays() -> None:
    described = spec(cpu={"type": "host"})
    assert lines(described, described, cpu="host,flags=+aes") == ["cpu: flags=+aes"]
    disk = spec().disks[0].model_copy(update={"cache": "writeback", "discard": True})
    assert lines(spec(disks=(disk,)), spec()) == ["scsi0: cache=writeback,discard=on"]


def test_what_only_counts_for_a_new_vm_is_said() -> None:
    said = leftovers(vm_of(spec()), spec(vmid=555, node="pve9"), IDENTITY, "old")
    assert [line.partition(":")[0] for line in said] == ["vmid", "node", "pool"]
    assert leftovers(vm_of(spec()), spec(pool="new"), IDENTITY, "old") == (), "that is a change"


def test_notes_and_controllers_that_were_taken_back_are_said() -> None:
    (notes,) = leftovers(vm_of(spec(description="the `web`\nserver")), spec(), IDENTITY)
    assert notes.startswith("description: the ?web? server is not in the description, but it stays; `desc")
    (controller,) = leftovers(vm_of(spec(scsi_controller="lsi")), spec(), IDENTITY)
    assert controller.startswith("scsihw: lsi is not in the description") and "--scsihw virtio-scsi-" in controller


def test_what_comes_from_the_cluster_is_shown_short_and_clean() -> None:
    (line,) = leftovers(vm_of(spec(), {"sshkeys": "\x1b[2J" + "x" * 99}), spec(), IDENTITY)
    assert "\x1b" not in line
    assert len(line) < 200


@pytest.mark.parametrize(
    "taken_back",
    [
        {"cpu": {"cores": 4, "units": 200, "limit": 1.5, "numa": True, "type": "host"}},
        {"tags": ("old", "older")},
        {"network": (Nic(slot="net0", bridge="vmbr0", tag=20, rate=12.5, firewall=True, queues=2, mtu=1400),)},
        {"onboot": True, "protection": True, "hotplug": "network", "display": "std", "machine": "q35"},
        {"extra": {"rng0": "source=/dev/urandom", "watchdog": "model=i6300esb"}, "balloon": 512},
        {"disks": (bare().disks[0].model_copy(update={"cache": "writeback", "discard": True, "ssd": True}),)},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_the_command_that_is_named_resets_it(taken_back: dict[str, object]) -> None:
    with start_bench() as bench:
        made = bench.created(bare(**taken_back))
        vm = bench.hypervisor.find_vm(made.facts)
        assert vm is not None
        assert changes(vm, bare(), identity_of(made)) == ()
        said = bench.hypervisor.leftovers(vm, bare(), made)
        assert said
        for line in said:
            type_command(bench, line.split("`")[1])
        vm = bench.another().find_vm(made.facts)
        assert vm is not None
        assert bench.hypervisor.leftovers(vm, bare(), made) == ()
        assert changes(vm, bare(), identity_of(made)) == ()


def type_command(bench: Bench, command: str) -> None:
    qm, verb, vmid, *options = shlex.split(command)
    assert (qm, verb) == ("qm", "set")
    params = {key.removeprefix("--"): value for key, value in zip(options[::2], options[1::2], strict=True)}
    client = bench.hypervisor.client
    node = client.get_resources(0.0).guests[int(vmid)].node
    client.set_config(node, int(vmid), params)
