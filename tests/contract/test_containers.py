"""Containers on a lab: made, proven before the first contact, changed in place, and gone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nixops_proxmox.errors import PermissionDenied
from nixops_proxmox.kinds.machine.shape import Permissions
from nixops_proxmox.lab.machines.simulated.sshd import make_host_key
from nixops_proxmox.model import Effect, Facts, Machine, Phase
from nixops_proxmox.operations.backups import return_to_snapshot, take_snapshot
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.api.versions import parse_release
from nixops_proxmox.pve.cluster.containers import ContainerHypervisor
from nixops_proxmox.pve.cluster.doctor import examine
from nixops_proxmox.pve.cluster.hypervisor import PveHypervisor
from nixops_proxmox.pve.cluster.permissions import needs_of
from nixops_proxmox.pve.wire.calls import Trace, no_trace
from nixops_proxmox.pve.wire.profiles import parse_profile
from nixops_proxmox.reach.patience import Patience
from nixops_proxmox.spec import ContainerSpec, Cpu, MachineKind, MachineSpec, Nic, RootSpec
from tests.contract.clerk import Clerk
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.hypervisors import Hypervisors, address_of, ends, find_obstacle, mac_of, start_hypervisors
from tests.contract.kills import killed_at
from tests.lab.test_containers import add_seed, write_archive
from tests.pace import patience

SHORT = Patience(boot=patience(2), sshd=patience(2), race=patience(2))
pytestmark = pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle())


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def beds(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hypervisors]:
    with start_hypervisors(tmp_path, {"pve": ["pve1", "pve2"]}, {"pve": request.param}) as found:
        yield found


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Hypervisors]:
    with start_hypervisors(tmp_path, {"pve": ["pve1", "pve2"]}) as found:
        yield found


def seed(bed: Hypervisors, *names: str) -> Path:
    """The template: what a NixOS system is unpacked to, as far as a model of a guest looks."""
    path = bed.folder / "nixos.tar.gz"
    write_archive(path, names or ("etc/ssh", "nix/store", "root", "sbin"))
    return path


def container(bed: Hypervisors, number: int = 1, **changes: Any) -> dict[str, Any]:
    inside = {"template": str(seed(bed)), "root": {"storage": "local-lvm", "size": "8G"}}
    return {
        "profile": "pve",
        "kind": "container",
        "memory": 256,
        "network": [{"bridge": "vmbr0", "mac": mac_of(number)}],
        "endpoint": {"address": address_of(number)},
        "container": inside | changes.pop("container", {}),
    } | changes


def deploy(bed: Hypervisors, machines: Mapping[str, Any], *names: str) -> dict[str, str]:
    with bed.opened(machines) as deployed:
        return ends(deployed.deploy(list(names) or list(machines)))


def config(bed: Hypervisors, name: str = "web") -> dict[str, str]:
    vms = bed.labs["pve"].cluster.vms.values()
    return next(dict(vm.config) for vm in vms if vm.config.get("hostname") == name)


def test_a_container_becomes_ready_and_is_what_is_described(beds: Hypervisors) -> None:
    described = {"web": container(beds, tags=["front"], cpu={"cores": 2})}
    assert deploy(beds, described) == {"web": ""}
    machine = beds.recorded()
    assert (machine.phase, machine.facts.container) == (Phase.READY, True)
    found = config(beds)
    assert (found["unprivileged"], found["features"], found["ostype"]) == ("1", "nesting=1", "nixos")
    root = f"local-lvm:vm-{machine.facts.vmid}-disk-0,size=8G"
    assert (found["rootfs"], found["cores"], found["tags"]) == (root, "2", "front;nixops")
    assert machine.facts.uuid in found["description"]
    assert deploy(beds, described) == {"web": ""}, "it is as described, so nothing is done"
    assert labels(beds)[-1] == "Reach the system and activate what is wanted"


def labels(bed: Hypervisors, name: str = "web") -> list[str]:
    """What was done to the machine, the oldest first."""
    with bed.opened({}) as deployed:
        return [entry.label for entry in deployed.record.history(name) if entry.outcome == "done"]


STATIC = {"ipv4": {"method": "static", "address": "10.9.0.2", "prefix": 24}}


@pytest.mark.parametrize(
    ("version", "nic", "is_refused"), [("7.4", {}, True), ("7.4", STATIC, False), ("8.4", {}, False)]
)
def test_where_nothing_tells_its_address_it_is_refused_before_it_is_made(
    tmp_path: Path, version: str, nic: dict[str, Any], is_refused: bool
) -> None:
    with start_hypervisors(tmp_path, {"pve": ["pve1", "pve2"]}, {"pve": version}) as bed:
        described = {"web": container(bed, endpoint={}, network=[{"bridge": "vmbr0", "mac": mac_of(1)} | nic])}
        with bed.opened(described) as deployed:
            said = ends(deployed.deploy(["web"], until=Phase.DEFINED))["web"]
        assert ("cannot tell which addresses a container has" in said) is is_refused
        assert (bed.labs["pve"].cluster.vms == {}) is is_refused


def test_its_life_has_four_steps_and_no_installer(bed: Hypervisors) -> None:
    deploy(bed, {"web": container(bed)})
    assert labels(bed) == [
        "Reserve a VMID, a UUID, MACs and a host key",
        "Create the container from its template",
        "Start the container and give it its identity",
        "Reach the system and activate what is wanted",
    ]


def test_the_template_travels_once_for_all_machines_of_a_node(bed: Hypervisors) -> None:
    described = {name: container(bed, number, node="pve1") for number, name in enumerate(("one", "two"), 1)}
    assert deploy(bed, described) == {"one": "", "two": ""}
    uploads = [call for call in bed.labs["pve"].calls if call["path"].endswith("/upload")]
    assert len(uploads) == 1
    stored = [one.volid for one in bed.labs["pve"].cluster.stores.on("local", "pve1") if one.content == "vztmpl"]
    assert len(stored) == 1 and stored[0].startswith("local:vztmpl/nixos-") and stored[0].endswith(".tar.gz")


def test_a_template_that_is_on_the_storage_is_taken_as_it_is(bed: Hypervisors) -> None:
    bed.labs["pve"].lab.add_file("local", "vztmpl", seed(bed))
    inside = {"template": "local:vztmpl/nixos.tar.gz"}
    assert deploy(bed, {"web": container(bed, container=inside)}) == {"web": ""}
    assert not [call for call in bed.labs["pve"].calls if call["path"].endswith("/upload")]


def test_another_machine_at_its_address_is_never_taken_for_it(bed: Hypervisors) -> None:
    """Before it has our host key, the one that PVE made is what proves it."""
    described = {"web": container(bed)}
    with bed.opened(described) as deployed:
        deployed.deploy(["web"], until=Phase.DEFINED)
    facts = bed.recorded().facts
    assert facts.first_key.startswith("ssh-ed25519 SHA256:")
    swap_host_key(bed, facts.vmid)
    with bed.opened(described, patience=SHORT) as deployed:
        refused = ends(deployed.deploy(["web"]))["web"]
    assert "no address answered as this machine" in refused and "another machine" in refused.lower()
    assert bed.recorded().phase is Phase.DEFINED


def swap_host_key(bed: Hypervisors, vmid: int) -> None:
    """Somebody in between has a key of their own."""
    cluster = bed.labs["pve"].cluster
    (root,) = [one for one in cluster.stores.volumes.values() if one.vmid == vmid]
    key = root.path / "now" / "parts" / "0" / "etc" / "ssh" / "ssh_host_ed25519_key"
    key.write_text(make_host_key("root@other").private)


def test_a_template_without_host_keys_is_refused_with_what_to_do(bed: Hypervisors) -> None:
    (bed.folder / "bare").mkdir()
    path = bed.folder / "bare" / "nixos.tar.gz"
    write_archive(path, ("nix/store",))
    refused = deploy(bed, {"web": container(bed, container={"template": str(path)})})["web"]
    assert "tells no host key" in refused
    assert bed.recorded().phase is Phase.RESERVED, "nothing was started that we could not prove"


CHANGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "memory": ({"memory": 512}, "memory", "512"),
    "cores": ({"cpu": {"cores": 2}}, "cores", "2"),
    "tags": ({"tags": ["x"]}, "tags", "nixops;x"),
    "a larger root": ({"container": {"root": {"storage": "local-lvm", "size": "9G"}}}, "rootfs", "size=9G"),
    "a mount point": (
        {"container": {"mounts": [{"path": "/data", "storage": "local-lvm", "size": "4G"}]}},
        "mp0",
        "mp=/data,size=4G",
    ),
    "another NIC": ({"network": [{"bridge": "vmbr0", "mac": mac_of(1)}, {"bridge": "vmbr1"}]}, "net1", "name=eth1,"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_it_is_changed_while_it_runs(bed: Hypervisors, what: str) -> None:
    more, key, value = CHANGES[what]
    deploy(bed, {"web": container(bed)})
    started = running_since(bed)
    described = {"web": container(bed, **more)}
    with bed.opened(described) as deployed:
        (planned,) = deployed.plan(["web"])
    assert planned.effect is Effect.CHANGE and [change.key for change in planned.changes] == [key]
    assert deploy(bed, described) == {"web": ""}
    assert value in config(bed)[key] and running_since(bed) == started
    with bed.opened(described) as deployed:
        (after,) = deployed.plan(["web"])
    assert after.effect is Effect.NOTHING


def running_since(bed: Hypervisors, name: str = "web") -> float:
    (vm,) = [vm for vm in bed.labs["pve"].cluster.vms.values() if vm.config.get("hostname") == name]
    assert vm.running is not None
    return vm.running.started


FORBIDDEN = {
    "a smaller root": ({"root": {"storage": "local-lvm", "size": "4G"}}, "cannot become smaller"),
    "a root on another storage": ({"root": {"storage": "other", "size": "8G"}}, "do not move volumes"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_pve_cannot_do_in_place_changes_nothing(bed: Hypervisors, what: str) -> None:
    inside, why = FORBIDDEN[what]
    deploy(bed, {"web": container(bed)})
    before = config(bed)
    refused = deploy(bed, {"web": container(bed, container=inside)})["web"]
    assert "cannot be changed in place" in refused and why in refused
    assert config(bed) == before


def test_nesting_waits_for_a_restart_that_is_allowed(bed: Hypervisors) -> None:
    deploy(bed, {"web": container(bed)})
    described = {"web": container(bed, container={"nesting": False})}
    assert deploy(bed, described) == {"web": ""}
    assert bed_vm(bed).pending == {"features": "nesting=0"}
    with bed.opened(described, permissions=Permissions(allow_reboot=True)) as deployed:
        assert ends(deployed.deploy(["web"])) == {"web": ""}
    assert bed_vm(bed).pending == {} and config(bed)["features"] == "nesting=0"


def bed_vm(bed: Hypervisors, name: str = "web") -> Any:
    (vm,) = [vm for vm in bed.labs["pve"].cluster.vms.values() if vm.config.get("hostname") == name]
    return vm


def test_drift_is_seen_and_mended(bed: Hypervisors) -> None:
    described = {"web": container(bed)}
    deploy(bed, described)
    bed.change("pve", lambda: bed_vm(bed).config.update(memory="2048", tags="nixops"))
    with bed.opened(described) as deployed:
        (checked,) = deployed.check(["web"])
    assert [one.change.key for one in checked.drift] == ["memory"]
    assert deploy(bed, described) == {"web": ""}
    assert config(bed)["memory"] == "256"


@pytest.mark.parametrize("version", ["7.4", "9.1"])
def test_it_has_a_firewall_of_its_own(tmp_path: Path, version: str) -> None:
    with start_hypervisors(tmp_path, {"pve": ["pve1", "pve2"]}, {"pve": version}) as bed:
        described = {"web": container(bed)}
        rule = {"proto": "tcp", "port": 22}
        walls = {"firewalls": {"web": {"profile": "pve", "enable": True, "rules": [rule]}}}
        with bed.opened(described, resources=walls) as deployed:
            assert ends(deployed.deploy(["web"])) == {"web": ""}
        lab = bed.labs["pve"]
        wall = lab.cluster.vm_firewalls[bed_vm(bed).vmid]
        assert wall.options["enable"] in (1, "1")
        assert [(one["action"], one["dport"]) for one in wall.rules] == [("ACCEPT", "22")]
        asked = {call["path"] for call in lab.calls if "/firewall/" in call["path"] and "/lxc/" in call["path"]}
        assert asked and not [call for call in lab.calls if "/qemu/" in call["path"] and "/firewall" in call["path"]]
        bed.change("pve", lambda: wall.rules.clear())
        with bed.opened(described, resources=walls) as deployed:
            assert ends(deployed.deploy(["web"])) == {"web": ""}
            assert [one["dport"] for one in wall.rules] == ["22"], "what somebody removed is there again"
        with bed.opened({}) as deployed:
            assert ends(deployed.destroy(["web"])) == {"web": ""}


def test_it_is_stopped_started_rebooted_and_destroyed(bed: Hypervisors) -> None:
    described = {"web": container(bed)}
    deploy(bed, described)
    with bed.opened(described) as deployed:
        assert ends(deployed.stop(["web"])) == {"web": ""}
        assert bed_vm(bed).running is None and bed.recorded().phase is Phase.STOPPED
        assert ends(deployed.start(["web"])) == {"web": ""}
        before = running_since(bed)
        assert ends(deployed.reboot(["web"])) == {"web": ""}
        assert running_since(bed) > before
        assert ends(deployed.reboot(["web"], hard=True)) == {"web": ""}
    with bed.opened({}) as deployed:
        assert ends(deployed.destroy(["web"])) == {"web": ""}
    assert bed.labs["pve"].cluster.vms == {} and bed.recorded().phase is Phase.ABSENT


def test_reinstalling_makes_it_new_with_the_same_identity(bed: Hypervisors) -> None:
    described = {"web": container(bed)}
    deploy(bed, described)
    before = bed.recorded().facts
    bed.change("pve", lambda: bed_vm(bed).config.update(ostype="debian"))
    with bed.opened(described) as deployed:
        assert ends(deployed.reinstall(["web"])) == {"web": ""}
    after = bed.recorded().facts
    assert identity(after) == identity(before) and after.round == 1
    assert config(bed)["ostype"] == "nixos" and after.first_key != before.first_key


def test_a_mount_point_to_keep_forbids_to_make_it_new(bed: Hypervisors) -> None:
    mount = {"path": "/data", "storage": "local-lvm", "size": "1G"}
    described = {"web": container(bed, container={"mounts": [mount | {"keep": True}]})}
    deploy(bed, described)
    before = config(bed)
    for again in (described, {"web": described["web"] | {"install": {"generation": 1}}}):
        with bed.opened(again) as deployed:
            refused = ends(deployed.reinstall(["web"]) if again is described else deployed.deploy(["web"]))["web"]
        assert "mp0 (/data) must be kept" in refused
    assert config(bed) == before and bed.recorded().phase is Phase.READY
    gone = bed_vm(bed)
    bed.by_hand("pve", "POST", f"/nodes/{gone.node}/lxc/{gone.vmid}/status/stop")
    bed.by_hand("pve", "DELETE", f"/nodes/{gone.node}/lxc/{gone.vmid}")
    with bed.opened(described) as deployed:
        assert ends(deployed.deploy(["web"], allow_recreate=True)) == {"web": ""}, "there is nothing to keep"
        assert ends(deployed.destroy(["web"])) == {"web": ""}, "the word takes it away"


def identity(facts: Any) -> tuple[Any, ...]:
    return facts.uuid, facts.vmid, facts.macs, facts.host_key, facts.container


def test_one_that_somebody_removed_is_lost_and_comes_back_only_with_permission(bed: Hypervisors) -> None:
    described = {"web": container(bed)}
    deploy(bed, described)
    bed.by_hand("pve", "POST", f"/nodes/{bed_vm(bed).node}/lxc/{bed_vm(bed).vmid}/status/stop")
    bed.by_hand("pve", "DELETE", f"/nodes/{bed_vm(bed).node}/lxc/{bed_vm(bed).vmid}")
    assert "it is lost" in deploy(bed, described)["web"]
    assert bed.labs["pve"].cluster.vms == {}
    with bed.opened(described) as deployed:
        assert ends(deployed.deploy(["web"], allow_recreate=True)) == {"web": ""}


def test_one_with_the_same_number_that_is_not_ours_is_never_touched(bed: Hypervisors) -> None:
    described = {"web": container(bed)}
    deploy(bed, described)
    bed.change("pve", lambda: bed_vm(bed).config.update(description="mine", memory="64"))
    with bed.opened({}) as deployed:
        deployed.destroy(["web"])
    assert config(bed)["memory"] == "64", "its notes do not say that it is ours"


def test_a_vm_is_not_turned_into_a_container(bed: Hypervisors) -> None:
    described = {"web": container(bed)}
    deploy(bed, described)
    refused = deploy(bed, {"web": bed.machine("pve")})["web"]
    assert "it is a container, and the description says a VM" in refused
    with bed.opened({"web": bed.machine("pve")}) as deployed:
        assert ends(deployed.destroy(["web"])) == {"web": ""}, "it is destroyed as what it is"
    assert bed.labs["pve"].cluster.vms == {}


def test_what_makes_no_sense_for_containers_is_refused_in_words(bed: Hypervisors) -> None:
    described = {"web": container(bed)}
    deploy(bed, described)
    with bed.opened(described) as deployed:
        (outcome,) = deployed.rescue(["web"])
    assert outcome.error is not None and "a container has no installer" in outcome.error.hint


def test_a_snapshot_is_taken_and_taken_back(bed: Hypervisors) -> None:
    described = {"web": container(bed)}
    deploy(bed, described)
    with bed.opened(described) as deployed:
        assert ends(deployed.work_on(["web"], lambda one, _: take_snapshot(one, "before"))) == {"web": ""}
    bed.change("pve", lambda: bed_vm(bed).config.update(memory="2048"))
    with bed.opened(described) as deployed:
        assert ends(deployed.work_on(["web"], lambda one, _: return_to_snapshot(one, "before"))) == {"web": ""}
    assert config(bed)["memory"] == "256" and bed.recorded().phase is Phase.READY


SPEC = MachineSpec(
    name="web",
    kind=MachineKind.CONTAINER,
    network=(Nic(slot="net0", bridge="vmbr0"),),
    cpu=Cpu(cores=1),
    container=ContainerSpec(
        template="local:vztmpl/nixos-seed.tar.gz", root=RootSpec(storage="local-lvm", size=1 << 30)
    ),
)
# What is not refused, but not shown; or is for another act than making one (ON_ONE, below, and test_rights).
OF_OTHERS = {
    "VM.Backup",
    "VM.Migrate",
    "VM.Audit",
    "Datastore.Audit",
    "Sys.Audit",
    "VM.PowerMgmt",
    "VM.Console",
    "VM.Snapshot",
    "VM.Config.Memory",
}


@pytest.mark.parametrize("version", ["8.4", "9.1"])
def test_each_right_that_doctor_asks_for_is_needed_and_all_are_enough(version: str) -> None:
    with start_bench(version) as bench:
        add_seed(bench.lab)
        needed = sorted(
            {need.privileges[0] for need in needs_of(SPEC, parse_release(bench.lab.cluster.release.version))}
        )
        assert "VM.Config.HWType" not in needed and not any("Agent" in name for name in needed)
        for number, lacking in enumerate([*(name for name in needed if name not in OF_OTHERS), ""]):
            rights = {"/": [name for name in needed if name != lacking]}
            told = refusal(bench, Clerk(bench, rights, name=f"clerk{number}@pve").hypervisor)
            # Of VM.Allocate, PVE's refusal names neither the privilege nor the path.
            assert (lacking == "VM.Allocate" and told) or (lacking in told if lacking else told == ""), (lacking, told)


ON_ONE: Mapping[str, Callable[[ContainerHypervisor, Facts], object]] = {
    "VM.Backup": lambda clerk, facts: clerk.client.back_up(facts.node, facts.vmid, "local"),
    "VM.Migrate": lambda clerk, facts: clerk.client.migrate_vm(facts.node, facts.vmid, "pve2"),
}


@pytest.mark.parametrize("lacking", [*ON_ONE, ""])
def test_what_is_done_to_one_that_is_there_needs_its_right(lacking: str) -> None:
    with start_bench("9.1") as bench:
        add_seed(bench.lab)
        place = bench.hypervisor.choose_place(bare())
        facts = Facts(uuid=str(uuid4()), vmid=place.vmid, node="pve1", macs=("bc:24:11:00:00:01",), container=True)
        machine = Machine("demo", "web", Phase.RESERVED, facts)
        ContainerHypervisor(bench.hypervisor).create_vm(SPEC, machine, bench.note, ["ssh-ed25519 AAAA us"])
        needed = {need.privileges[0] for need in needs_of(SPEC, parse_release(bench.lab.cluster.release.version))}
        clerk = ContainerHypervisor(Clerk(bench, {"/": sorted(needed - {lacking})}).hypervisor)
        assert clerk.find_vm(facts) is not None
        refused = set()
        for right, act in ON_ONE.items():
            try:
                bench.hypervisor.wait_for_task(str(act(clerk, facts)))
            except PermissionDenied:
                refused.add(right)
        assert refused == {lacking} - {""}


def refusal(bench: Bench, clerk: PveHypervisor) -> str:
    """Why a container cannot be made; empty: it was."""
    place = bench.hypervisor.choose_place(bare())
    facts = Facts(uuid=str(uuid4()), vmid=place.vmid, node="pve1", macs=("bc:24:11:00:00:01",), container=True)
    containers = ContainerHypervisor(clerk)
    try:
        containers.create_vm(SPEC, Machine("demo", "web", Phase.RESERVED, facts), bench.note, ["ssh-ed25519 AAAA us"])
    except PermissionDenied as error:
        return f"{error.message} {error.privileges}"
    assert containers.first_key(facts).startswith("ssh-ed25519 SHA256:")
    return ""


def test_doctor_says_where_templates_may_go(bed: Hypervisors) -> None:
    for storage in bed.labs["pve"].cluster.stores.storages.values():
        storage.content = tuple(one for one in storage.content if one != "vztmpl")
    refused = deploy(bed, {"web": container(bed)})["web"]
    assert "a storage with content type `vztmpl`" in refused
    with closing(connect(parse_profile("pve", {"endpoint": bed.labs["pve"].url, "token": bed.labs["pve"].token,
                                               "fingerprint": bed.labs["pve"].fingerprint}))) as client:  # fmt: skip
        spec = SPEC.model_copy(
            update={
                "container": ContainerSpec(template=str(seed(bed)), root=RootSpec(storage="local-lvm", size=1 << 30))
            }
        )
        found = [one.text for one in examine(client, None, [spec]) if one.subject == "storages"]
    assert "none that we see takes container templates" in found


@pytest.mark.weekly
def test_a_deploy_that_is_killed_at_any_call_is_finished_by_the_next(bed: Hypervisors) -> None:
    """A call that does something, whose answer it does not live to see, or the call after it."""
    for number in range(1, 60):
        (bed.folder / str(number)).mkdir()
        again = bed.emptied(bed.folder / str(number))
        described = {"web": container(again)}
        seed(again, "etc/ssh", "nix/store", "root", "sbin", f"of-{number}")  # none that the lab has already
        if not killed_at(lambda trace: run_on(again, described, trace), number):  # noqa: B023
            assert number > 6
            return
        assert run_on(again, described, no_trace) == "", number
        machine = again.recorded()
        assert (machine.phase, machine.facts.task, machine.facts.container) == (Phase.READY, "", True), number
        made = [task for task in again.labs["pve"].cluster.tasks.tasks.values() if task.type == "vzcreate"]
        assert len(again.labs["pve"].cluster.vms) == len(made) == 1, number
    raise AssertionError("it never came to its end")


def run_on(bed: Hypervisors, described: Mapping[str, Any], trace: Trace) -> str:
    with bed.opened(described, trace=trace, break_lock=True) as deployed:
        return ends(deployed.deploy(["web"]))["web"]
