"""Every verb of the command line on a container: it does its work, or says in words why it does not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nixops_proxmox import cli
from nixops_proxmox.cli.report import looked_at
from nixops_proxmox.errors import DeployError
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.model import Machine
from nixops_proxmox.operations import Deployed
from nixops_proxmox.operations.adopting import Adoption
from nixops_proxmox.operations.backups import back_up, return_to_snapshot, take_snapshot
from nixops_proxmox.operations.disk_keys import rotate
from nixops_proxmox.operations.exporting import export_machines
from nixops_proxmox.operations.pursuit import Pursuit
from nixops_proxmox.operations.restoring import restore
from tests.contract.hypervisors import Hypervisors, find_obstacle, start_hypervisors
from tests.contract.test_containers import container

pytestmark = pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle())

Act = Callable[[Deployed], object]
WEB = ["web"]
# About deployments, profiles, files, routers or volumes, or about no machine of the cluster.
NOT_OF_MACHINES = frozenset(
    ["completion", "identity", "init", "iso", "lab", "lifecycle", "macs", "profile", "reservations", "schema", "volume"]
)


def wait_for_console(deployed: Deployed) -> None:
    with deployed.terminal("web"):
        pass


def backed_up(web: Pursuit, _: object) -> Machine:
    back_up(web)
    return web.machine


def restored(deployed: Deployed) -> object:
    hypervisor = deployed.hypervisor_of("web")
    return deployed.work_on(WEB, lambda web, _: restore(hypervisor, web))


# In this order; what it must say, where it does not work. The last ones leave no container behind.
VERBS: dict[str, tuple[Act, str]] = {
    "plan": (lambda one: one.plan(WEB), ""),
    "deploy": (lambda one: one.deploy(WEB), ""),
    "check": (lambda one: one.check(WEB), ""),
    "status": (lambda one: one.endpoints("web"), ""),
    "doctor": (lambda one: one.explain("web"), ""),
    "history": (lambda one: one.record.history("web"), ""),
    "report": (lambda one: looked_at(one, WEB, everything=True), ""),
    "export": (lambda one: export_machines(one, WEB), ""),
    "ssh": (lambda one: one.ssh_argv("web"), ""),
    "scp": (lambda one: one.scp_argv("web", ["file"], "web:/root"), ""),
    "console": (wait_for_console, ""),
    "snapshot": (lambda one: one.work_on(WEB, lambda web, _: take_snapshot(web, "before")), ""),
    "rollback": (lambda one: one.work_on(WEB, lambda web, _: return_to_snapshot(web, "before")), ""),
    "stop": (lambda one: one.stop(WEB), ""),
    "start": (lambda one: one.start(WEB), ""),
    "reboot": (lambda one: one.reboot(WEB), ""),
    "keys": (lambda one: one.send_keys(WEB), ""),
    "unlock": (lambda one: one.unlock(WEB), "encrypt"),
    "recovery": (lambda one: one.work_on(WEB, lambda web, _: rotate(web)), "encrypt"),
    "rescue": (lambda one: one.rescue(WEB), "a container has no installer"),
    "backup": (lambda one: one.work_on(WEB, backed_up), ""),
    "restore": (restored, ""),
    "move": (lambda one: one.move(WEB, "pve"), ""),
    "adopt": (lambda one: one.examine("pve", WEB), "container"),
    "recover": (lambda one: one.recoverable(["pve"]), ""),
    "reinstall": (lambda one: one.reinstall(WEB), ""),
    "migrate": (lambda one: one.migrate(WEB), ""),
    "destroy": (lambda one: one.destroy(WEB), ""),
}


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Hypervisors]:
    with start_hypervisors(tmp_path, {"pve": ["pve1", "pve2"]}) as found:
        yield found


def told(act: Act, deployed: Deployed) -> str:
    """What it says against it; empty: nothing."""
    try:
        found = act(deployed)
    except DeployError as error:
        return f"{error.message} {error.hint}"
    every: Sequence[object] = found if isinstance(found, list) else []
    errors = [one.error for one in every if isinstance(one, Outcome) and one.error is not None]
    problems = [one.problem for one in every if isinstance(one, Adoption)]
    return " ".join([*(f"{error.message} {error.hint}" for error in errors), *problems])


def test_no_verb_is_forgotten_here() -> None:
    files = {path.stem for path in Path(cli.__path__[0]).glob("[a-z]*")} - {"arguments", "spelling"}
    assert files == {*VERBS, *NOT_OF_MACHINES}


def test_every_verb_works_on_a_container_or_says_why_not(bed: Hypervisors) -> None:
    described = {"web": container(bed)}
    with bed.opened(described) as deployed:
        deployed.deploy(WEB)
    found = {}
    for verb, (act, _) in VERBS.items():
        with bed.opened(described) as deployed:
            found[verb] = told(act, deployed)
    wrong = {
        verb: found[verb]
        for verb, (_, words) in VERBS.items()
        if bool(found[verb]) != bool(words) or not any(word in found[verb] for word in words.split("|"))
    }
    assert wrong == {}
    assert bed.labs["pve"].cluster.vms == {}


RUNNING = "it is stopped, copied and started there: it does not answer until then"


@pytest.mark.parametrize("version", ["7.4", "9.1"])
def test_it_goes_to_another_node_by_a_restart_with_its_data(tmp_path: Path, version: str) -> None:
    mounts = [{"path": "/data", "storage": "local-lvm", "size": "1G"}]
    with start_hypervisors(tmp_path, {"pve": ["pve1", "pve2"]}, {"pve": version}) as bed:
        described = {"web": container(bed, node="pve1", container={"mounts": mounts})}
        with bed.opened(described) as deployed:
            deployed.deploy(WEB)
            way = deployed.foresee_migration("web", "pve2")
            assert (way.source, way.target, way.live, way.told[-1]) == ("pve1", "pve2", False, RUNNING)
            assert (len(way.copied), way.size, way.blocked) == (2, 9 << 30, ())
            assert told(lambda one: one.migrate(WEB, "pve2"), deployed) == ""
            assert told(lambda one: one.migrate(WEB, "pve2"), deployed) == "", "it is there"
        (vm,) = bed.labs["pve"].cluster.vms.values()
        assert (vm.node, vm.running is not None, bed.recorded().facts.node) == ("pve2", True, "pve2")
        moved = [task for task in bed.labs["pve"].cluster.tasks.tasks.values() if task.type == "vzmigrate"]
        assert len(moved) == 1


FORBIDDEN = {
    "a folder of the node": ({"mp0": "/srv/data,mp=/data"}, "mp0 is a folder or a device of pve1"),
    "a storage that is not there": ({"mp0": "only1:vm-100-disk-7,mp=/data,size=1G"}, "storage only1"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_forbids_that_it_goes_is_told_and_nothing_is_done(bed: Hypervisors, what: str) -> None:
    added, words = FORBIDDEN[what]
    described = {"web": container(bed, node="pve1")}
    with bed.opened(described) as deployed:
        deployed.deploy(WEB)
    (vm,) = bed.labs["pve"].cluster.vms.values()
    local = bed.labs["pve"].cluster.stores.storages["local-lvm"]
    bed.change("pve", lambda: vm.config.update(added))
    bed.change(
        "pve",
        lambda: bed.labs["pve"].cluster.stores.storages.update(only1=replace(local, name="only1", nodes=("pve1",))),
    )
    with bed.opened(described) as deployed:
        assert words in told(lambda one: one.migrate(WEB, "pve2"), deployed)
    assert (vm.node, vm.running is not None) == ("pve1", True)


def test_snapshots_of_local_volumes_keep_it_where_it_is(bed: Hypervisors) -> None:
    described = {"web": container(bed, node="pve1")}
    with bed.opened(described) as deployed:
        deployed.deploy(WEB)
        assert told(VERBS["snapshot"][0], deployed) == ""
        said = told(lambda one: one.migrate(WEB, "pve2"), deployed)
    assert "have snapshots (before), which PVE does not copy" in said
