"""A fleet gets its places before the first machine is made, from what its storages really have."""

from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.errors import NoPlace, PveRefused
from nixops_proxmox.fleet import Outcome
from nixops_proxmox.lab.storage import Storage, default_storages
from nixops_proxmox.messages.plans import describe
from nixops_proxmox.model import Phase, Place
from nixops_proxmox.operations import Options, open_given
from nixops_proxmox.spec import MachineSpec
from nixops_proxmox.spec.parse import parse_network
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.machines import Deployment
from tests.pve.specs import GIB

FLEET = 40


def pool(kind: str, total: int, **settings: Any) -> Storage:
    return Storage("pool", kind, ("images",), total=total * GIB, settings=settings)


def fleet(count: int, size: int = 32) -> list[MachineSpec]:
    disk = {"slot": "scsi0", "storage": "pool", "size": size * GIB}
    return [bare(name=f"m{number:02}", memory=64, disks=[disk]) for number in range(count)]


@pytest.mark.parametrize("storage", [pool("lvmthin", 400), pool("zfspool", 400, sparse=1), pool("rbd", 400)])
def test_a_thin_pool_takes_a_fleet_whose_declared_sizes_exceed_it(storage: Storage) -> None:
    with start_bench(nodes=("pve1",), storages=[*default_storages(), storage]) as bench:
        assert bench.hypervisor.place_all(fleet(FLEET)) == {}
        places = [bench.hypervisor.choose_place(spec) for spec in fleet(FLEET)]
        assert len({place.vmid for place in places}) == FLEET
        (warning,) = bench.warned
        assert "storage pool on pve1 is thin and overcommitted" in warning and "1280.0 GiB" in warning


@pytest.mark.parametrize("storage", [pool("lvm", 400), pool("zfspool", 400)])
def test_a_pool_that_is_not_thin_refuses_the_whole_fleet(storage: Storage) -> None:
    with start_bench(nodes=("pve1",), storages=[*default_storages(), storage]) as bench:
        errors = bench.hypervisor.place_all(fleet(FLEET))
        assert len(errors) == FLEET and bench.warned == []
        without = [error for error in errors.values() if "together with the other new machines" in error.message]
        assert len(without) == FLEET - 12  # 12 times 32 GiB fit into 400
        assert "a run places all new machines together" in errors["m00"].message
        assert bench.hypervisor.place_all(fleet(12)) == {}, "what was refused keeps no room"


def test_a_machine_that_would_not_even_fit_alone_does_not_hold_up_the_others() -> None:
    with start_bench(nodes=("pve1",), storages=[*default_storages(), pool("lvm", 400)]) as bench:
        (large,) = fleet(1, size=500)
        errors = bench.hypervisor.place_all([large, *fleet(3)[1:]])
        assert list(errors) == ["m00"] and not isinstance(errors["m00"], NoPlace)


def test_what_an_earlier_run_placed_and_did_not_make_counts() -> None:
    with start_bench(nodes=("pve1",), storages=[*default_storages(), pool("lvm", 400)]) as bench:
        early, *late = fleet(13)
        assert "m12" in bench.hypervisor.place_all(late, [(early, Place("pve1", 150))])
        assert bench.another().place_all(late) == {}


def test_a_place_whose_node_went_offline_meanwhile_is_chosen_again() -> None:
    with start_bench(nodes=("pve1", "pve2"), storages=[*default_storages(), pool("lvmthin", 400)]) as bench:
        _, spec = specs = fleet(2)
        bench.hypervisor.place_all(specs)  # the second on pve2
        bench.skew += 60
        bench.fault("lose_node", "GET", r"/version", target="pve2", seconds=600)
        bench.hypervisor.client.get_version()
        assert bench.hypervisor.choose_place(spec).node == "pve1"


def deploy(bench: Bench, folder: Path) -> list[Outcome]:
    profiles = folder / "profiles.toml"
    table = {"endpoint": bench.lab.url, "token": bench.lab.token, "fingerprint": bench.lab.fingerprint}
    profiles.touch(mode=0o600)
    profiles.write_text("\n".join(["[default]", *(f'{key} = "{value}"' for key, value in table.items()), ""]))
    options = Options(deployment="fleet", state=str(folder / "state.db"), profiles=profiles, keys=folder / "keys")
    machines = {spec.name: {"deployment": {"proxmox": plain(spec)}} for spec in fleet(FLEET)}
    with open_given(options, parse_network("fleet", {"machines": machines})) as deployed:
        return deployed.deploy(deployed.described(), until=Phase.DEFINED)


def plain(spec: MachineSpec) -> dict[str, Any]:
    disk = {"slot": "scsi0", "storage": "pool", "size": "32G"}
    nic = {"slot": "net0", "bridge": "vmbr0"}
    return {
        "memory": spec.memory,
        "disks": [disk],
        "network": [nic],
        "install": {"from": "iso", "iso": "local:iso/x.iso"},
    }


def test_a_deploy_makes_none_where_not_all_have_a_place_and_says_so_twice(tmp_path: Path) -> None:
    with start_bench(nodes=("pve1",), storages=[*default_storages(), pool("lvm", 400)]) as bench:
        iso = tmp_path / "x.iso"
        iso.write_bytes(b"installer")
        bench.lab.lab.add_file("local", "iso", iso)
        said = []
        for _ in range(2):
            outcomes = deploy(bench, tmp_path)
            assert all(isinstance(outcome.error, NoPlace) for outcome in outcomes)
            said.append([outcome.error.message for outcome in outcomes if outcome.error])
            assert not bench.hypervisor.client.get_resources(0.0).guests
        assert said[0] == said[1]


def test_a_plan_says_where_new_machines_go_and_which_have_no_place(tmp_path: Path) -> None:
    with start_bench(nodes=("pve1", "pve2"), storages=[*default_storages(), pool("lvmthin", 400)]) as bench:
        made = Deployment(bench, tmp_path)
        one, other = bare(name="one"), bare(name="other")
        with made.opened(one, other) as deployed:
            planned = {plan.name: plan for plan in deployed.plan(["one", "other"])}
        assert {plan.node for plan in planned.values()} == {"pve1", "pve2"}
        assert "one: new, on pve" in describe(planned["one"])[0]
        with made.opened(one, bare(name="lost", node="pve9")) as deployed:
            lost = next(plan for plan in deployed.plan(["one", "lost"]) if plan.name == "lost")
        assert isinstance(lost.error, PveRefused) and "there is no such node" in lost.error.message
        assert bench.vmids == []
