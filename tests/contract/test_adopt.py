"""VMs of every make are taken over, each with a plan that does nothing; what no option says is left alone and named."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import ConfigError
from nixops_proxmox.kinds.machine.plans import plan_deploy
from nixops_proxmox.messages.adoptions import adoption_json, adoption_remarks, network_text
from nixops_proxmox.model import Phase
from nixops_proxmox.operations.adopting import Adoption
from nixops_proxmox.pve.vm.identity import find_mark
from nixops_proxmox.spec import MachineSpec, parse_machine
from tests.contract.client_bench import start_bench
from tests.contract.machines import Deployment

NIC = {"net0": "virtio=BC:24:11:00:00:09,bridge=vmbr0"}
PLAIN: dict[str, Any] = {"scsi0": "local-lvm:1", **NIC}
VMS: dict[str, dict[str, Any]] = {  # parameters of POST …/qemu
    "smallest": PLAIN,
    "web interface": {
        **PLAIN, "scsihw": "virtio-scsi-single", "cores": 2, "sockets": 1, "memory": 2048, "cpu": "x86-64-v2-AES",
        "ostype": "l26", "agent": 1, "numa": 0, "ide2": "none,media=cdrom", "boot": "order=scsi0;ide2;net0",
    },
    "uefi": {**PLAIN, "bios": "ovmf", "efidisk0": "local-lvm:1,efitype=4m,pre-enrolled-keys=1", "machine": "q35"},
    "uefi without enrolled keys": {**PLAIN, "bios": "ovmf", "efidisk0": "local-lvm:1,efitype=4m,pre-enrolled-keys=0"},
    "tpm": {**PLAIN, "tpmstate0": "local-lvm:1,version=v2.0"},
    "directory": {"scsi0": "shared:1,format=qcow2,discard=on,ssd=1", **NIC},
    "virtio and sata": {"virtio0": "local-lvm:1,iothread=1", "sata1": "local-lvm:2,backup=0", **NIC},
    "serials": {"scsi0": "local-lvm:1,serial=root", "scsi3": "local-lvm:1,serial=data,cache=writeback", **NIC},
    "several networks": {
        **PLAIN, "net1": "e1000=BC:24:11:00:00:0A,bridge=vmbr0,tag=20,firewall=1",
        "net2": "virtio=BC:24:11:00:00:0B,bridge=vmbr0,queues=2,rate=12.5,mtu=1",
    },
    "cloud-init": {
        **PLAIN, "ide2": "local-lvm:cloudinit", "ciuser": "admin", "cipassword": "geheim", "ipconfig0": "ip=dhcp",
        "nameserver": "192.0.2.53",
    },
    "console": {**PLAIN, "serial0": "socket", "vga": "serial0", "agent": "enabled=1,fstrim_cloned_disks=1"},
    "display": {**PLAIN, "vga": "qxl,memory=32"},
    "limits": {**PLAIN, "cpulimit": "1.5", "cpuunits": 200, "balloon": 512, "memory": 1024, "shares": 2000},
    "starts by itself": {**PLAIN, "onboot": 1, "startup": "order=2,up=30", "protection": 1},
    "hotplug": {**PLAIN, "hotplug": "network,disk,memory", "numa": 1, "memory": 2048},
    "tags and notes": {**PLAIN, "tags": "prod;web", "description": "Made by Alice.\n\nPlease ask first."},
    "processor flags": {**PLAIN, "cpu": "kvm64,flags=+aes", "sockets": 2, "cores": 2, "vcpus": 2},
    "pci mapping": {**PLAIN, "machine": "q35", "hostpci0": "mapping=gpu,pcie=1"},
    "ide and cd": {"ide0": "local-lvm:1", "scsi0": "local-lvm:1", "ide2": "none,media=cdrom", **NIC},
    "odd size": {"scsi0": "local-lvm:1.5", **NIC},
    "link down": {"scsi0": "local-lvm:1", "net0": "virtio=BC:24:11:00:00:09,bridge=vmbr0,link_down=1"},
    "audio and watchdog": {**PLAIN, "audio0": "device=ich9-intel-hda", "watchdog": "model=i6300esb", "tablet": 0},
}  # fmt: skip
LEFT = {  # whose keys are left alone
    "web interface": {"ide2"},
    "cloud-init": {"ide2", "ciuser", "cipassword"},
    "ide and cd": {"ide0", "ide2"},
    "link down": {"net0"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with start_bench(nodes=("pve1",)) as bench:
        yield Deployment(bench, tmp_path_factory.mktemp("adopt"))


def make(made: Deployment, name: str, params: Mapping[str, Any]) -> int:
    """A VM that somebody made; its VMID."""
    vmid = max([100, *made.bench.vmids]) + 1
    made.by_hand("POST", "/nodes/pve1/qemu", vmid=vmid, name=name.replace(" ", "-"), **params)
    made.bench.lab.settle()
    return vmid


def examine(made: Deployment, *words: str, **more: Any) -> list[Adoption]:
    with made.opened() as deployed:
        return deployed.examine("default", words, **more)


def described(found: Adoption) -> MachineSpec:
    assert found.machine is not None and found.options is not None
    return parse_machine(found.machine.name, {"proxmox": dict(found.options)})


@pytest.mark.parametrize("name", VMS)
def test_a_vm_is_taken_over_with_an_empty_plan(made: Deployment, name: str) -> None:
    take_over(made, name)


@pytest.mark.parametrize("release", ["7.4", "9.1"])
def test_so_it_is_on_other_releases(release: str, tmp_path: Path) -> None:
    with start_bench(nodes=("pve1",), version=release) as bench:
        for name in ("web interface", "uefi", "several networks", "cloud-init", "limits"):
            take_over(Deployment(bench, tmp_path), name)


def take_over(made: Deployment, name: str) -> None:
    vmid = make(made, name, VMS[name])
    client = made.bench.hypervisor.client
    before = dict(client.get_config("pve1", vmid).values)
    with made.opened() as deployed:
        (found,) = deployed.examine("default", [str(vmid)])
        assert found.problem == ""
        assert {line.partition(":")[0] for line in found.left} == LEFT.get(name, set())
        assert dict(client.get_config("pve1", vmid).values) == before, "until now, nothing was written"
        (machine,) = deployed.adopt([found])
    after = dict(client.get_config("pve1", vmid).values)
    mark = find_mark(after["description"])
    assert mark is not None and (mark.machine, mark.deployment) == (machine.name, made.name)
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} <= {"description", "tags"}
    with made.opened(described(found)) as deployed:
        (plan,) = deployed.plan([machine.name])
        assert (plan.changes, plan.error) == ((), None)
    assert "geheim" not in json.dumps(adoption_json(found))


def test_what_equals_pves_default_is_not_described(made: Deployment) -> None:
    vmid = make(
        made, "defaults", {**PLAIN, "cores": 1, "sockets": 1, "numa": 0, "onboot": 0, "serial0": "socket", "agent": 1}
    )
    (found,) = examine(made, str(vmid))
    assert found.options is not None and set(found.options) == {"disks", "network"}


def test_a_network_of_it_is_nix(made: Deployment, tmp_path: Path) -> None:
    vmids = [make(made, name, VMS[name]) for name in ("several networks", "cloud-init", "uefi")]
    for vmid, name in zip(vmids, ("nets", "ci", "efi"), strict=True):
        made.by_hand("PUT", f"/nodes/pve1/qemu/{vmid}/config", name=name)
    found = examine(made, *map(str, vmids))
    text = network_text(found)
    file = tmp_path / "network.nix"
    file.write_text(text)
    assert "nets = {" in text and 'mac = "BC:24:11:00:00:0A";' in text
    if shutil.which("nix-instantiate") is None:
        pytest.skip("there is no Nix")
    done = subprocess.run(
        ["nix-instantiate", "--eval", "--strict", "--json", str(file)], capture_output=True, text=True, check=True
    )
    read = json.loads(done.stdout)
    assert {name: one["deployment"]["proxmox"] for name, one in read.items()} == {
        one.machine.name: json.loads(json.dumps(one.options)) for one in found if one.machine is not None
    }


def test_what_cannot_be_taken_over_says_why_and_nothing_is_touched(made: Deployment) -> None:
    ours = made.make("ours")
    bridgeless = make(made, "bridgeless", PLAIN)
    net1 = {"net1": "virtio=BC:24:11:00:00:0C"}  # PVE 8.1 and later make none such, and keep those that are there
    made.bench.change(lambda: made.bench.lab.cluster.vms[bridgeless].config.update(net1))
    alone = make(made, "alone", {"scsi0": "local-lvm:1"})
    words = [str(ours.facts.vmid), str(bridgeless), str(alone), "nobody"]
    problems = [one.problem for one in examine(made, *words)]
    assert "it has a mark: it is the machine ours" in problems[0]
    assert "net1 would change" in problems[1]
    assert "needs at least one NIC" in problems[2] and "\n" not in problems[2]
    assert "no VM that we may see has this VMID or name" in problems[3]
    with made.opened() as deployed, pytest.raises(Exception, match="cannot be taken over"):
        deployed.adopt(examine(made, str(alone)))


def test_a_vm_that_keeps_volumes_is_not_taken_over(made: Deployment) -> None:
    store = made.bench.another().volume_store
    parker = store.make_parker(
        store.propose_parker("22222222-2222-4222-8222-222222222222", "pve1"), "demo", "local-lvm", made.bench.note
    )
    (found,) = examine(made, str(parker.vmid))
    assert found.problem == "it keeps volumes, and never runs"


def test_a_terraform_state_names_vms_and_what_to_forget(made: Deployment, tmp_path: Path) -> None:
    vmid = make(made, "from terraform", PLAIN)
    state = {
        "version": 4,
        "resources": [
            {"mode": "managed", "type": "proxmox_virtual_environment_vm", "name": "web", "module": "module.shop",
             "instances": [{"index_key": "a", "attributes": {"vm_id": vmid}}]},
            {"mode": "data", "type": "proxmox_virtual_environment_vm", "name": "x", "instances": []},
        ],
    }  # fmt: skip
    file = tmp_path / "terraform.tfstate"
    file.write_text(json.dumps(state))
    (found,) = examine(made, tfstate=file)
    assert found.ready and found.target.address == 'module.shop.proxmox_virtual_environment_vm.web["a"]'
    for text in ("[]", "no json", '{"resources": 3}', '{"resources": []}'):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"is no Terraform state|has no VMs"):
            examine(made, tfstate=file)


def test_a_disk_without_serial_is_said(made: Deployment) -> None:
    (found,) = examine(made, str(make(made, "nameless", PLAIN)))
    assert found.machine is not None and found.machine.facts.nameless and found.machine.phase is Phase.STOPPED
    assert any("no serial" in line for line in adoption_remarks(found))


def test_a_deploy_marks_what_a_killed_takeover_recorded(made: Deployment) -> None:
    vmid = make(made, "killed", PLAIN)
    (found,) = examine(made, str(vmid))
    assert found.machine is not None
    made.record(found.machine)
    with made.opened(described(found)) as deployed:
        world = deployed.read_only("killed").world
        plan_deploy(found.machine, world)
        (plan,) = deployed.plan(["killed"])
    assert {change.key for change in plan.changes} == {"description", "tags"}
